"""The open worlds of one process: one task at a time, so that memory does not grow with the number of tasks."""

from collections.abc import Sequence

from emu_robot.environments.contract import Environment, Suite, open_task


class Worlds:
    """Opens worlds of a suite in one split. A request for another task closes the open worlds."""

    def __init__(self, suite: Suite, split: str) -> None:
        self._suite, self._split = suite, split
        self._task = ""
        self._open: dict[bool, Environment] = {}

    def of(self, task: str, *, spare: bool = False) -> Environment:
        """The task's world. spare=True: a second one, which may be reset while the first one is used."""
        if task != self._task:
            self.close()
            self._task = task
        if spare not in self._open:
            self._open[spare] = open_task(self._suite, task, self._split)
        return self._open[spare]

    def close(self) -> None:
        """Close all open worlds."""
        while self._open:
            self._open.popitem()[1].close()


def by_task(indices: Sequence[int], n_tasks: int) -> list[int]:
    """The indices ordered by task. Layout `index` belongs to task `index % n_tasks`."""
    return sorted(indices, key=lambda index: (index % n_tasks, index))
