"""One episode of a recording session on its way into the session's folder. Suffix legend: T frames."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from emu_robot.data.dataset_card import Origin, write_card
from emu_robot.data.labels import UNMARKED
from emu_robot.data.lerobot_export import create_set, h264
from emu_robot.data.lerobot_labels import add_language, language_rows, write_subtasks
from emu_robot.data.recording_contract import weights_sha256
from emu_robot.data.session_folder import OWN, SessionFolder, features_of
from emu_robot.errors import SystemSetupError
from emu_robot.recording.messages import End, Frame, Outcome, Setup, Start

QUEUED_FRAMES = 64
"""Frames per camera that wait for LeRobot's encoder."""
ENCODER_STALLED_S = 60.0
"""Time without a frame encoded after which the episode is given up [s]."""


class RunningEpisode:
    """Takes frames and marks, and becomes the session's next episode or nothing."""

    def __init__(self, folder: SessionFolder, start: Start, software: dict[str, str | None]) -> None:
        self._folder, self._start, self._software = folder, start, software
        self._dataset = _open(folder)
        assert self._dataset.writer is not None
        self._writer = self._dataset.writer
        self._marks: list[tuple[int, str]] = []
        self._flags: list[tuple[int, str]] = []
        self._stamps: list[float] = []
        self._overruns = self._interventions = 0

    def mark(self, subtask: str) -> None:
        """The next frame begins a subtask."""
        self._marks.append((len(self._stamps), subtask))

    def flag(self, text: str) -> None:
        """Keep a note about the next frame."""
        self._flags.append((len(self._stamps), text))

    def add(self, frame: Frame) -> None:
        """Give a frame to LeRobot's writer, which encodes it meanwhile. Waits for room in its queue."""
        if self._stamps:
            self._wait_for_encoder()
        self._dataset.add_frame(
            {
                "task": self._start.task,
                "observation.state": frame.observation.state.astype(np.float32),
                "action": frame.action.astype(np.float32),
                **{f"observation.images.{name}": image for name, image in frame.observation.images.items()},
                "subtask_index": np.array([UNMARKED]),
                "keyframe": np.array([0]),
                "next.success": np.array([False]),
                "intervention": np.array([frame.intervention]),
                "capture_time": np.array([frame.stamp_s], np.float64),
                "overrun": np.array([frame.is_overrun]),
            }
        )
        self._stamps.append(frame.stamp_s)
        self._overruns += frame.is_overrun
        self._interventions += frame.intervention

    def commit(self, end: End) -> None:
        """Write the episode, with its labels, into the session's folder."""
        n_frames = len(self._stamps)
        subtasks, starts = subtasks_of(self._marks, n_frames)
        self._label(subtasks, starts, end.outcome is Outcome.success)
        self._dataset.save_episode()
        self._dataset.finalize()
        folder = self._folder
        language = language_rows(subtasks, starts, folder.robot.fps)
        add_language(folder.next, folder.new_files("data", ".parquet"), [language])
        if folder.subtasks:
            write_subtasks(folder.next, folder.subtasks)
        write_card(folder.next, _origin(folder.setup), folder.root.name)
        folder.commit(self._record(end, subtasks, starts), n_frames)

    def drop(self) -> None:
        """Forget it."""
        self._writer.cancel_pending_videos()

    def _label(self, subtasks: Sequence[str], starts: Sequence[int], success: bool) -> None:
        """Fill in what is known only at the end."""
        n_frames = len(self._stamps)
        k_T = np.searchsorted(starts, np.arange(n_frames), side="right") - 1
        indices = [self._folder.index_of(text) for text in subtasks] or [UNMARKED]
        keyframes = [*(start - 1 for start in starts[1:]), n_frames - 1]
        buffer = self._writer.episode_buffer
        buffer["subtask_index"] = [np.array([indices[k]]) for k in k_T]
        buffer["keyframe"] = [np.array([keyframes[k]]) for k in k_T]
        buffer["next.success"] = [np.array([success and t == n_frames - 1]) for t in range(n_frames)]

    def _record(self, end: End, subtasks: Sequence[str], starts: Sequence[int]) -> dict[str, Any]:
        """The episode's line of meta/recording.jsonl."""
        setup, stamps = self._folder.setup, self._stamps
        return {
            "task": self._start.task,
            "outcome": str(end.outcome),
            "cause": end.cause,
            "flags": [{"frame": min(t, len(stamps) - 1), "text": text} for t, text in self._flags],
            "subtasks": [{"frame": t, "text": text} for t, text in zip(starts, subtasks, strict=False)],
            "operator": setup.operator,
            "weights": setup.weights,
            "weights_sha256": weights_sha256(setup.weights),
            "robot": setup.robot.robot_type,
            "begun": self._start.begun,
            "frames": len(stamps),
            "seconds": round(stamps[-1] - stamps[0] + 1 / setup.robot.fps, 3),
            "overruns": self._overruns,
            "interventions": self._interventions,
            "software": self._software,
            "cameras": dict(setup.camera_settings),
        }

    def _wait_for_encoder(self) -> None:
        """Wait for room in the queues of LeRobot's encoder, which would drop the frame."""
        encoder = self._writer._streaming_encoder  # None without cameras
        queues = encoder._frame_queues.values() if encoder else ()
        until = time.monotonic() + ENCODER_STALLED_S
        while any(one.qsize() >= QUEUED_FRAMES - 1 for one in queues):
            if time.monotonic() > until:
                raise SystemSetupError("the video encoder has stopped")
            time.sleep(0.005)


def _open(folder: SessionFolder) -> LeRobotDataset:
    """LeRobot's writer for the next episode."""
    repo_id, robot = f"local/{folder.root.name}", folder.robot
    if not folder.lay_out():
        return create_set(
            folder.next, repo_id, fps=robot.fps, features=features_of(robot), robot=robot.robot_type,
            queued_frames=QUEUED_FRAMES,
        )  # fmt: skip
    return LeRobotDataset.resume(
        repo_id,
        root=folder.next,
        rgb_encoder=h264(),
        streaming_encoding=True,
        video_backend="pyav",
        encoder_queue_maxsize=QUEUED_FRAMES,
        encoder_threads=1,
    )


def _origin(setup: Setup) -> Origin:
    return Origin(
        summary=f"Teleoperated episodes of the robot `{setup.robot.robot_type}`.",
        license=setup.license or Origin.license,
        provenance="Recorded by `emu-robot teleop`. `meta/recording.jsonl` says, per episode, how it ended and why, "
        "who drove, when, with which software and camera settings, and what was flagged.",
        meanings={key: meaning for key, (_, meaning) in OWN.items()},
    )


def subtasks_of(marks: Sequence[tuple[int, str]], n_frames: int) -> tuple[list[str], list[int]]:
    """Words and first frames of the subtasks that were marked; without marks ([], [0]).

    The first begins with the episode. Of several marks at one frame the last counts, one after the last frame does not,
    and the same words twice are one subtask.
    """
    at = {frame: text for frame, text in marks if frame < n_frames}
    words: list[str] = []
    starts: list[int] = []
    for frame, text in sorted(at.items()):
        if not words or words[-1] != text:
            words.append(text)
            starts.append(frame if starts else 0)
    return words, starts or [0]
