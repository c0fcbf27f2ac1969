"""The folder of a recording session: a LeRobotDataset v3 that grows by whole episodes, each in files of its own.

    meta/recording.jsonl   one line per episode: outcome, cause, flags, operator, commit, cameras ...

The next state of the folder is laid out beside it, in <name>.recording/next: what is there already as hard links, the
new episode as new files. It replaces the folder in one step when it is complete, checked and on the disk. So the folder
is whole at every moment, and a full disk or a kill costs the running episode at most.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from emu_robot.data.damaged_set import frames_of
from emu_robot.data.lerobot_features import LABELS, LANGUAGE_FEATURE, usual_features
from emu_robot.data.lerobot_files import INFO, LeRobotFiles
from emu_robot.errors import DataError, SystemSetupError
from emu_robot.recording.messages import Outcome, RecordedRobot, Setup
from emu_robot.shared import provenance
from emu_robot.shared.files import (
    link_or_copy,
    lock_directory,
    make_readable,
    recover_folder,
    replace_folder,
    replace_json,
    replace_text,
    sync_folder,
)

RECORD = "meta/recording.jsonl"
WAIT_FOR_LOCK_S = 10.0
"""A writer whose session was killed ends within this time [s]."""
OWN = {
    "intervention": ("bool", "whether a person corrected a policy"),
    "capture_time": ("float64", "when the observation was captured, on the recorder's clock [s]"),
    "overrun": ("bool", "whether the control loop was late for this frame"),
}
"""Features of a frame beside LeRobot's and the labels: dtype, meaning."""


class SessionFolder:
    """A session that one process writes."""

    def __init__(self, setup: Setup) -> None:
        """Open or create it, and remove what a killed process left. Raises `DataError`, `SystemSetupError`."""
        self.root, self.setup, self.robot = setup.root.absolute(), setup, setup.robot
        self.work = self.root.with_name(f"{self.root.name}.recording")
        if self.root.is_mount() or (self.root.exists() and not self.root.is_dir()):
            raise DataError(f"{self.root}: a session needs a folder that can be replaced; choose a path inside of it")
        self._lock = _lock(self.work)
        recover_folder(self.root, self._replaced)
        self._clean()
        if self.root.is_dir() and not any(self.root.iterdir()):
            self.root.rmdir()
        self.subtasks: dict[str, int] = {}
        self.episodes = self.frames = 0
        if self.root.exists():
            self._read()

    @property
    def next(self) -> Path:
        """Where the next state of the folder is laid out."""
        return self.work / "next"

    @property
    def _replaced(self) -> Path:
        return self.work / "replaced"

    @property
    def bytes_per_frame(self) -> float | None:
        """Bytes of the videos per frame; None without episodes."""
        videos = sum(path.stat().st_size for path in self.root.glob("videos/**/*.mp4"))
        return videos / self.frames if self.frames else None

    def index_of(self, subtask: str) -> int:
        """Its `subtask_index`, a new one for new words."""
        return self.subtasks.setdefault(subtask, len(self.subtasks))

    def lay_out(self) -> bool:
        """Lay out the next state: the present one, without its language column. False if there is none yet."""
        self._clean()
        if not self.root.exists():
            return False
        _link_tree(self.root, self.next)
        info = json.loads((self.next / INFO).read_text())
        info["features"] = {key: value for key, value in info["features"].items() if key not in LANGUAGE_FEATURE}
        replace_json(self.next / INFO, info)
        return True

    def new_files(self, folder: str, ending: str) -> list[Path]:
        """Files in the next state that are not in this one."""
        paths = sorted((self.next / folder).rglob(f"*{ending}"))
        return [path for path in paths if not (self.root / path.relative_to(self.next)).exists()]

    def commit(self, record: Mapping[str, Any], n_frames: int) -> None:
        """Make the next state the folder's. Raises `DataError` if a new video does not hold n_frames."""
        videos = self.new_files("videos", ".mp4")
        for path in videos:
            if (n_found := frames_of(path)) != n_frames:
                raise DataError(f"{path.name}: {n_found} of {n_frames} frames were encoded")
        earlier = (self.root / RECORD).read_text() if (self.root / RECORD).exists() else ""
        line = json.dumps({"episode_index": self.episodes, **record}, ensure_ascii=False)
        replace_text(self.next / RECORD, f"{earlier}{line}\n")
        make_readable(self.next)
        sync_folder(self.next)
        replace_folder(self.next, self.root, self._replaced)
        self.episodes, self.frames = self.episodes + 1, self.frames + n_frames
        shutil.rmtree(self._replaced, ignore_errors=True)

    def close(self) -> None:
        """Remove the working folder and let the session go."""
        shutil.rmtree(self.work, ignore_errors=True)
        self._lock.close()

    def _read(self) -> None:
        """Read what the folder holds. Raises `DataError` if it is no session of this robot."""
        files = LeRobotFiles(self.root)
        info = json.loads((self.root / INFO).read_text())
        wanted = features_of(self.robot) | LANGUAGE_FEATURE
        given = {key: _told(files.features.get(key)) for key in wanted}
        differing = [key for key, feature in wanted.items() if given[key] != _told(feature)]
        if differing:
            told = f"{differing[0]} is {given[differing[0]] or 'not there'}, expected {_told(wanted[differing[0]])}"
            raise DataError(f"{self.root}: holds another dataset ({told}); choose another folder")
        for name, value in (("fps", self.robot.fps), ("robot_type", self.robot.robot_type)):
            if info.get(name) != value:
                raise DataError(f"{self.root}: {name} is {info.get(name)}, now {value}; choose another folder")
        self.subtasks = {text: index for index, text in sorted(files.subtasks.items())}
        self.episodes = len(files.episodes)
        self.frames = sum(episode.length for episode in files.episodes)

    def _clean(self) -> None:
        for path in (self.next, self._replaced):
            if path.exists():
                shutil.rmtree(path)


