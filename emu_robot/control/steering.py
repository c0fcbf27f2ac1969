"""The control loop of an arm that gets other instructions while it moves. Knows neither torch nor a simulator."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from emu_robot.control.chunk_broker import ChunkBroker
from emu_robot.control.episode_loop import COMPLETE_PATIENCE, Ending, EpisodeResult, Subscriber
from emu_robot.core import ActionChunk, Policy, PolicyEvent
from emu_robot.environments.capabilities import step_world, with_images
from emu_robot.environments.contract import Environment
from emu_robot.errors import EmuRobotError


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants now."""

    instruction: str = ""
    """Another instruction; empty: hold still."""
    quits: bool = False
    """Whether to end."""
    subtask: str | None = None
    """A subtask in place of the planner's, while the instruction stays; empty: the planner's again. None: no word."""


SUBTASK = "/subtask"
"""Begins a typed line that says the next subtask in place of the planner's."""


def read_subtask(line: str) -> str | None:
    """The words after `/subtask`, empty if there are none; None for another line."""
    command, _, words = line.strip().partition(" ")
    return " ".join(words.split()) if command.casefold() == SUBTASK else None


class Orders(Protocol):
    """Where orders come from."""

    def next(self, tick: int, *, is_over: bool) -> Order | None:
        """The order of this tick, if there is one. is_over: the present instruction is done, or its time is up."""
        ...


class SteeringSubscriber(Subscriber):
    """Watches a steered arm."""

    def on_coach(self, tick: int, subtask: str) -> None:
        """A person said the next subtask; empty: the planner chooses again."""

    def on_problem(self, tick: int, problem: str) -> None:
        """The policy cannot follow the instruction, and holds still."""


def no_pace(tick: int) -> None:
    """Let the ticks follow each other as fast as they can."""


class RealTime:
    """Waits before a tick until its time has come."""

    def __init__(self, control_hz: int) -> None:
        self._period_s = 1 / control_hz
        self._due = time.monotonic()

    def __call__(self, tick: int) -> None:
        self._due += self._period_s
        late_s = time.monotonic() - self._due
        if late_s < 0:
            time.sleep(-late_s)
        else:
            self._due += late_s  # a slow computation delays the ticks after it, which do not hurry


def run_steered(
    environment: Environment,
    policy: Policy,
    seed: int,
    orders: Orders,
    subscribers: Sequence[Subscriber] = (),
    *,
    n_action_steps: int | None = None,
    pace: Callable[[int], None] = no_pace,
) -> EpisodeResult:
    """Begin with the environment's own instruction, and go over to others as they come, until an order quits.

    Another instruction ends the present chunk: the next tick already belongs to a chunk of the new plan. Raises
    `InvalidValueError` for a policy that takes no other instruction, and its error if it cannot even hold still.
    """
    steered = _Steered(environment, policy, subscribers, n_action_steps)
    steered.begin(seed)
    try:
        while True:
            order = orders.next(steered.tick, is_over=steered.is_over)
            if order is not None and order.quits:
                break
            if order is not None and order.subtask is not None:
                steered.coach(order.subtask)
            elif order is not None:
                steered.instruct(order.instruction)
            steered.advance()
            pace(steered.tick)
    finally:  # also after an interrupt: subscribers close their files
        result = steered.end(seed)
    return result


class _Steered:
    """One run of the loop."""

    def __init__(
        self, environment: Environment, policy: Policy, subscribers: Sequence[Subscriber], n_action_steps: int | None
    ) -> None:
        self._environment, self._subscribers = environment, subscribers
        self._broker = ChunkBroker(policy, n_action_steps=n_action_steps)
        self._events: list[tuple[int, PolicyEvent]] = []
        self._done: tuple[bool, ...] = ()
        self._instructed_at = self._n_chunks = self.tick = 0
        self._idle_since: int | None = None
        self._is_held = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is pursued for a while, or the instruction has had the time of an episode."""
        idle = self._idle_since is not None and self.tick - self._idle_since >= COMPLETE_PATIENCE
        return idle or self.tick - self._instructed_at >= self._environment.max_steps

    def begin(self, seed: int) -> None:
        self._observation = self._environment.reset(seed)
        self.instruction = self._environment.instruction
        self._broker.reset(self.instruction)
        for subscriber in self._subscribers:
            subscriber.on_reset(self.instruction, seed, self._observation)

    def instruct(self, instruction: str) -> None:
        self._broker.instruct(instruction)
        self._instructed_at, self._idle_since, self._is_held = self.tick, None, not instruction
        for subscriber in self._subscribers:
            subscriber.on_instruct(self.tick, instruction)

    def coach(self, subtask: str) -> None:
        if self._is_held:
            self._tell_problem("no instruction is followed; give one before a subtask")
            return
        self._broker.coach(subtask)
        self._instructed_at, self._idle_since = self.tick, None
        for subscriber in self._subscribers:
            if isinstance(subscriber, SteeringSubscriber):
                subscriber.on_coach(self.tick, subtask)

    def advance(self) -> None:
        """One control tick."""
        if self._broker.needs_observation:
            self._refill()
        action = self._broker.next_action()
        transition = step_world(self._environment, action, observe=self._broker.needs_observation)
        self._observation, self._done = transition.observation, transition.subtasks_done
        self.tick += 1
        for subscriber in self._subscribers:
            subscriber.on_transition(self.tick, action, transition)

    def _refill(self) -> None:
        self._observation = with_images(self._environment, self._observation)
        chunk = self._ask()
        self._n_chunks += 1
        self._events.extend((self.tick, event) for event in chunk.events)
        if chunk.step is not None:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self.tick
        for subscriber in self._subscribers:
            subscriber.on_chunk(self.tick, self._observation, chunk)

    def _ask(self) -> ActionChunk:
        """The next chunk; one that holds still if the policy cannot follow the instruction."""
        try:
            return self._broker.refill(self._observation)
        except EmuRobotError as error:
            if self._is_held:
                raise
            self._tell_problem(str(error))
            self.instruct("")
            return self._broker.refill(self._observation)

    def _tell_problem(self, problem: str) -> None:
        for subscriber in self._subscribers:
            if isinstance(subscriber, SteeringSubscriber):
                subscriber.on_problem(self.tick, problem)

    def end(self, seed: int) -> EpisodeResult:
        observation = with_images(self._environment, self._observation)
        result = EpisodeResult(
            seed=seed,
            instruction=self.instruction,
            success=False,
            ending=Ending.QUIT,
            n_steps=self.tick,
            n_chunks=self._n_chunks,
            subtasks_done=self._done,
            events=tuple(self._events),
        )
        for subscriber in self._subscribers:
            subscriber.on_end(result, observation)
        return result
