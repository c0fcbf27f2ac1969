"""A small recorded robot, its frames, and a process that records until a kill: `python session_frames.py ROOT`."""

import sys
import time
from pathlib import Path

import numpy as np

from emu_robot.core import Observation
from emu_robot.recording.messages import Frame, Outcome, RecordedRobot
from emu_robot.robots.spec import PANDA

ROBOT = RecordedRobot(
    layout=PANDA.layout, fps=20, cameras={"front": (48, 64), "wrist": (32, 32)}, robot_type="small_panda"
)
TASK = "put the red cube in the drawer"


def observation(t: int) -> Observation:
    """Pictures with contrast whose shade tells the frame."""
    images = {
        camera: np.broadcast_to(30 + t + np.linspace(0, 90, size[1])[:, None], (*size, 3)).astype(np.uint8)
        for camera, size in ROBOT.cameras.items()
    }
    return Observation(images=images, state=np.full(8, 0.01 * t, np.float32))


def frame(t: int, *, intervention: bool = False, is_overrun: bool = False) -> Frame:
    """Frame t of an episode, captured a bit late."""
    return Frame(
        observation=observation(t),
        action=np.full(8, 0.01 * (t + 1), np.float32),
        stamp_s=1000.0 + t / ROBOT.fps + 0.003 * (t % 2),
        intervention=intervention,
        is_overrun=is_overrun,
    )


def record_forever(root: Path) -> None:
    """Episodes of half a second and more; says which are committed, and by which process."""
    from emu_robot.recording.session import SessionRecorder

    recorder = SessionRecorder(root, ROBOT, operator="test")
    print(f"writer {recorder.writer_id}", flush=True)
    told = -1
    while True:
        recorder.start(TASK)
        recorder.mark("grasp the cube")
        for t in range(12 + recorder.committed % 7):
            recorder.add(frame(t))
            if recorder.committed != told:
                told = recorder.committed
                print(f"committed {told}", flush=True)
            time.sleep(1 / ROBOT.fps)
        recorder.end(Outcome.success)
        while recorder.pending > 1:
            time.sleep(0.01)


if __name__ == "__main__":
    record_forever(Path(sys.argv[1]))
