"""A policy's claims "this subtask is reached" and "the task is complete", beside what the environment says, by tick.

A claim is *true* if its predicate holds at the claim or within the half second after it. Its *delay* runs from the
begin of the stretch in which the predicate holds, and is negative if the claim came first. A predicate *came true* if
it held for half a second in a row, or a true claim was made; without a true claim it is *missed*.

"Reached" is judged by pursuits: the time in which the policy follows the same words, up to the event `SWITCHED`. The
first event `REACHED` is the claim. It can only be judged by the words that were followed, so that a subtask which the
planner never names has no claim, and words that mean nothing in the scene can only be claimed falsely. Where a subtask
already holds as its pursuit begins, the delay runs from there.

"Complete" is judged by the environment's success. The event `COMPLETE` is the claim. A new plan takes it back; then the
next claim is judged on its own, and every claim counts.

"Confirmed" is the declaration after which the policy does not ask its planner again, once an episode. It is judged like
"complete".
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
    """Something to be claimed, and whether it held at every tick from `first` on."""

    words: str
    """The subtask, or the instruction."""
    first: int
    """Tick of the first entry of `holds`."""
    holds: list[bool] = field(default_factory=list)
    """Whether the predicate held; also for a while after the end."""
    claimed: int | None = None
    """Tick of the first claim."""
    ended: int | None = None
    """Tick at which the policy left it."""
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
    """Follows one episode. Tell it of every chunk and of every tick."""

    def __init__(self, world: JudgesSubtasks, instruction: str, *, confirmations: int, tolerance: int) -> None:
        """confirmations: declarations in a row after which the policy asks no more. tolerance [ticks]."""
        self._world, self._confirmations, self._tolerance = world, confirmations, tolerance
        self._n_declared = 0
        self._pursued: Trace | None = None
        self.confirmed = Trace(words=instruction, first=0, holds=[False])
        """The whole task and its confirmation."""
        self.declared = [Trace(words=instruction, first=0, holds=[False])]
        """The whole task and its declarations, each up to the tick at which it was taken back."""
        self.pursuits: list[Trace] = []
        """The subtasks that were followed, in order."""

    def on_chunk(self, tick: int, chunk: ActionChunk) -> None:
        """The policy answered the observation of this tick."""
        pursued, events = self._pursued, chunk.events
        if pursued is not None:
            if PolicyEvent.REACHED in events and pursued.claimed is None:
                pursued.claimed = tick
            words = chunk.step and chunk.step.subtask
            if PolicyEvent.SWITCHED in events or not same_words(words, pursued.words):
                pursued.ended, self._pursued = tick, None
        if self._pursued is None and chunk.step is not None:
            self._pursued = Trace(words=chunk.step.subtask, first=tick)
            self._look(self._pursued)
            self.pursuits.append(self._pursued)
        self._declare(tick, chunk)

    def _declare(self, tick: int, chunk: ActionChunk) -> None:
        declared = self.declared[-1]
        if PolicyEvent.PLANNED in chunk.events:
            self._n_declared = 0
            if declared.claimed is not None:
                declared.ended = tick
                self.declared.append(Trace(words=declared.words, first=tick, holds=declared.holds[-1:]))
        if PolicyEvent.COMPLETE in chunk.events:
            self._n_declared += chunk.events.count(PolicyEvent.COMPLETE)  # a step may end as a look confirms it
            if declared.claimed is None:
                declared.claimed = tick
            if self._n_declared >= self._confirmations and self.confirmed.claimed is None:
                self.confirmed.claimed = tick

    def on_tick(self, tick: int, success: bool) -> None:
        """An action was executed; the world is in the state after it."""
        for trace in (self.confirmed, *self.declared):
            if self._is_followed(trace, tick):
                trace.holds.append(bool(success))
        for pursuit in self.pursuits:
            if self._is_followed(pursuit, tick):
                self._look(pursuit)

    def is_over(self, tick: int) -> bool:
        """Whether the task is confirmed complete, and the time has passed in which that may come true."""
        return self.confirmed.claimed is not None and tick >= self.confirmed.claimed + self._tolerance

    def _is_followed(self, trace: Trace, tick: int) -> bool:
        return trace.ended is None or tick <= trace.ended + self._tolerance

    def _look(self, pursuit: Trace) -> None:
        held = self._world.holds(pursuit.words)
        pursuit.is_known = held is not None
        pursuit.holds.append(bool(held))
