"""Convert a LeRobotDataset to a replay buffer: chosen cameras, dimensions and rate, episodes cut into subtasks.

Several processes convert episodes, which are committed in order. A second run continues an interrupted one.
"""

import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from emu_robot.data.buffer_index import INDEX
from emu_robot.data.conversion import Conversion, Converter, choose_cameras
from emu_robot.data.dimensions import Wanted, choose_dimensions
from emu_robot.data.edits import EDITS, discarded
from emu_robot.data.first_reading import Found, read_set
from emu_robot.data.keyframes import KeyframeConfig
from emu_robot.data.labels import Captioner, Segmentation
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.ordered_commits import blocks_in_order, commit
from emu_robot.data.quality import QualityConfig, Verdict
from emu_robot.data.quality_check import check_lerobot
from emu_robot.data.quality_record import quality_of, without_faulty, write_quality
from emu_robot.data.replay_buffer import ReplayBuffer, require_maker
from emu_robot.data.segmentation_page import write_page
from emu_robot.data.session_folder import uncorrected_failures
from emu_robot.data.set_contents import digest_of
from emu_robot.errors import ConfigError, DataError, UnknownNameError
from emu_robot.observation.image_fit import ImageFit
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

RECORD, PAGE = "prepared.json", "segmentation.html"
CONTINUABLE = ("dataset", "out", "workers", "n")
"""Settings that may differ when a preparation is continued. A set is recognised by its contents, not by its folder."""
FORMAT = 4
"""Version of a preparation's result; other versions are prepared again."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which episodes, cameras and dimensions of a LeRobotDataset are read, and what its numbers are."""

    n: int = number(0, 0)
    """Number of first episodes to take; 0 takes all."""
    exclude: list[int] = field(default_factory=list)
    """Episodes to leave out, by their index."""
    workers: int = number(2, 0)
    """Processes; 0 works in this one."""
    cameras: dict[str, str] = field(default_factory=dict)
    """Our name of a camera -> the set's, as in cameras.front=top; none takes all by their own names."""
    state: list[str] = field(default_factory=lambda: ["observation.state"])
    """Features of the state; several are joined."""
    action: list[str] = field(default_factory=lambda: ["action"])
    """Features of the action; several are joined."""
    state_names: list[str] = field(default_factory=list)
    """Dimensions of the state to keep; none keeps all."""
    action_names: list[str] = field(default_factory=list)
    """Dimensions of the action to keep; none keeps all."""
    grippers: list[str] = field(default_factory=list)
    """Dimensions of state or action that are grippers; none means those named so. They move to the end, where the
    action head needs them."""
    kinds: dict[str, list[str]] = field(default_factory=dict)
    """Kind (see `robots.spec.DimensionKind`) -> its other dimensions, as in kinds.delta=[dx,dy]. Names may hold
    wildcards and their feature, as in action.*. By default names, types and motion decide."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Preparation(Selection):
    """Settings of a preparation that hold for any LeRobotDataset."""

    fit: ImageFit = ImageFit.pad
    """How pictures of another shape are fitted to the stored one."""
    image_every: int = number(1, 1)
    """Frames from one stored picture to the next; starts and keyframes are always stored."""
    control_hz: int = number(0, 0)
    """Rate to resample to [Hz]; 0 keeps the set's."""
    use_success: bool = True
    """Read the column next.success where the set has it: an episode in which it is never true failed."""
    use_labels: bool = True
    """Take subtasks from the set's labels where it has them (see `labels`); otherwise `keyframes` finds them."""
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """How subtasks are found in motion."""
    captioner: str = ""
    """package.module:function that words subtasks found in motion, see `labels.Captioner`; empty: the instruction and
    what arm and grippers do, see `motion_subtasks`."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Thresholds of the quality checks, whose summary is printed and kept in quality.json."""
    leave_out_faulty: bool = False
    """Leave out the episodes that the checks judge EXCLUDE; each is named with the reason. By default all stay."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Preparation):
    """Settings of one preparation."""

    dataset: str = ""
    """Folder of a LeRobotDataset (v2.0, v2.1, v3.0) or its id on the hub."""
    out: Path = Path("outputs/data/prepared")
    """Folder of the replay buffer."""
    image_size: int = number(128, 8)
    """Height and width of the stored pictures [px]."""


def prepare(config: PrepareConfig) -> Path:
    """Convert all episodes not yet converted; return the replay buffer's path. Prints a summary and the page's path.

    Raises before anything is written: `DataError` for damaged data, naming file and field, and for an `out` that is
    something else; `UnknownNameError` for a camera or dimension; `ConfigError` if `out` was prepared with other
    settings. Raises `SystemSetupError` for a full disk. Committed episodes stay.
    """
    require_maker(config.out, RECORD)
    files = LeRobotFiles(locate(config.dataset))
    conversion = choose(files, config)
    captioner(config.captioner)
    episodes = chosen(files, config)
    record = record_of(config, files.root)
    _check_record(config, record, len(episodes))
    of = record | settings_of(config, CONTINUABLE)
    check = partial(check_lerobot, files, episodes, conversion, config.quality, config.workers)
    quality = quality_of(config.out, of, check)
    print("\n".join(quality.lines()), flush=True)
    episodes, left_out = without_faulty(episodes, quality) if config.leave_out_faulty else (episodes, [])
    found = read_set(
        files,
        episodes,
        conversion,
        keyframes=config.keyframes,
        use_labels=config.use_labels,
        excluded=config.exclude,
    )
    told = [] if quality.of(Verdict.PASS) == list(quality.episodes) else [quality.headline]
    told += [
        f"left out: episode {i}, discarded in {EDITS}" for i in discarded(files.root, [e.index for e in files.episodes])
    ]
    failures = uncorrected_failures(files.root)
    told += [f"left out: episode {i}, a failure of the policy without a correction" for i in failures]
    found = replace(found, notes=[*found.notes, *told, *left_out])
    with disk_full_as_setup_error(config.out):
        config.out.parent.mkdir(parents=True, exist_ok=True)
        if not (config.out / INDEX).exists():
            ReplayBuffer.create(config.out, found.layout)
        with closing(ReplayBuffer.open(config.out)) as buffer:
            buffer.lock()
            _check_record(config, record, len(episodes))  # it may have been another process's until now
            replace_json(buffer.path / RECORD, record | told_of(files, found))
            write_quality(buffer.path, quality, of)
            _convert(config, buffer, episodes, found)
            page = write_page(buffer, buffer.path / PAGE, found)
    for line in found.notes:
        print(line)
    print(f"{config.out}: {buffer.n_episodes} episodes, {buffer.n_frames} frames; {found}; look at {page}")
    return config.out


def choose(files: LeRobotFiles, config: PrepareConfig) -> Conversion:
    """The conversion of a set's features. Raises `UnknownNameError`, `ConfigError`, `DataError`."""
    wanted = Wanted(
        state=config.state,
        action=config.action,
        state_names=config.state_names,
        action_names=config.action_names,
        grippers=config.grippers,
        kinds=config.kinds,
    )
    files.check_stats((*config.state, *config.action))
    return Conversion(
        cameras=choose_cameras(files, config.cameras),
        dimensions=choose_dimensions(files, wanted),
        hz=config.control_hz or max(round(files.fps), 1),
        image_size=config.image_size,
        fit=config.fit,
        image_every=config.image_every,
        use_success=config.use_success,
    )


