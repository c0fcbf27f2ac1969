"""Collect expert demonstrations in parallel into a replay buffer. A second run continues an interrupted one.

Episode i is a function of `seed + i` and the configuration alone. Workers leave complete episode files in
<out>/pending; this process commits them in the order of their seeds, so the buffer does not depend on the workers.
"""

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from emu_robot.core import PlanStep, Policy
from emu_robot.data.buffer_index import INDEX
from emu_robot.data.collect_config import CollectConfig
from emu_robot.data.episode import Episode
from emu_robot.data.expert_demonstration import record_episode
from emu_robot.data.laid_out_episode import laid_out_episode
from emu_robot.data.ordered_commits import blocks_in_order, commit
from emu_robot.data.replay_buffer import ReplayBuffer, require_maker
from emu_robot.data.seed_choice import FIRST_OWN_SEED, shortfalls, untried_seeds
from emu_robot.environments import suite
from emu_robot.environments.capabilities import HasOracle, MixesTasks, NumbersSeeds, require
from emu_robot.environments.contract import ALL, Environment, open_task, select_tasks
from emu_robot.errors import ConfigError, DataError
from emu_robot.shared.files import (
    check_settings,
    disk_full_as_setup_error,
    replace_json,
    require_disk_space,
    settings_of,
)
from emu_robot.shared.parallel import run_parallel
from emu_robot.shared.progress import progress
from emu_robot.shared.typed import first_line

__all__ = ["CollectConfig", "collect"]

FIRST_GUESS = {"frames": 150, "marked_images": 10, "image_bytes": 2 * 128 * 128 * 3, "frame_bytes": 100,
               "laid_out_images": 2}  # fmt: skip
"""Guessed sizes of an episode before one is measured; images are uncompressed."""
LAID_OUT_AT_ONCE = 256
"""Laid out episodes of a commit; each has few images."""
LOG, PENDING = "collection.json", "pending"
CONTINUABLE = ("n", "per_task", "out", "workers", "lerobot")
"""Settings that may differ when a collection is continued."""

type PolicyLoader = Callable[[str, Callable[[], PlanStep | None]], Policy]
"""Weights, and a function that gives the true next step -> the policy that drives. Each worker calls it once."""


