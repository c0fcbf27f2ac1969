"""Keyframes of a set of many tasks: each task chooses its own method. Suffixes: T frames, S state dimensions."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from emu_robot.core import Floats32
from emu_robot.data.keyframes import KeyframeConfig, KeyframeFinder, KeyframeMethod
from emu_robot.shared.words import folded

FEW = 3
"""Tasks of fewer episodes choose their method together, since the end of one episode may be chance."""


class TaskKeyframes:
    """A `KeyframeFinder` for each task of a set; tasks of fewer than `FEW` episodes share one.

    Tasks are told apart by their words, upper and lower case alike.
    """

    def __init__(
        self,
        states: Sequence[Floats32],
        tasks: Sequence[str],
        grippers: Sequence[int],
        fps: float,
        config: KeyframeConfig,
    ) -> None:
        """states: (T, S) of every episode; tasks: its task in words; grippers: which state dimensions are grippers.

        Raises `DataError` if nothing ever moves, `ConfigError` for the method gripper without a gripper.
        """
        counts = Counter(map(folded, tasks))
        self._few = {task for task, count in counts.items() if count < FEW}
        groups: dict[str, list[Floats32]] = defaultdict(list)
        for task, state in zip(tasks, states, strict=True):
            groups[self._group(task)].append(state)
        self._finders = {group: KeyframeFinder(some, grippers, fps, config, states) for group, some in groups.items()}

    def of(self, task: str) -> "KeyframeFinder":
        """The finder of a task of the set."""
        return self._finders[self._group(task)]

    @property
    def methods(self) -> list[KeyframeMethod]:
        """The methods in use, each once."""
        return list(dict.fromkeys(finder.method for finder in self._finders.values()))

    def _group(self, task: str) -> str:
        return "" if folded(task) in self._few else folded(task)
