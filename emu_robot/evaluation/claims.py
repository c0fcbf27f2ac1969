"""A policy's claims "this subtask is reached" and "the task is complete", beside what the environment says, by tick.

A claim is *true* if its predicate holds at the claim or within the half second after it. Its *delay* runs from the
begin of the stretch in which the predicate holds, and is negative if the claim came first. A predicate *came true* if
it held for half a second in a row, or a true claim was made; without a true claim it is *missed*.

"Reached" is judged by pursuits: the time in which the policy follows the same words. The event `SWITCHED` is the claim.
It can only be judged by the words that were followed, so that a subtask which the planner never names has no claim, and
words that mean nothing in the scene can only be claimed falsely. Where a subtask already holds as its pursuit begins,
the delay runs from there.

"Complete" is judged once an episode, by the environment's success. The claim is the last confirmation, after which the
policy does not ask its planner again. A first declaration that a new step takes back is no claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emu_robot.core import ActionChunk, PolicyEvent
from emu_robot.environments.capabilities import JudgesSubtasks
from emu_robot.shared.words import same_words

TOLERANCE_S = 0.5
"""A claim may come that long before the truth; a truth is one that holds that long [s]."""


@dataclass(kw_only=True, slots=True)
class Trace:
    """Something that can be claimed once, and whether it held at every tick from `first` on."""

    words: str
    """The subtask, or the instruction."""
    first: int
    """Tick of the first entry of `holds`."""
    holds: list[bool] = field(default_factory=list)
    """Whether the predicate held; also for a while after the end."""
    claimed: int | None = None
    """Tick of the claim."""
    ended: int | None = None
    """Tick since which it is not followed any more."""
    is_known: bool = True
    """Whether the words mean something in the scene."""

    def judged(self, tolerance: int) -> "Verdict":
        """The claim beside the truth. tolerance [ticks]."""
        claimed = None if self.claimed is None else self.claimed - self.first
        return judge(self.holds, claimed, tolerance)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim beside the truth."""

    came_true: bool
    """Whether the predicate held for a while, or the claim is true."""
    is_true: bool | None = None
    """Whether the claim is true; None without one."""
    delay: int | None = None
    """Ticks from the truth to a true claim."""


def judge(holds: Sequence[bool], claimed: int | None, tolerance: int) -> Verdict:
    """holds: whether the predicate held at each tick. claimed: index of the claim in it. tolerance [ticks]."""
    if claimed is not None and any(after := list(holds[claimed : claimed + tolerance + 1])):
        begin = claimed + after.index(True)
        while begin > 0 and holds[begin - 1]:
            begin -= 1
        return Verdict(came_true=True, is_true=True, delay=claimed - begin)
    stretch = longest = 0
    for held in holds:
        stretch = stretch + 1 if held else 0
        longest = max(longest, stretch)
    return Verdict(came_true=longest >= tolerance, is_true=None if claimed is None else False)


class ClaimLog:
    """Follows one episode. Tell it of the start, of every chunk, and of every tick."""

    def __init__(self, world: JudgesSubtasks, instruction: str, *, confirmations: int, tolerance: int) -> None:
        """confirmations: declarations in a row after which the policy asks no more. tolerance [ticks]."""
        self._world, self._confirmations, self._tolerance = world, confirmations, tolerance
        self._declared = 0
        self._pursued: Trace | None = None
        self.task = Trace(words=instruction, first=0, holds=[False])
        """The whole task."""
        self.pursuits: list[Trace] = []
        """The subtasks that were followed, in order."""

    def on_chunk(self, tick: int, chunk: ActionChunk) -> None:
        """The policy answered the observation of this tick."""
        words, claims = chunk.step and chunk.step.subtask, PolicyEvent.SWITCHED in chunk.events
        pursued = self._pursued
        if pursued is not None and (claims or not same_words(words, pursued.words)):
            pursued.ended = tick
            pursued.claimed = tick if claims else None
            pursued = None
        if pursued is None and words is not None:
            pursued = Trace(words=words, first=tick)
            self._look(pursued)
            self.pursuits.append(pursued)
        self._pursued = pursued
        if PolicyEvent.PLANNED in chunk.events:
            self._declared = 0
        self._declared += PolicyEvent.COMPLETE in chunk.events
        if self._declared >= self._confirmations and self.task.claimed is None:
            self.task.claimed = tick

    def on_tick(self, tick: int, success: bool) -> None:
        """An action was executed; the world is in the state after it."""
        self.task.holds.append(bool(success))
        for pursuit in self.pursuits:
            if pursuit.ended is None or tick <= pursuit.ended + self._tolerance:
                self._look(pursuit)

    def is_over(self, tick: int) -> bool:
        """Whether the task is claimed complete, and the time has passed in which the claim may come true."""
        return self.task.claimed is not None and tick >= self.task.claimed + self._tolerance

    def _look(self, pursuit: Trace) -> None:
        held = self._world.holds(pursuit.words)
        pursuit.is_known = held is not None
        pursuit.holds.append(bool(held))
