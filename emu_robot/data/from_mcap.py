"""Convert recordings of the graph (MCAP) to a LeRobotDataset at a steady rate. Needs no ROS."""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emu_robot.data.conversion import ImageFit, fit_image
from emu_robot.data.episode import Episode
from emu_robot.data.keyframes import KeyframeConfig
from emu_robot.data.labels import Segmentation
from emu_robot.data.mcap_reading import McapFile
from emu_robot.data.mcap_recording import Recorded, read_recorded
from emu_robot.data.motion_subtasks import MotionSubtasks, single_subtasks
from emu_robot.data.recorded_episode import Numbers, planned_subtasks, resample, succeeded
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, EmuRobotError
from emu_robot.observation.camera_messages import decode_picture
from emu_robot.robots.deployment import Deployment
from emu_robot.robots.ros_names import read_namespace
from emu_robot.robots.spec import ActionKind, RobotLayout
from emu_robot.shared.files import disk_full_as_setup_error, replace_json, require_disk_space
from emu_robot.shared.progress import progress
from emu_robot.shared.settings import check_ranges, number

RECORD = "recorded.json"
"""File of the replay buffer with the origin of its episodes, for the dataset card."""
FAMILY = "recorded"


@dataclass(frozen=True, kw_only=True)
class FromMcapConfig:
    """Settings of a conversion."""

    recording: list[Path] = field(default_factory=list)
    """Recordings, an episode each: the recorder's folders, their .mcap files, or folders with several of either."""
    out: Path = Path("data/recorded")
    """Folder of the new LeRobotDataset."""
    license: str = ""
    """License for the dataset card, by the hub's identifier."""
    control_hz: int = number(20, 1)
    """Rate of the result [Hz]."""
    max_gap_s: float = number(0.25, above=0)
    """Longest silence of a camera, of joint states or of commands [s]."""
    image_size: int = number(128, 8)
    """Height and width of the stored pictures [px]."""
    fit: ImageFit = ImageFit.pad
    """How pictures of another shape are fitted to the stored one."""
    robot: str = ""
    """Deployment, by name or YAML file, of recordings without a contract."""
    namespace: str = ""
    """Namespace of the robot's topics in these recordings."""
    task: str = ""
    """Instruction of all recordings; replaces their own."""
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    """How subtasks are found where no planner named them."""

    def __post_init__(self) -> None:
        check_ranges(self)
        read_namespace(self.namespace)

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {} if self.robot else {"namespace": "it is that of robot=, which is not given"}


