"""Collect expert demonstrations in parallel into a replay buffer. A second run continues an interrupted one.

Episode i is a function of `seed + i` and the configuration alone. Workers leave complete episode files in
<out>/pending; this process commits them in the order of their seeds, so the buffer does not depend on the workers.
"""

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from emu_robot.core import PlanStep, Policy
from emu_robot.data.buffer_index import INDEX
from emu_robot.data.episode import Episode
from emu_robot.data.expert_demonstration import record_episode
from emu_robot.data.laid_out_episode import laid_out_episode
from emu_robot.data.ordered_commits import blocks_in_order, commit
from emu_robot.data.replay_buffer import ReplayBuffer, require_maker
from emu_robot.environments import suite
from emu_robot.environments.capabilities import HasOracle, MixesTasks, require
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
from emu_robot.shared.settings import check_ranges, number
from emu_robot.shared.typed import first_line

SEED_LIMIT = 10_000_000
"""Demonstrations use seeds below it, evaluations this one and those above."""
FIRST_GUESS = {"frames": 150, "marked_images": 10, "image_bytes": 2 * 128 * 128 * 3, "frame_bytes": 100,
               "laid_out_images": 2}  # fmt: skip
"""Guessed sizes of an episode before one is measured; images are uncompressed."""
LAID_OUT_AT_ONCE = 256
"""Laid out episodes of a commit; each has few images."""
LOG, PENDING = "collection.json", "pending"
CONTINUABLE = ("n", "out", "workers", "lerobot")
"""Settings that may differ when a collection is continued."""

type PolicyLoader = Callable[[str, Callable[[], PlanStep | None]], Policy]
"""Weights, and a function that gives the true next step -> the policy that drives. Each worker calls it once."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Settings of a collection of demonstrations."""

    env: str = "tabletop"
    """Environment."""
    families: tuple[str, ...] = ()
    """Families of tasks, or groups of them; none means the environment's default."""
    split: str = "seen"
    """One of the environment's splits."""
    n: int = number(100, 1)
    """Episodes attempted, with seeds seed .. seed + n - 1."""
    out: Path = Path("data/demonstrations")
    """The replay buffer's folder."""
    seed: int = number(0, 0)
    """Seed of the first episode; seed + n is at most 10 million, where evaluation begins."""
    execute: bool = True
    """Let the expert act. If false, the scene after every subtask is laid out and rendered without motion: pictures of
    the planner's camera and words, for tokenizer and planner, and no actions."""
    disturbed: float = number(0.0, 0, 1)
    """Share of the laid out subtasks with a picture of the arm on its way or of an attempt that failed."""
    instructions: int = number(1, 1)
    """Number of laid out episodes in a row that share one scene, each with another instruction if possible."""
    workers: int = number(2, 1)
    """Processes; 1 records in this one."""
    noise: float = number(0.01, 0, 1)
    """Standard deviation of the executed joint targets around the recorded ones [rad]."""
    burst_probability: float = number(0.3, 0, 1)
    """Probability, per subtask, of a short push that the expert has to recover from."""
    policy: str = ""
    """Weights (released name or folder) of a policy that drives for some stretches towards true subgoals, while the
    expert's actions are recorded; empty: the expert drives."""
    policy_share: float = number(0.0, 0, 1)
    """Share of the subtasks in which the policy drives for a stretch."""
    image_every: int = number(1, 1)
    """Frames from one stored image to the next; starts, keyframes and dwell frames are always stored."""
    keep_failed: bool = False
    """Keep failed episodes, too."""
    lerobot: bool = True
    """Write a LeRobotDataset to <out>_lerobot, too; needs image_every=1."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.seed + self.n > SEED_LIMIT:
            raise ConfigError(f"seed + n must be at most {SEED_LIMIT} (evaluation seeds begin there)")
        if (self.policy_share > 0) != bool(self.policy):
            raise ConfigError(f"policy_share must go with a policy, got {self.policy_share} and {self.policy!r}")
        if self.lerobot and not self.execute:
            raise ConfigError("lerobot=true needs execute=true; set lerobot=false")
        if self.lerobot and self.image_every != 1:
            raise ConfigError(f"lerobot=true needs image_every=1, got {self.image_every}; set lerobot=false")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.execute:
            return dict.fromkeys(("disturbed", "instructions"), "execute=true lays nothing out")
        moving = ("noise", "burst_probability", "policy", "image_every", "keep_failed")
        return dict.fromkeys(moving, "execute=false moves nothing")

    @property
    def lerobot_out(self) -> Path:
        """Folder of the LeRobotDataset."""
        return self.out.with_name(f"{self.out.name}_lerobot")


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
    if config.lerobot:
        importlib.import_module("emu_robot.data.lerobot_export").check_target(config.lerobot_out)
    _Recorder(config, load_policy, config.out / PENDING).close()


def _collect_missing(config: CollectConfig, load_policy: PolicyLoader | None, buffer: ReplayBuffer) -> None:
    log = _CollectionLog(buffer.path, config)
    log.begin()
    attempted = {*log.dropped, *(meta["seed"] for meta in buffer.metadata)}
    seeds = [seed for seed in _seeds(config) if seed not in attempted]
    require_disk_space(buffer.path, len(seeds) * _bytes_per_episode(config, buffer))
    pending = buffer.path / PENDING
    pending.mkdir(exist_ok=True)
    _record_all(config, load_policy, seeds, pending, buffer, log)
    shutil.rmtree(pending)
    _report(config, buffer, log)


def _seeds(config: CollectConfig) -> range:
    return range(config.seed, config.seed + config.n)


def _report(config: CollectConfig, buffer: ReplayBuffer, log: _CollectionLog) -> None:
    kept = {meta["seed"]: meta["success"] for meta in buffer.metadata if meta["seed"] in _seeds(config)}
    failed = sorted(seed for seed in _seeds(config) if seed in log.dropped or not kept.get(seed, True))
    names = ", ".join(map(str, failed[:20])) + (", …" if len(failed) > 20 else "")
    print(
        f"{config.out}: kept {len(kept)} of {config.n} episodes; {len(failed)} failed"
        + (f" (seeds {names})" if failed else "")
    )


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
