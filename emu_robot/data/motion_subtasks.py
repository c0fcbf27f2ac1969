"""Subtasks from motion alone: keyframes, and words for what arm and grippers do until each.

Words are few and depend on nothing but the episode, so that equal steps of a task have equal words in all episodes:
"pick up the cube: close the gripper". Suffixes: T frames of an episode, S state dimensions, G grippers.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from emu_robot.core import Floats32
from emu_robot.data.keyframes import Frames, KeyframeConfig, KeyframeFinder
from emu_robot.data.labels import LabelSource, Segmentation
from emu_robot.data.task_keyframes import TaskKeyframes
from emu_robot.robots.spec import DimensionKind, RobotLayout
from emu_robot.shared.words import folded

HOLDS, RETURNS = 0.1, 0.3
"""Distance from the start within which an arm holds still, in standard deviations (root mean square of dimensions);
share of the farthest distance within which an arm has returned."""
MOST_NAMED = 3
"""Most tasks that a note names."""


class MotionSubtasks:
    """Cuts the episodes of one set into subtasks."""

    def __init__(
        self, states: Sequence[Floats32], tasks: Sequence[str], layout: RobotLayout, fps: float, config: KeyframeConfig
    ) -> None:
        """states: (T, S) of every episode; tasks: its task in words; fps [Hz].

        Raises `DataError` if nothing ever moves, `ConfigError` for the method gripper without a gripper.
        """
        self._finders = TaskKeyframes(states, tasks, layout.gripper_states, fps, config)
        self._hands = _hands([layout.state_names[i] for i in layout.gripper_states])
        self._place = _place(layout)

    @property
    def methods(self) -> str:
        """The methods in use, in words."""
        return ", ".join(self._finders.methods)

    def of(self, state: Floats32, task: str) -> Segmentation:
        """The subtasks of an episode (T, S) of the set. A single one has the words of the task."""
        finder = self._finders.of(task)
        keyframes, starts = finder.cut(state)
        words = [task]
        if len(keyframes) > 1:
            words = [f"{task.strip().rstrip('.!')}: {step}" for step in self._steps(finder, state, keyframes)]
        return Segmentation(subtasks=tuple(words), starts=starts, keyframes=keyframes, source=LabelSource.motion)

    def _steps(self, finder: KeyframeFinder, state: Floats32, keyframes: Frames) -> list[str]:
        """Words of each step; what happens again in an episode gets a number."""
        bounds = [0, *keyframes.tolist()]
        said: Counter[str] = Counter()
        steps = []
        for begin, end in pairwise(bounds):
            step = self._grips(finder, state[begin : end + 1]) or self._motion(finder, state[begin : end + 1])
            said[step] += 1
            steps.append(step if said[step] == 1 else f"{step} ({said[step]})")
        return steps

    def _grips(self, finder: KeyframeFinder, state: Floats32) -> str:
        """What the grippers do; empty if they do nothing."""
        told = []
        for hand, open_T in zip(self._hands, finder.opened(state).T, strict=True):
            if open_T[0] != open_T[-1]:
                told.append(f"{'open' if open_T[-1] else 'close'} {hand}")
            elif (open_T != open_T[0]).any():
                told.append(f"{'close and open' if open_T[0] else 'open and close'} {hand}")
        return " and ".join(told)

    def _motion(self, finder: KeyframeFinder, state: Floats32) -> str:
        """How the arm moves: up, down or sideways where one dimension is the height, else that it moves."""
        away_T = finder.distance(state, state[0])
        if away_T.max() < HOLDS:
            return "hold still"
        if away_T[-1] < RETURNS * away_T.max():
            return "move out and back"
        if self._place is None:
            return "move"
        *level, height = (state[-1] - state[0])[list(self._place)].tolist()
        if abs(height) < np.hypot(*level):
            return "move sideways"
        return "move up" if height > 0 else "move down"


def single_subtasks(tasks: Sequence[str], counts: Sequence[int]) -> list[str]:
    """A note, as a list of at most one, on tasks of which every episode has one subtask.

    tasks, counts: task in words and number of subtasks of each episode.
    """
    most: dict[str, int] = {}
    for task, count in zip(map(folded, tasks), counts, strict=True):
        most[task] = max(count, most.get(task, 0))
    names = {folded(task): task for task in tasks}
    single = [names[task] for task, count in most.items() if count == 1]
    if not single:
        return []
    more = ", ..." if len(single) > MOST_NAMED else ""
    which = "" if len(single) == len(most) else f" of {len(single)} of {len(most)} tasks"
    named = f" ({', '.join(single[:MOST_NAMED])}{more})" if which else ""
    return [
        f"one subtask in every episode{which}{named}: the planner learns no steps there; smaller keyframes.min_share, "
        "another keyframes.method or labels in the set cut them"
    ]


def _hands(names: Sequence[str]) -> list[str]:
    """The grippers in words: by the side that a name tells, else by number if there are several."""
    if len(names) == 1:
        return ["the gripper"]
    sides = [re.findall(r"left|right", name.lower()) for name in names]
    if all(len(side) == 1 for side in sides) and len({side[0] for side in sides}) == len(names):
        return [f"the {side[0]} gripper" for side in sides]
    return [f"gripper {i}" for i in range(1, len(names) + 1)]


def _place(layout: RobotLayout) -> tuple[int, int, int] | None:
    """Indices of x, y and z of the only hand, by the names of state dimensions; None if they do not tell."""
    found = []
    for axis in "xyz":
        here = [
            i
            for i, name in enumerate(layout.state_names)
            if axis in re.split(r"[^a-z]+", name.lower()) and not re.search(r"rot|quat|ang|vel|ori", name.lower())
            if not layout.state_kinds or layout.state_kinds[i] is DimensionKind.position
        ]
        if len(here) != 1:
            return None
        found += here
    return found[0], found[1], found[2]
