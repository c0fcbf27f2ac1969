"""A board with a story on it, and its page behind the real server."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from emu_robot.core import Image, PlanStep
from emu_robot.watch.board import Board
from emu_robot.watch.page import WatchPage
from emu_robot.watch.thought import Ending, Gate

NAMES = (*(f"joint{i}.pos" for i in range(1, 8)), "gripper.pos")
STEPS = ("pick up the red cube", "put the red cube in the drawer", "close the drawer")


def painted(red: int, green: int, blue: int) -> Image:
    """A picture of one colour."""
    return np.full((128, 128, 3), (red, green, blue), np.uint8)


def told() -> Board:
    """One subtask is reached, the second one is pursued, the third one is expected."""
    board = Board("a story", planner_camera="front", foresees=True)
    board.begin("put the red cube in the drawer and close it", 10.0)
    board.see({"front": painted(200, 0, 0), "wrist": painted(0, 0, 200)}, 10.0)
    board.plan(PlanStep(subtask=STEPS[0], subgoal=painted(200, 200, 0)), 10.0)
    for i in range(8):
        board.progress(i / 8, 10.0 + 0.4 * i)
    board.see({"front": painted(0, 200, 0)}, 13.0)
    board.end_step(Ending.REACHED, 13.0)
    board.plan(PlanStep(subtask=STEPS[1], subgoal=painted(0, 200, 200)), 13.0)
    board.expect([PlanStep(subtask=STEPS[2], subgoal=painted(200, 0, 200))], 13.0)
    for i in range(5):
        board.progress(0.1 * i, 13.0 + 0.4 * i)
    board.gate(Gate(state="tracking", counts={"chunk taken": 12}), 14.0)
    board.took("chunk", 0.019, 14.0)
    board.play(NAMES, np.linspace(0, 1, 16 * 8).reshape(16, 8), 0.05, 14.0, 14.0)
    board.move(np.linspace(0.2, 0.3, 8, dtype=np.float64), 14.2)
    board.judge(1, 3, 14.2)
    return board


@contextmanager
def shown(board: Board, token: str = "") -> Iterator[str]:
    """The address of a board's page."""
    page = WatchPage(board, host="127.0.0.1", port=0, token=token)
    page.start()
    yield page.url
    page.stop()
