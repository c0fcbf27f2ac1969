"""Lets a policy compute while the control loop goes on: questions in, chunks out, and no call waits."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from emu_robot.control.policy_process import DrivingPolicy
from emu_robot.core import ActionChunk, Observation
from emu_robot.errors import EmuRobotError
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.shared.typed import first_line


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the policy shall answer with a chunk."""

    observation: Observation
    """Pictures and state."""
    captured: float
    """When the pictures were taken [s]."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a question or an order."""

    chunk: ActionChunk | None = None
    """The chunk; None with a problem."""
    captured: float = 0.0
    """When the pictures that it answers were taken [s]."""
    problem: str = ""
    """What went wrong, in words; empty if nothing did."""


class Thinking:
    """Follows orders and answers questions, one after the other. An order makes earlier questions void.

    `work` does all that waits; `ThinkingThread` calls it in a thread.
    """

    def __init__(self, policy: DrivingPolicy) -> None:
        self.policy = policy
        """The policy that computes."""
        self._news = threading.Condition()
        self._orders: deque[tuple[int, Callable[[], None]]] = deque()
        self._question: Question | None = None
        self._answer: Answer | None = None
        self._round = 0
        self._busy = False

    @property
    def is_busy(self) -> bool:
        """Whether a question waits or is being answered."""
        with self._news:
            return self._busy or self._question is not None

    def reset(self, instruction: str) -> None:
        """Begin an episode."""
        self._order(lambda: self.policy.reset(instruction))

    def coach(self, subtask: str) -> None:
        """Pursue this subtask; empty: plan again. See `core.Coachable`."""
        self._order(lambda: self.policy.coach(subtask))

    def drop(self) -> None:
        """Forget the question and its answer; one that is computed now will be thrown away."""
        with self._news:
            self._void()

    def ask(self, question: Question) -> None:
        """Ask for a chunk."""
        with self._news:
            self._question = question
            self._news.notify_all()

    def take(self) -> Answer | None:
        """What has come since the last call; None without news."""
        with self._news:
            answer, self._answer = self._answer, None
            return answer

    def work(self) -> None:
        """Follow the orders that wait, then answer the question that waits."""
        while (order := self._next_order()) is not None:
            asked_in, follow = order
            self._keep(_tried(follow), asked_in)
        with self._news:
            question, self._question = self._question, None
            asked_in, self._busy = self._round, question is not None
        if question is None:
            return
        try:
            answer = self._answered(question)
        finally:
            with self._news:
                self._busy = False
        self._keep(answer, asked_in)

    def wait(self) -> None:
        """Wait for an order or a question."""
        with self._news:
            self._news.wait_for(lambda: self._orders or self._question is not None)

    def _order(self, order: Callable[[], None]) -> None:
        with self._news:
            self._void()
            self._orders.append((self._round, order))
            self._news.notify_all()

    def _void(self) -> None:
        self._question = self._answer = None
        self._round += 1

    def _next_order(self) -> tuple[int, Callable[[], None]] | None:
        with self._news:
            return self._orders.popleft() if self._orders else None

    def _keep(self, answer: Answer | None, asked_in: int) -> None:
        with self._news:
            if answer is not None and asked_in == self._round:
                self._answer = answer

    def _answered(self, question: Question) -> Answer:
        size, seen = self.policy.image_size, question.observation
        try:
            images = {name: fit_image(seen.images[name], size, ImageFit.pad) for name in self.policy.cameras}
            chunk = self.policy.act(replace(seen, images=images))
        except Exception as error:  # of any kind: the arm holds, and a person reads what happened
            return Answer(problem=_words(error))
        return Answer(chunk=chunk, captured=question.captured)


class ThinkingThread(Thinking):
    """Works in a thread of its own until the process ends."""

    def __init__(self, policy: DrivingPolicy) -> None:
        super().__init__(policy)
        threading.Thread(target=self._run, name="thinking", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.wait()
            self.work()


def _tried(order: Callable[[], None]) -> Answer | None:
    try:
        order()
    except Exception as error:  # as above
        return Answer(problem=_words(error))
    return None


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, EmuRobotError) else f"{type(error).__name__}: {first_line(error)}"
