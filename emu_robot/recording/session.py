"""Records a teleoperation session as a LeRobotDataset, from a control loop that must not wait. Numpy only.

Another process encodes and writes (`data/session_writer.py`). Each ended episode becomes part of the session's folder
at once and whole; a kill loses at most the running one.
"""

import shutil
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emu_robot.core import Observation
from emu_robot.errors import InvalidValueError, SystemSetupError
from emu_robot.recording.messages import (
    Committed,
    Discard,
    End,
    Failed,
    Flag,
    Frame,
    Mark,
    News,
    Outcome,
    RecordedRobot,
    Setup,
    Start,
)
from emu_robot.recording.preflight import problems_of
from emu_robot.recording.writer_link import WriterLink

GUESSED_BYTES = 0.25
"""Bytes per pixel of video before any is measured."""
RESERVE = 64_000_000
"""Bytes that must remain free; an episode ends before."""
DISK_LOOKED_AT_EVERY = 30
"""Frames between two looks at the disk."""
FEWEST_FRAMES = 2


class SessionRecorder:
    """Records episodes into the session's folder: start, then add and mark and flag, then end or discard.

    Only one thread may call it, except `preflight` and the properties. Every method raises `SystemSetupError` if an
    episode could not be kept since the last call (a full disk, a writer too slow or dead); the next `start` begins
    a new one.
    """

    def __init__(
        self,
        root: Path,
        robot: RecordedRobot,
        *,
        operator: str = "",
        camera_settings: Mapping[str, Any] | None = None,
        license: str = "",
        weights: str = "",
        queue_mb: int = 256,
    ) -> None:
        """Open a new session at `root`, or continue the one that is there.

        The writer loads LeRobot meanwhile, for some seconds; `preflight` tells when it has.

        operator: name, for the record of each episode. camera_settings: values of JSON by camera (exposure, focus ...),
        for the record. license: for the dataset card. weights: name or folder of those of a policy that
        drives in the session, for the record. queue_mb: memory for frames that wait for the writer.

        Raises `DataError` if `root` is something else or has another robot, cameras or rate; `SystemSetupError` if
        another process records there.
        """
        self.root, self.robot = Path(root), robot
        self._news = threading.Condition()
        self._ready = self._is_loaded = self._is_over = self._is_closed = False
        self._failure: Failed | None = None
        self._committed = self._pending = 0
        self._bytes_per_frame = GUESSED_BYTES * robot.frame_bytes / 3
        self._frames: int | None = None
        self._link = WriterLink(self._on_news, self._on_end, queue_mb * 1_000_000)
        self._link.send(
            Setup(
                root=self.root,
                robot=robot,
                operator=operator,
                camera_settings=camera_settings or {},
                license=license,
                weights=weights,
            )
        )
        with self._news:
            self._news.wait_for(lambda: self._ready or self._is_over or self._failure)
        try:
            self._raise_failure()
        except Exception:
            self._link.close()
            raise

    @property
    def committed(self) -> int:
        """Episodes in the session's folder; nothing but damage to the disk can lose them."""
        return self._committed

    @property
    def writer_id(self) -> int:
        """Id of the process that writes."""
        return self._link.process.pid

    @property
    def pending(self) -> int:
        """Ended episodes that are not committed yet."""
        return self._pending

    @property
    def minutes_left(self) -> float:
        """Minutes of recording for which the disk has room."""
        folder = next(parent for parent in self.root.absolute().parents if parent.exists())
        free = max(shutil.disk_usage(folder).free - RESERVE, 0)
        return free / (self._bytes_per_frame * self.robot.fps * 60)

    @property
    def is_recording(self) -> bool:
        """Whether an episode runs."""
        return self._frames is not None

    def preflight(self, observation: Observation, ages_s: Mapping[str, float] | None = None) -> list[str]:
        """Reasons not to start, in words; empty if all is well. ages_s: age of each camera's picture [s]."""
        writer = "has ended" if self._is_over else "still loads LeRobot" if not self._is_loaded else ""
        ready = [f"the process that writes {writer}"] if writer else []
        return ready + problems_of(observation, self.robot, ages_s or {}, self.minutes_left)

    def start(self, task: str) -> None:
        """Begin an episode. task: the instruction in words."""
        self._raise_failure()
        if self.is_recording:
            raise InvalidValueError("an episode is running; end or discard it first")
        self._link.send(Start(_words("task", task), datetime.now(UTC).isoformat(timespec="milliseconds")))
        self._frames = 0

    def add(self, frame: Frame) -> None:
        """Record a frame; it is copied. Raises `SystemSetupError` if the episode cannot be kept."""
        frame.check(self.robot)
        n_frames = self._require_running()
        if n_frames % DISK_LOOKED_AT_EVERY == 0 and not self.minutes_left:
            self._drop(f"{self.root}: the disk is full")
        if not self._link.send(frame.copy(), must_fit=True):
            self._drop(f"{self.root}: the encoder does not keep up with {self.robot.fps} frames per second")
        self._frames = n_frames + 1

    def mark(self, subtask: str) -> None:
        """The next frame begins a subtask. Frames before the first mark belong to the first subtask."""
        self._require_running()
        self._link.send(Mark(_words("subtask", subtask)))

    def flag(self, text: str) -> None:
        """Keep a note about this moment in the episode's record."""
        self._require_running()
        self._link.send(Flag(_words("flag", text)))

    def end(self, outcome: Outcome, cause: str = "") -> None:
        """Commit the episode in the background. cause: of a failure, in words."""
        if self._require_running() < FEWEST_FRAMES:
            raise InvalidValueError(f"an episode needs {FEWEST_FRAMES} frames; discard it")
        self._frames = None
        with self._news:
            self._pending += 1
        self._link.send(End(Outcome(outcome), cause))

    def discard(self) -> None:
        """Forget the running episode, if there is one."""
        if self.is_recording:
            self._frames = None
            self._link.send(Discard())
        self._raise_failure()

    def wait(self) -> None:
        """Wait until the writer has loaded, and no episode is pending."""
        with self._news:
            self._news.wait_for(lambda: (self._is_loaded and not self._pending) or self._is_over)
        self._raise_failure()

    def close(self) -> None:
        """Discard a running episode, wait for the pending ones, and let the folder go."""
        if not self._is_closed:
            self._is_closed = True
            self._link.close()
        self._raise_failure(closing=True)

    def _require_running(self) -> int:
        """Frames of the running episode."""
        self._raise_failure()
        if self._frames is None:
            raise InvalidValueError("no episode is running; start one first")
        return self._frames

    def _drop(self, why: str) -> None:
        self._frames = None
        self._link.send(Discard())
        raise SystemSetupError(f"{why}; the running episode is dropped, the {self._committed} before are intact")

    def _raise_failure(self, *, closing: bool = False) -> None:
        with self._news:
            failure, self._failure = self._failure, None
            if failure is None and self._is_over and not closing:
                lost = f", {self._pending} ended ones are lost" if self._pending else ""
                why = "the session is closed" if self._is_closed else "the process that writes has ended"
                raise SystemSetupError(f"{self.root}: {why}{lost}; {self._committed} episodes are committed")
        if failure is not None:
            if self.is_recording:
                self._frames = None
                self._link.send(Discard())
            raise failure.kind(failure.message)

    def _on_news(self, news: News) -> None:
        with self._news:
            if isinstance(news, Committed):
                if self._ready:  # the first news only tells what the folder held
                    self._pending -= 1
                self._ready, self._committed = True, news.episodes
                self._bytes_per_frame = news.bytes_per_frame or self._bytes_per_frame
            elif isinstance(news, Failed):
                self._failure = news
                self._pending -= news.was_ended
            else:
                self._is_loaded = True
            self._news.notify_all()

    def _on_end(self) -> None:
        with self._news:
            self._is_over = True
            self._news.notify_all()


def _words(what: str, text: str) -> str:
    """The text without spaces around. Raises `InvalidValueError` without any words."""
    if not text.strip():
        raise InvalidValueError(f"{what} is {text!r}; say it in words")
    return text.strip()