def features_of(robot: RecordedRobot) -> dict[str, dict[str, Any]]:
    """Features of a session, without the language column, which is added after recording."""
    shapes = {camera: (*size, 3) for camera, size in robot.cameras.items()}
    own = {key: {"dtype": dtype, "shape": (1,), "names": None} for key, (dtype, _) in OWN.items()}
    return usual_features(robot.layout.state_names, robot.layout.action_names, shapes) | LABELS | own


def _told(feature: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """What of a feature must be the same in all episodes."""
    if feature is None:
        return ()
    names = feature.get("names")
    return feature["dtype"], tuple(feature["shape"]), tuple(names) if names else ()


def _lock(folder: Path) -> IO[str]:
    """Make the folder and lock it. A writer may hold it for a moment after its session was killed."""
    until = time.monotonic() + WAIT_FOR_LOCK_S
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_directory(folder)
        except (SystemSetupError, FileNotFoundError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
            continue
        if (folder / ".lock").exists():
            return lock
        lock.close()  # its last owner removed the folder meanwhile


def _link_tree(source: Path, target: Path) -> None:
    """Hard links of all files but those in meta/ itself, to which LeRobot writes again."""

    def lay(file: str, copy: str) -> None:
        (shutil.copyfile if Path(file).parent == source / "meta" else link_or_copy)(file, copy)

    shutil.copytree(source, target, copy_function=lay)


def software() -> dict[str, str | None]:
    """Version and commit that record, for `meta/recording.jsonl`."""
    return {"version": provenance.version(), "commit": provenance.commit()}


def uncorrected_failures(root: Path) -> list[int]:
    """Episodes in which a policy failed and no person corrected it, by their records; they show nothing to learn."""
    return [
        record["episode_index"]
        for record in episode_records(root)
        if record.get("weights") and record.get("outcome") == Outcome.failure and not record.get("interventions")
    ]


def episode_records(root: Path) -> Iterator[dict[str, Any]]:
    """The lines of meta/recording.jsonl, in order; none for sets that were not recorded here."""
    path = root / RECORD
    for line in path.read_text().splitlines() if path.exists() else ():
        yield json.loads(line)
