"""Any LeRobotDataset as a replay buffer: cameras, numbers and rate as asked for, episodes cut into subtasks.

Episodes are converted by several processes and committed in order, so a run that was cut off goes on where it was.
"""

import importlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from emu_robot.data.buffer_index import INDEX
from emu_robot.data.conversion import Conversion, Converter, choose_cameras, choose_columns
from emu_robot.data.keyframes import KeyframeConfig, KeyframeFinder
from emu_robot.data.labels import Captioner, Segmentation, from_motion, read_labels
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.ordered_commits import blocks_in_order, commit
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.data.segmentation_page import write_page
from emu_robot.errors import ConfigError, DataError
from emu_robot.observation.image_fit import ImageFit
from emu_robot.robots.spec import RobotLayout
from emu_robot.shared.files import (
    check_settings,
    disk_full_as_setup_error,
    replace_json,
    require_disk_space,
    settings_of,
)
from emu_robot.shared.parallel import run_parallel
from emu_robot.shared.progress import progress

RECORD, PAGE = "prepared.json", "segmentation.html"
CONTINUABLE = ("out", "workers", "n")
"""What may differ when a preparation is continued."""


@dataclass(kw_only=True)
class PrepareConfig:
    """dataset: folder of a LeRobotDataset (v2.1, v3.0) or its id on the hub. out: the replay buffer. n: episodes, the
    first ones; 0 takes all. workers: processes.

    cameras: our name -> the set's, as cameras.front=top; none given takes all by their own names.
    image_size, fit: size [px] of the stored pictures and how others come to it. image_every: store pictures every so
    many frames (starts and keyframes always).
    state, action: features, several are joined. state_names, action_names: their dimensions to keep; none keeps all.
    grippers: names of the dimensions that are grippers; none means those with "gripper" in their name. They are moved
    to the end, as the action head wants them.
    control_hz: rate to resample to; 0 keeps the set's.
    use_labels: take subtasks from the set where it has them (see `labels`); else, and without, `keyframes` finds them.
    captioner: package.module:function that words subtasks found in motion, see `labels.Captioner`.
    """

    dataset: str = ""
    out: Path = Path("outputs/data/prepared")
    n: int = 0
    workers: int = 2
    cameras: dict[str, str] = field(default_factory=dict)
    image_size: int = 128
    fit: ImageFit = ImageFit.pad
    image_every: int = 1
    state: list[str] = field(default_factory=lambda: ["observation.state"])
    action: list[str] = field(default_factory=lambda: ["action"])
    state_names: list[str] = field(default_factory=list)
    action_names: list[str] = field(default_factory=list)
    grippers: list[str] = field(default_factory=list)
    control_hz: int = 0
    use_labels: bool = True
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    captioner: str = ""

    def __post_init__(self) -> None:
        for name, low in (("n", 0), ("workers", 0), ("image_size", 8), ("image_every", 1), ("control_hz", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be at least {low}")


def prepare(config: PrepareConfig) -> Path:
    """Convert what is not converted yet; returns the replay buffer's path. Prints what was found and where to look.

    Raises `DataError` naming file and field of what is damaged, `UnknownNameError` for a camera or dimension,
    `ConfigError` if `out` was prepared otherwise, `SystemSetupError` for a full disk; what was committed stays.
    """
    files = LeRobotFiles(locate(config.dataset))
    conversion = choose(files, config)
    captioner(config.captioner)
    episodes = files.episodes[: config.n or None]
    found = segment(files, episodes, conversion, config)
    with disk_full_as_setup_error(config.out):
        config.out.parent.mkdir(parents=True, exist_ok=True)
        if not (config.out / INDEX).exists():
            ReplayBuffer.create(config.out, found.layout)
        with closing(ReplayBuffer.open(config.out)) as buffer:
            buffer.lock()
            _check_record(config, buffer.path)
            _convert(config, buffer, episodes, conversion, found.segmentations)
            page = write_page(buffer, buffer.path / PAGE, found)
    print(f"{config.out}: {buffer.n_episodes} episodes, {buffer.n_frames} frames; {found}; look at {page}")
    return config.out


def choose(files: LeRobotFiles, config: PrepareConfig) -> Conversion:
    """What is to become of a set's features. Raises `UnknownNameError`, `ConfigError`."""
    state, n_state = choose_columns(files, config.state, config.state_names, config.grippers)
    action, n_action = choose_columns(files, config.action, config.action_names, config.grippers)
    if n_state != n_action:
        raise ConfigError(f"{n_state} grippers in the state, {n_action} in the action; name both kinds by grippers=")
    return Conversion(
        cameras=choose_cameras(files, config.cameras),
        state=state,
        action=action,
        n_grippers=n_state,
        hz=config.control_hz or round(files.fps),
        image_size=config.image_size,
        fit=config.fit,
        image_every=config.image_every,
    )


@dataclass(frozen=True)
class Found:
    """What the first reading of a set showed. segmentations: by episode index, at the set's own rate."""

    layout: RobotLayout
    segmentations: dict[int, Segmentation]
    method: str

    def __str__(self) -> str:
        counts = Counter(found.source.value for found in self.segmentations.values())
        n_subtasks = sum(len(found.subtasks) for found in self.segmentations.values())
        sources = ", ".join(f"{name} ({n})" for name, n in counts.items())
        by = f" by {self.method}" if self.method else ""
        return f"{n_subtasks} subtasks from {sources}{by}"


def locate(dataset: str) -> Path:
    """Folder of a dataset given by path or hub id, fetched if need be. Raises `DataError` if there is none."""
    if not dataset:
        raise ConfigError("dataset= is missing: the folder of a LeRobotDataset or its id on the hub")
    if Path(dataset).exists():
        return Path(dataset)
    if dataset.count("/") != 1 or dataset.startswith((".", "/", "~")):
        raise DataError(f"{dataset}: no such folder, and not of the form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(dataset, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"{dataset}: no such folder, and the hub gave no dataset of that name ({said})") from error


def segment(
    files: LeRobotFiles, episodes: Sequence[EpisodeFiles], conversion: Conversion, config: PrepareConfig
) -> Found:
    """Read every number of the set, and the subtasks of each episode, from labels or from motion.

    Raises `DataError` for whatever is damaged, before anything is converted.
    """
    found: dict[int, Segmentation] = {}
    states, actions = [], []
    with progress("reading", len(episodes)) as report:
        for episode in episodes:
            rows = files.rows(episode)
            state, action = conversion.numbers(files, episode, rows)
            states.append(state)
            actions.append(action)
            labels = read_labels(files, episode, rows) if config.use_labels else None
            if labels is not None:
                found[episode.index] = labels
            report("")
    if not max(np.ptp(action, axis=0).max() for action in actions) > 0:
        raise DataError(f"{files.root}: {', '.join(config.action)} is constant in every episode, nothing to learn")
    layout, method = conversion.layout(states, actions), ""
    if len(found) < len(episodes):
        finder = KeyframeFinder(states, layout.gripper_states, files.fps, config.keyframes)
        method = finder.method.value
        for episode, state in zip(episodes, states, strict=True):
            if episode.index not in found:
                found[episode.index] = from_motion(finder.find(state), episode.tasks[0])
    return Found(layout, found, method)


def captioner(name: str) -> Captioner | None:
    """What package.module:function names; None for no name. Raises `ConfigError` if there is no such function."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function) if name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"captioner={name!r}: no such package.module:function ({error})") from error


def _check_record(config: PrepareConfig, folder: Path) -> None:
    """Keep how a buffer is prepared; raise `ConfigError` if it was otherwise."""
    settings = settings_of(config, CONTINUABLE)
    path = folder / RECORD
    if not path.exists():
        replace_json(path, settings)
    try:
        before = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: corrupted ({error!r})") from error
    check_settings(f"{folder} was prepared", settings, before)


def _convert(
    config: PrepareConfig,
    buffer: ReplayBuffer,
    episodes: Sequence[EpisodeFiles],
    conversion: Conversion,
    segmentations: dict[int, Segmentation],
) -> None:
    """Commit every episode that is not in the buffer yet, in the set's order."""
    left = list(episodes)[buffer.n_episodes :]
    n_images = sum(episode.length for episode in left) // config.image_every * len(conversion.cameras)
    require_disk_space(buffer.path, n_images * config.image_size**2 * 3)
    pending = buffer.path / "pending"
    pending.mkdir(exist_ok=True)
    files = {i: pending / f"{episode.index}.npz" for i, episode in enumerate(left)}
    missing = [i for i, file in files.items() if not file.exists()]
    make = partial(_Worker, config, conversion, left, segmentations, files)
    with progress("converting", len(left)) as report, closing(run_parallel(make, missing, config.workers)) as done:
        for block in blocks_in_order(files.values(), Path.exists, done):
            commit(buffer, block)
            for _ in block:
                report("")
    shutil.rmtree(pending)


class _Worker:
    """Converts the episodes `todo` into `files`."""

    def __init__(
        self,
        config: PrepareConfig,
        conversion: Conversion,
        todo: Sequence[EpisodeFiles],
        segmentations: dict[int, Segmentation],
        files: dict[int, Path],
    ) -> None:
        files_there = LeRobotFiles(locate(config.dataset))
        self._converter = Converter(files_there, conversion, captioner(config.captioner))
        self._todo, self._segmentations, self._files = todo, segmentations, files

    def run(self, index: int) -> None:
        episode = self._todo[index]
        self._converter.convert(episode, self._segmentations[episode.index]).save(self._files[index])

    def close(self) -> None:
        """Nothing is held open."""
