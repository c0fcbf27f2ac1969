"""Commit episode files in their order, several at once, while other processes finish them in any order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path

from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer

COMMITTED_AT_ONCE = 16
"""Episodes of a commit; each commit rewrites the last chunk of every array."""


def blocks_in_order[Piece](
    pieces: Iterable[Piece],
    is_done: Callable[[Piece], bool],
    results: Iterable[object],
    at_once: int | None = None,
) -> Iterator[list[Piece]]:
    """All pieces in their order, in blocks as soon as they are done. They are checked after each of `results`.

    at_once: pieces of a block; `COMMITTED_AT_ONCE` if None.
    """
    size = at_once or COMMITTED_AT_ONCE
    waiting = deque(pieces)

    def take(at_least: int) -> list[Piece]:
        block = list(takewhile(is_done, islice(waiting, size)))
        return [waiting.popleft() for _ in block] if len(block) >= at_least else []

    for _ in results:
        while block := take(size):
            yield block
    while block := take(1):
        yield block
    assert not waiting, "when the results end, every piece is done"


def commit(buffer: ReplayBuffer, files: Sequence[Path]) -> None:
    """Add these episodes to the buffer, whole or not at all, and remove their files."""
    buffer.extend([Episode.load(file) for file in files])
    for file in files:
        file.unlink()