def chosen(files: LeRobotFiles, config: Preparation) -> list[EpisodeFiles]:
    """The episodes to convert, without those discarded by hand and the failures of a policy that were not corrected.

    Raises `UnknownNameError` for one in `exclude`.
    """
    known = [episode.index for episode in files.episodes]
    for index in config.exclude:
        if index not in known:
            raise UnknownNameError(f"episode of {files.root}", index, known)
    by_hand, failures = discarded(files.root, known), uncorrected_failures(files.root)
    kept = [episode for episode in files.episodes if episode.index not in {*config.exclude, *by_hand, *failures}]
    if not kept:
        told = f"; {len(by_hand)} were discarded by hand" if by_hand else ""
        told += f"; {len(failures)} are failures of a policy without a correction" if failures else ""
        raise ConfigError(f"{files.root}: exclude= leaves none of its {len(known)} episodes{told}")
    return kept[: config.n or None]


def locate(dataset: str) -> Path:
    """Folder of a dataset by path or hub id, downloaded if needed. Raises `DataError` if there is none."""
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


def captioner(name: str) -> Captioner | None:
    """The function at package.module:function; None for no name. Raises `ConfigError` if there is no such function."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function) if name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"captioner={name!r}: no such package.module:function ({error})") from error


def record_of(config: PrepareConfig, root: Path) -> dict[str, Any]:
    """All that a prepared set depends on: settings, the set's contents and `FORMAT`."""
    idle = () if config.leave_out_faulty else ("quality",)
    return settings_of(config, (*CONTINUABLE, *idle)) | {"contents": digest_of(root), "format": FORMAT}


def told_of(files: LeRobotFiles, found: Found) -> dict[str, Any]:
    """What a prepared set tells later steps: notes for the user, and the set's feature of each camera of ours."""
    features = {ours: files.image_key(theirs) for ours, theirs in found.conversion.cameras.items()}
    return {"notes": found.notes, "camera_features": features}


def camera_features(buffer: Path) -> dict[str, str]:
    """Our name of each camera -> the feature of the set that a buffer was prepared from; empty for other buffers."""
    path = buffer / RECORD
    return dict(json.loads(path.read_text()).get("camera_features", {})) if path.exists() else {}


def _check_record(config: PrepareConfig, record: Mapping[str, Any], n_episodes: int) -> None:
    """Raise `ConfigError` if the buffer has other settings, comes from another set, or holds more episodes."""
    path = config.out / RECORD
    if not path.exists():
        return
    try:
        before = {"leave_out_faulty": False, **json.loads(path.read_text())}  # older ones left none out
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: corrupted ({first_line(error)})") from error
    if before.get("format") != record["format"]:
        raise ConfigError(f"{config.out} was prepared by another version of emu_robot; give another out= or remove it")
    if before.get("contents") != record["contents"]:
        raise ConfigError(f"{config.out} was prepared from other contents of {config.dataset}; give another out=")
    check_settings(f"{config.out} was prepared", record, before)
    held = ReplayBuffer.open(config.out).n_episodes
    if held > n_episodes:
        raise ConfigError(f"{config.out} holds {held} episodes, n={config.n} asks for fewer; give another out=")


def _convert(config: PrepareConfig, buffer: ReplayBuffer, episodes: Sequence[EpisodeFiles], found: Found) -> None:
    """Commit every episode that is not in the buffer yet, in the set's order."""
    left = list(episodes)[buffer.n_episodes :]
    n_images = sum(episode.length for episode in left) // config.image_every * len(found.conversion.cameras)
    require_disk_space(buffer.path, n_images * config.image_size**2 * 3)
    pending = buffer.path / "pending"
    pending.mkdir(exist_ok=True)
    files = {i: pending / f"{episode.index}.npz" for i, episode in enumerate(left)}
    missing = [i for i, file in files.items() if not file.exists()]
    make = partial(_Worker, config, found.conversion, left, found.segmentations, files)
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
