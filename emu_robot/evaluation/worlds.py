"""The worlds that one process has open: one task's at a time, so that memory does not grow with the number of tasks."""

from collections.abc import Sequence

from emu_robot.environments.contract import Environment, Suite, open_task


class Worlds:
    """Opens worlds of a suite in one split. Asking for another task closes what is open."""

    def __init__(self, suite: Suite, split: str) -> None:
        self._suite, self._split = suite, split
        self._task = ""
        self._open: dict[bool, Environment] = {}

    def of(self, task: str, *, spare: bool = False) -> Environment:
        """The task's world, or with spare=True a second one that may be reset while the first one plays."""
        if task != self._task:
            self.close()
            self._task = task
        if spare not in self._open:
            self._open[spare] = open_task(self._suite, task, self._split)
        return self._open[spare]

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.popitem()[1].close()


def by_task(indices: Sequence[int], n_tasks: int) -> list[int]:
    """Layout `index` is of task `index % n_tasks`: the indices, one task after the other."""
    return sorted(indices, key=lambda index: (index % n_tasks, index))
