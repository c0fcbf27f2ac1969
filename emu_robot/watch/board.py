"""Collects what a source tells of a policy, and gives `Thought`s to pages. Threads may share it. Reads no clock.

Times are seconds of one clock of the source's choice, which may be that of a simulation.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from emu_robot.core import Floats, Image, PlanStep
from emu_robot.watch.thought import Chunk, Delay, Ending, Gate, Mind, Pursued, Thought

MOST_STEPS = 24
"""Subtasks kept of a task."""
MOST_LINES = 60
"""Lines kept of a task."""
REMEMBERED = 100
"""Durations from which a median is taken."""


@dataclass(kw_only=True)
class _Step:
    """A subtask while it is pursued, and after."""

    words: str
    begun: float
    before: Image | None
    predicted: Image | None
    ended: float | None = None
    ending: Ending | None = None
    achieved: Image | None = None
    progress: list[float] = field(default_factory=list)


class Board:
    """What is known of the policy. Its methods with a verb are for the source, `view` and `watch` for pages."""

    def __init__(self, source: str, *, planner_camera: str, foresees: bool) -> None:
        """source: where the news come from, in words. planner_camera: the camera in whose view subgoals are planned.

        foresees: whether the source tells further subtasks by `expect`.
        """
        self._source, self._camera, self._foresees = source, planner_camera, foresees
        self._lock = threading.Lock()
        self._watchers: list[Callable[[], None]] = []
        self._now = self._begun = 0.0
        self._task, self._number, self._mind = "", 0, Mind.IDLE
        self._steps: deque[_Step] = deque(maxlen=MOST_STEPS)
        self._to_come: tuple[PlanStep, ...] = ()
        self._done: tuple[int, int] | None = None
        self._chunk: Chunk | None = None
        self._chunk_began = 0.0
        self._position: Floats | None = None
        self._gate = Gate(state="")
        self._took: dict[str, deque[float]] = {}
        self._pictures: dict[str, Image] = {}
        self._played = (0, 0)
        self._lines: deque[tuple[float, str]] = deque(maxlen=MOST_LINES)

    # -- for pages

    @property
    def view(self) -> Thought:
        """What is known now."""
        with self._lock:
            return Thought(
                source=self._source,
                task=self._task,
                number=self._number,
                seconds=self._now - self._begun,
                mind=self._mind,
                steps=tuple(self._shown(step) for step in self._steps),
                to_come=self._to_come,
                foresees=self._foresees,
                done=self._done,
                chunk=self._played_chunk(),
                position=self._position,
                gate=self._gate,
                delays=tuple(_delay(name, values) for name, values in self._took.items()),
                pictures=dict(self._pictures),
                played=self._played,
                lines=tuple(self._lines),
            )

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` after every change, in the source's thread; it must return at once."""
        with self._lock:
            self._watchers.append(on_change)

    def unwatch(self, on_change: Callable[[], None]) -> None:
        """End `watch`."""
        with self._lock:
            self._watchers.remove(on_change)

    # -- the task

    def begin(self, task: str, now: float) -> None:
        """Another task begins."""
        with self._changed(now):
            self._end_step(Ending.LEFT)
            self._begun, self._task, self._number = now, task, self._number + 1
            self._mind, self._done, self._to_come = Mind.IDLE, None, ()
            self._steps.clear()
            self._lines.clear()
            self._chunk = None
            self._say(f"task: {task}")

    def rest(self, now: float, why: str) -> None:
        """The task is over, and no other one has begun. why: in words."""
        with self._changed(now):
            self._end_step(Ending.LEFT)
            self._mind, self._to_come, self._chunk = Mind.IDLE, (), None
            self._say(why)

    def judge(self, done: int, total: int, now: float) -> None:
        """The source says how many true subtasks are done."""
        with self._changed(now):
            self._done = (done, total)

    def count(self, success: bool) -> None:
        """An episode has ended."""
        with self._changed(self._now):
            successes, episodes = self._played
            self._played = (successes + success, episodes + 1)

    # -- the plan

    def plan(self, step: PlanStep, now: float, *, before: Image | None = None) -> None:
        """The policy begins a subtask. before: the picture that it was planned from; None: the newest one."""
        with self._changed(now):
            self._end_step(Ending.LEFT)
            seen = before if before is not None else self._pictures.get(self._camera)
            self._steps.append(_Step(words=step.subtask, begun=now, before=seen, predicted=step.subgoal))
            self._mind, self._to_come = Mind.PURSUES, ()
            self._say(f"subtask: {step.subtask}")

    def expect(self, steps: Sequence[PlanStep], now: float) -> None:
        """The subtasks that the planner expects after the present one."""
        with self._changed(now):
            self._to_come = tuple(steps)

    def end_step(self, ending: Ending, now: float) -> None:
        """The present subtask is over."""
        with self._changed(now):
            if (step := self._present) is not None:
                self._end_step(ending)
                self._say(f"{ending.value}: {step.words}")

    def complete(self, now: float) -> None:
        """The policy holds the task complete."""
        with self._changed(now):
            if self._mind is not Mind.COMPLETE:
                self._end_step(Ending.REACHED)
                self._mind, self._to_come = Mind.COMPLETE, ()
                self._say("complete: no further subtask")

    def tick(self, now: float) -> None:
        """Time goes on."""
        with self._changed(now):
            pass

    def say(self, words: str, now: float) -> None:
        """Something else happened."""
        with self._changed(now):
            self._say(words)

    # -- what changes all the time

    def progress(self, value: float, now: float) -> None:
        """Progress through the present subtask, in [0, 1]."""
        with self._changed(now):
            if (step := self._present) is not None:
                step.progress.append(value)

    def play(self, names: Sequence[str], actions: np.ndarray, dt: float, began: float, now: float) -> None:
        """A chunk (T, A) is played from `began` on, an action every dt [s]."""
        with self._changed(now):
            self._chunk = Chunk(names=tuple(names), actions=actions, dt=dt, executed=0)
            self._chunk_began = began

    def see(self, pictures: Mapping[str, Image], now: float) -> None:
        """New pictures; cameras that are not named keep theirs."""
        with self._changed(now):
            self._pictures.update(pictures)

    def move(self, position: Floats, now: float) -> None:
        """The robot was measured at this position (A,)."""
        with self._changed(now):
            self._position = position

    def gate(self, gate: Gate, now: float) -> None:
        """State of the safety gate."""
        with self._changed(now):
            if (gate.state, gate.reason) != (self._gate.state, self._gate.reason):
                self._say(f"gate: {', '.join(filter(None, (gate.state, gate.reason)))}")
            self._gate = gate

    def took(self, name: str, seconds: float, now: float) -> None:
        """Something took so long [s]."""
        with self._changed(now):
            self._took.setdefault(name, deque(maxlen=REMEMBERED)).append(seconds)

    # -- inside

    @contextmanager
    def _changed(self, now: float) -> Iterator[None]:
        with self._lock:
            self._now = now
            yield
            watchers = list(self._watchers)
        for on_change in watchers:
            on_change()

    @property
    def _present(self) -> _Step | None:
        """The subtask that is pursued."""
        last = self._steps[-1] if self._steps else None
        return last if last is not None and last.ending is None else None

    def _end_step(self, ending: Ending) -> None:
        if (step := self._present) is not None:
            step.ended, step.ending, step.achieved = self._now, ending, self._pictures.get(self._camera)

    def _say(self, words: str) -> None:
        self._lines.append((self._now - self._begun, words))

    def _shown(self, step: _Step) -> Pursued:
        is_present = step.ending is None
        return Pursued(
            words=step.words,
            begun_s=step.begun - self._begun,
            lasts_s=(self._now if step.ended is None else step.ended) - step.begun,
            ending=step.ending,
            progress=tuple(step.progress),
            before=step.before,
            predicted=step.predicted,
            achieved=self._pictures.get(self._camera) if is_present else step.achieved,
        )

    def _played_chunk(self) -> Chunk | None:
        chunk = self._chunk
        if chunk is None:
            return None
        over = int((self._now - self._chunk_began) / chunk.dt + 1e-6)
        return replace(chunk, executed=min(max(over, 0), len(chunk.actions)))


def _delay(name: str, values: Sequence[float]) -> Delay:
    return Delay(name=name, last_s=values[-1], median_s=float(np.median(values)), n=len(values))