class _CollectionLog:
    """<out>/collection.json: the configuration and the seeds that were not kept. The buffer itself holds the others."""

    def __init__(self, out: Path, config: CollectConfig) -> None:
        self._path = out / LOG
        settings = settings_of(config, CONTINUABLE)
        self._value: dict[str, Any] = {"config": settings, "failed": []}
        if not self._path.exists():
            return
        try:
            self._value = json.loads(self._path.read_text())
            before, _ = self._value["config"], self._value["failed"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: corrupted ({first_line(error)})") from error
        check_settings(f"{out} was collected", settings, before)

    def begin(self) -> None:
        """Write the configuration if it is not there yet."""
        if not self._path.exists():
            replace_json(self._path, self._value)

    @property
    def dropped(self) -> list[int]:
        """Seeds that failed and were not kept."""
        return self._value["failed"]

    def drop(self, seed: int) -> None:
        self.dropped.append(seed)
        replace_json(self._path, self._value)


def collect(config: CollectConfig, load_policy: PolicyLoader | None = None) -> Path:
    """Attempt every seed not yet attempted; return the replay buffer's path. Prints what succeeded and failed.

    load_policy: loads `config.policy`; with several workers it must be a function of a module.
    Raises before anything is written: `UnknownNameError` for an environment, task, split or policy; `ConfigError` for a
    policy without `load_policy`, and for an `out` of another configuration; `DataError` if `out` is something else.
    Raises `SystemSetupError` if the disk is, or would be, too full. Committed episodes stay.
    """
    if config.policy and load_policy is None:
        raise ConfigError(f"policy={config.policy!r}: nothing was given that loads it")
    out = config.out
    _check(config, load_policy)
    with disk_full_as_setup_error(out):
        if not (out / INDEX).exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            ReplayBuffer.create(out, suite(config.env).spec.layout)
        with closing(ReplayBuffer.open(out)) as buffer:
            buffer.lock()
            _collect_missing(config, load_policy, buffer)
    if config.lerobot:
        from emu_robot.data.lerobot_export import export_lerobot  # only here: it needs torch and lerobot

        export_lerobot(out, config.lerobot_out, workers=config.workers)
    return out


def _check(config: CollectConfig, load_policy: PolicyLoader | None) -> None:
    """Raise for a wrong name in `config` or a wrong thing at its paths. Writes nothing."""
    require_maker(config.out, LOG)
    _CollectionLog(config.out, config)
    found = suite(config.env)
    if isinstance(found, NumbersSeeds) and config.seed < FIRST_OWN_SEED:
        raise ConfigError(f"seed={config.seed}: evaluations of env={config.env} use seeds below {FIRST_OWN_SEED}")
    if isinstance(found, MixesTasks) and config.per_task is not None:
        raise ConfigError(f"per_task={config.per_task}: in env={config.env} a seed draws its task; set n instead")
    if config.lerobot:
        importlib.import_module("emu_robot.data.lerobot_export").check_target(config.lerobot_out)
    _Recorder(config, load_policy, config.out / PENDING).close()


def _collect_missing(config: CollectConfig, load_policy: PolicyLoader | None, buffer: ReplayBuffer) -> None:
    log = _CollectionLog(buffer.path, config)
    log.begin()
    pending = buffer.path / PENDING
    pending.mkdir(exist_ok=True)
    while seeds := _missing_seeds(config, buffer, log):
        require_disk_space(buffer.path, len(seeds) * _bytes_per_episode(config, buffer))
        _record_all(config, load_policy, seeds, pending, buffer, log)
    shutil.rmtree(pending)
    _report(config, buffer, log)


def _missing_seeds(config: CollectConfig, buffer: ReplayBuffer, log: _CollectionLog) -> list[int]:
    """The seeds to attempt next; none when the collection is complete."""
    attempted = {*log.dropped, *(meta["seed"] for meta in buffer.metadata)}
    left = [seed for seed in _seeds(config) if seed not in attempted]
    if config.per_task is None:
        return left
    return untried_seeds(left, chosen_tasks(config), _successes(buffer), config.per_task)


def _successes(buffer: ReplayBuffer) -> Counter[str]:
    """Task -> its successful episodes."""
    return Counter(meta["family"] for meta in buffer.metadata if meta["success"])


def _seeds(config: CollectConfig) -> range:
    return range(config.seed, config.seed + config.n)


def _report(config: CollectConfig, buffer: ReplayBuffer, log: _CollectionLog) -> None:
    kept = {meta["seed"]: meta["success"] for meta in buffer.metadata if meta["seed"] in _seeds(config)}
    failed = sorted(seed for seed in _seeds(config) if seed in log.dropped or not kept.get(seed, True))
    names = ", ".join(map(str, failed[:20])) + (", …" if len(failed) > 20 else "")
    tried = config.n if config.per_task is None else len({*failed, *kept})
    print(
        f"{config.out}: kept {len(kept)} of {tried} episodes; {len(failed)} failed"
        + (f" (seeds {names})" if failed else "")
    )
    if config.per_task is not None:
        for line in shortfalls(chosen_tasks(config), _successes(buffer), config.per_task):
            print(f"{config.out}: {line}; a larger n= tries more seeds")


def _bytes_per_episode(config: CollectConfig, buffer: ReplayBuffer) -> int:
    """Bytes of an episode: measured if the buffer holds some, else a generous guess."""
    if buffer.n_episodes:
        return sum(file.stat().st_size for file in buffer.path.rglob("*") if file.is_file()) // buffer.n_episodes
    guess = FIRST_GUESS
    if not config.execute:
        return guess["laid_out_images"] * guess["image_bytes"]
    n_images = guess["frames"] // config.image_every + guess["marked_images"]
    return guess["frames"] * guess["frame_bytes"] + n_images * guess["image_bytes"]


def _record_all(
    config: CollectConfig,
    load_policy: PolicyLoader | None,
    seeds: Sequence[int],
    pending: Path,
    buffer: ReplayBuffer,
    log: _CollectionLog,
) -> None:
    """Record on all workers, commit in the order of the seeds."""
    make_recorder = partial(_Recorder, config, load_policy, pending)
    workers = config.workers if config.workers > 1 else 0
    recorded: dict[int, bool] = {}
    n_failed, at_once = 0, None if config.execute else LAID_OUT_AT_ONCE
    with (
        progress("collecting", total=len(seeds)) as report,
        closing(run_parallel(make_recorder, seeds, workers)) as results,
    ):
        noted = (recorded.update([result]) for result in results)
        for block in blocks_in_order(seeds, recorded.__contains__, noted, at_once):
            kept = [seed for seed in block if recorded[seed] or config.keep_failed]
            commit(buffer, [pending / f"{seed}.npz" for seed in kept])
            for seed in block:
                if seed not in kept:
                    log.drop(seed)
                n_failed += not recorded[seed]
                report(f"{n_failed} failed")


def chosen_tasks(config: CollectConfig) -> list[str]:
    """The tasks to demonstrate. Raises `UnknownNameError` for an environment, task or split."""
    return [task.name for task in select_tasks(suite(config.env).tasks, config.families or (ALL,), config.split)]


class _Recorder:
    """Records episodes with one world and, if given, one policy. Both are kept from episode to episode.

    A suite that mixes tasks draws one for each seed. In other suites seed i demonstrates task i modulo their number.
    """

    def __init__(self, config: CollectConfig, load_policy: PolicyLoader | None, pending: Path) -> None:
        self._config, self._pending = config, pending
        self._tasks, self._suite = chosen_tasks(config), suite(config.env)
        self._world: Environment | None = None
        self._task = ""
        self._policy = load_policy(config.policy, self._oracle_step) if load_policy and config.policy else None

    def _world_for(self, seed: int) -> Environment:
        """The world that plays this seed; it replaces the one of another task."""
        mixer = self._suite if isinstance(self._suite, MixesTasks) else None
        task = ALL if mixer else self._tasks[seed % len(self._tasks)]
        if self._world is None or task != self._task:
            self.close()
            split = self._config.split
            self._world = mixer.open_mixed(self._tasks, split) if mixer else open_task(self._suite, task, split)
            self._task = task
        return self._world

    def _oracle_step(self) -> PlanStep | None:
        assert self._world is not None, "a policy drives in an open world"
        return require(self._world, HasOracle, "collecting with a policy").oracle_step()

    def run(self, index: int) -> tuple[int, bool]:
        """Record seed `index` into `pending`, unless it is there or is a failure not to be kept; (seed, success)."""
        seed, config = index, self._config
        file = self._pending / f"{seed}.npz"
        if file.exists():
            return seed, Episode.load(file).success
        episode = self._laid_out(seed) if not config.execute else self._recorded(seed)
        if episode.success or config.keep_failed:
            episode.save(file)
        return seed, episode.success

    def _recorded(self, seed: int) -> Episode:
        config = self._config
        return record_episode(
            self._world_for(seed),
            seed,
            split=config.split,
            noise=config.noise,
            burst_probability=config.burst_probability,
            image_every=config.image_every,
            policy=self._policy,
            policy_share=config.policy_share,
        )

    def _laid_out(self, seed: int) -> Episode:
        config = self._config
        return laid_out_episode(
            self._world_for(seed),
            seed,
            split=config.split,
            disturbed=config.disturbed,
            instructions=config.instructions,
        )

    def close(self) -> None:
        if self._world is not None:
            self._world.close()
        self._world = None