def from_mcap(config: FromMcapConfig) -> Path:
    """Write the dataset `config.out` and return its path. It appears only when it is complete.

    Raises `DataError` before anything is written, naming the recording and topic that is missing or wrong;
    `SystemSetupError` for a full disk.
    """
    if config.out.exists():
        raise DataError(f"{config.out}: already exists; choose a new path")
    takes = _read(config)
    robot = _common_robot(takes)
    segmentations, method = _segment(takes, config)
    partial = config.out.with_name(f"{config.out.name}.converting")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_as_setup_error(config.out):
            partial.mkdir(parents=True)
            _write_buffer(partial / "buffer", takes, segmentations, config)
            _export(partial / "buffer", partial / config.out.name, robot, config).replace(config.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sources = ", ".join(f"{name} ({n})" for name, n in Counter(one.source.value for one in segmentations).items())
    n_frames, n_subtasks = sum(len(take.numbers.times) for take in takes), sum(len(s.subtasks) for s in segmentations)
    for note in single_subtasks([take.recorded.task for take in takes], [len(one.subtasks) for one in segmentations]):
        print(note)
    print(f"{config.out}: {len(takes)} episodes, {n_frames} frames; {n_subtasks} subtasks from {sources}{method}")
    return config.out


class Take(NamedTuple):
    """A recording, and its numbers at the rate of the dataset."""

    recorded: Recorded
    numbers: Numbers


def find_recordings(given: Sequence[Path]) -> list[Path]:
    """The .mcap files of the given paths, in order. Raises `DataError` for a path that is none and holds none."""
    if not given:
        raise ConfigError("recording= is missing: a folder that the recorder wrote, or several")
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        files = sorted(path.rglob("*.mcap")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: holds no .mcap file")
        found += files
    found = list(dict.fromkeys(found))
    several = [folder for folder, n in Counter(path.parent for path in found).items() if n > 1]
    split = next((folder for folder in several if (folder / "metadata.yaml").exists()), None)
    if split is not None:
        raise DataError(f"{split}: one recording in several files; make one of them first (ros2 bag convert)")
    return found


def layout_of(robot: Deployment) -> RobotLayout:
    """LeRobot's names for the joints, then the gripper if there is one; actions are targets of the states."""
    n_grippers = int(robot.gripper is not None)
    names = (*(f"{joint}.pos" for joint in robot.joints.names), *["gripper.pos"] * n_grippers)
    units = (*["rad"] * robot.n_joints, *["1"] * n_grippers)
    return RobotLayout(
        state_names=names,
        action_names=names,
        n_grippers=n_grippers,
        relative_dims=robot.n_joints,
        state_units=units,
        action_units=units,
        action_kind=ActionKind.TARGET,
        gripper_open=1.0 if n_grippers else None,
        gripper_closed=0.0 if n_grippers else None,
    )


def _read(config: FromMcapConfig) -> list[Take]:
    """Read all but the pictures; print which recordings were cut off."""
    takes, paths = [], find_recordings(config.recording)
    with progress("reading", len(paths)) as report:
        for path in paths:
            recorded = read_recorded(path, robot=config.robot, namespace=config.namespace, task=config.task)
            numbers = resample(recorded, control_hz=config.control_hz, max_gap_s=config.max_gap_s)
            takes.append(Take(recorded, numbers))
            report("")
    if config.robot and all(take.recorded.contract for take in takes):
        raise ConfigError(f"robot={config.robot} has no effect: every recording names its robot")
    for recorded, numbers in takes:
        if not recorded.is_whole:
            print(f"{recorded.path}: not closed, or still being written; taken up to {numbers.times[-1]:.1f} s")
    return takes


def _common_robot(takes: Sequence[Take]) -> Deployment:
    first = takes[0].recorded
    for take in takes[1:]:
        other = take.recorded
        if layout_of(other.robot) != layout_of(first.robot) or set(other.robot.cameras) != set(first.robot.cameras):
            said = f"another robot, {other.robot.name}, than {first.robot.name} of {first.path}"
            raise DataError(f"{other.path}: {said}; convert them into datasets of their own")
    return first.robot


def _segment(takes: Sequence[Take], config: FromMcapConfig) -> tuple[list[Segmentation], str]:
    """The subtasks of every episode, and in words the method that found those without a planner."""
    planned = [planned_subtasks(take.recorded, take.numbers.times) for take in takes]
    known = [one for one in planned if one is not None]
    if len(known) == len(takes):
        return known, ""
    layout, tasks = layout_of(takes[0].recorded.robot), [take.recorded.task for take in takes]
    states = [take.numbers.state for take in takes]
    found = MotionSubtasks(states, tasks, layout, config.control_hz, config.keyframes)
    segmentations = [plan or found.of(state, task) for plan, state, task in zip(planned, states, tasks, strict=True)]
    return segmentations, f" by {found.methods}"


def _write_buffer(
    path: Path, takes: Sequence[Take], segmentations: Sequence[Segmentation], config: FromMcapConfig
) -> None:
    n_images = sum(len(take.numbers.times) * len(take.numbers.shown) for take in takes)
    require_disk_space(path, 2 * n_images * config.image_size**2 * 3)
    layout = layout_of(takes[0].recorded.robot)
    with closing(ReplayBuffer.create(path, layout)) as buffer, progress("converting", len(takes)) as report:
        for index, (take, segmentation) in enumerate(zip(takes, segmentations, strict=True)):
            buffer.append(make_episode(index, take, segmentation, config))
            report("")
    replace_json(path / RECORD, {"recordings": [_origin(take.recorded) for take in takes]})


def make_episode(index: int, take: Take, segmentation: Segmentation, config: FromMcapConfig) -> Episode:
    """An episode with pictures at every frame. Its seed is the simulation's, or else its index among the recordings."""
    recorded, numbers = take
    success, keyframes = succeeded(recorded), segmentation.keyframes
    return Episode(
        instruction=recorded.task,
        family=FAMILY,
        split="seen",
        seed=index if recorded.seed is None else recorded.seed,
        success=success,
        fps=config.control_hz,
        subtasks=segmentation.subtasks,
        keyframes=keyframes if success else keyframes[:-1],
        starts=segmentation.starts,
        state=numbers.state,
        action=numbers.action,
        image_frames=np.arange(len(numbers.times), dtype=np.int32),
        images=read_pictures(recorded, numbers, config.image_size, config.fit),
    )


def read_pictures(recorded: Recorded, numbers: Numbers, size: int, fit: ImageFit) -> dict[str, NDArray[np.uint8]]:
    """Camera -> (T, size, size, 3), the picture of each tick. Raises `DataError` for an unreadable picture."""
    images = {name: np.zeros((len(numbers.times), size, size, 3), np.uint8) for name in numbers.shown}
    names = {samples.topic: name for name, samples in recorded.cameras.items()}
    counts: Counter[str] = Counter()
    file = McapFile(recorded.path)
    for message in file.messages():
        name = names.get(message.topic)
        if name is None:
            continue
        ticks = np.flatnonzero(numbers.shown[name] == counts[name])
        counts[name] += 1
        if ticks.size:
            picture = file.decode(message)
            try:
                image = decode_picture(picture)
            except EmuRobotError as error:
                raise DataError(f"{recorded.path}: picture {counts[name]} on {message.topic}: {error}") from error
            images[name][ticks] = fit_image(image, size, fit)
    return images


def _origin(recorded: Recorded) -> dict[str, object]:
    contract = recorded.contract
    return {
        "recording": recorded.path.name,
        "robot": recorded.robot.name,
        "simulated": recorded.success is not None,
        "weights": contract.weights if contract else "",
        "software": dict(contract.software) if contract else {},
    }


def _export(buffer: Path, out: Path, robot: Deployment, config: FromMcapConfig) -> Path:
    from emu_robot.data.lerobot_export import export_lerobot  # only here: it needs torch and lerobot

    return export_lerobot(buffer, out, robot.name, license=config.license)
