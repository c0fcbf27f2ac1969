"""The control loop of one environment, one policy and any subscribers. Knows neither torch nor a simulator."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from emu_robot.control.chunk_broker import ChunkBroker
from emu_robot.core import ActionChunk, Floats32, Observation, Policy, PolicyEvent, Transition
from emu_robot.environments.capabilities import step_world, with_images
from emu_robot.environments.contract import Environment

COMPLETE_PATIENCE = 80
"""Control ticks that the episode goes on after the policy declared the task complete."""


class Ending(Enum):
    """Why an episode ended."""

    SUCCESS = "success"
    COMPLETE = "complete"
    MAX_STEPS = "max_steps"
    ENDED = "ended"
    QUIT = "quit"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeResult:
    """Result of one episode."""

    seed: int
    """Seed of the scene."""
    instruction: str
    """The task in words."""
    success: bool
    """Whether the task's predicate held at some tick."""
    ending: Ending
    """Why the episode ended. `COMPLETE`: the policy declared the task complete, but the predicate did not hold.
    `ENDED`: the environment ended it before the step limit. `QUIT`: a person ended it, see `steering`."""
    n_steps: int
    """Tick of success, or the number of ticks of the episode."""
    n_chunks: int
    """Number of chunks that the policy gave."""
    subtasks_done: tuple[bool, ...]
    """Per subtask, whether it was done at some tick; all of them on success."""
    events: tuple[tuple[int, PolicyEvent], ...] = field(default=())
    """(tick, event) in order, as the policy reported them."""
    rewards: tuple[float, ...] = field(default=())
    """The environment's rewards, one per tick until the end; empty without any."""
    policy_s: float = 0.0
    """Wall-clock time spent in the policy [s]."""
    wall_s: float = 0.0
    """Wall-clock time of the whole episode [s]."""


class Subscriber:
    """Watches an episode; override the methods you need. Ticks count executed actions, 0 before the first."""

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        """The episode starts."""

    def on_instruct(self, tick: int, instruction: str) -> None:
        """The policy got another instruction at this tick; an empty one lets it hold still."""

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        """The policy answered an observation with a chunk that starts at this tick."""

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        """The action was executed. The observation has images only if the next tick needs them."""

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        """The episode is over. The observation has images."""


def run_episode(
    environment: Environment,
    policy: Policy,
    seed: int,
    subscribers: Sequence[Subscriber] = (),
    *,
    n_action_steps: int | None = None,
    settle_steps: int = 0,
    reset: Callable[[int], Observation] | None = None,
) -> EpisodeResult:
    """Run one episode until the task's predicate holds, the policy declares it complete, or `max_steps` are used up.

    settle_steps: most ticks that a successful episode goes on until every subtask is done (the tabletop's arm is home
    then). They serve pictures and do not change the result. reset: begins the episode of the seed in place of the
    environment's own method.
    An environment that renders on demand is asked for pictures only when the policy needs an observation. One that ends
    its episodes itself is played to that end, also after a success.
    """
    started = time.monotonic()
    observation = (reset or environment.reset)(seed)
    instruction = environment.instruction
    broker = ChunkBroker(policy, n_action_steps=n_action_steps)
    broker.reset(instruction)
    for subscriber in subscribers:
        subscriber.on_reset(instruction, seed, observation)

    events: list[tuple[int, PolicyEvent]] = []
    rewards: list[float] = []
    n_chunks, policy_s = 0, 0.0
    declared_complete: int | None = None
    succeeded_at: int | None = None
    tick, limit, ending = 0, environment.max_steps, Ending.MAX_STEPS
    subtasks_done: tuple[bool, ...] = ()
    while tick < limit:
        if broker.needs_observation:
            before = time.monotonic()
            chunk = broker.refill(observation)
            policy_s += time.monotonic() - before
            n_chunks += 1
            events.extend((tick, event) for event in chunk.events)
            declared_complete = _declared_complete(declared_complete, tick, chunk)
            for subscriber in subscribers:
                subscriber.on_chunk(tick, observation, chunk)
        action = broker.next_action()
        transition = step_world(environment, action, observe=broker.needs_observation)
        observation, subtasks_done = transition.observation, transition.subtasks_done
        tick += 1
        for subscriber in subscribers:
            subscriber.on_transition(tick, action, transition)
        if transition.reward is not None and (succeeded_at is None or transition.ended is not None):
            rewards.append(transition.reward)
        if transition.success and succeeded_at is None:
            succeeded_at, ending = tick, Ending.SUCCESS
            limit = tick + settle_steps if transition.ended is None else limit
        if transition.ended:
            ending = ending if succeeded_at is not None or tick == limit else Ending.ENDED
            break
        if succeeded_at is not None:
            if transition.ended is None and all(subtasks_done):
                break
        elif declared_complete is not None and tick - declared_complete >= COMPLETE_PATIENCE:
            ending = Ending.COMPLETE
            break

    observation = with_images(environment, observation)
    result = EpisodeResult(
        seed=seed,
        instruction=instruction,
        success=succeeded_at is not None,
        ending=ending,
        n_steps=tick if succeeded_at is None else succeeded_at,
        n_chunks=n_chunks,
        subtasks_done=tuple(done or succeeded_at is not None for done in subtasks_done),
        events=tuple(events),
        rewards=tuple(rewards),
        policy_s=policy_s,
        wall_s=time.monotonic() - started,
    )
    for subscriber in subscribers:
        subscriber.on_end(result, observation)
    return result


def _declared_complete(since: int | None, tick: int, chunk: ActionChunk) -> int | None:
    """Tick of the policy's standing declaration that the task is complete; a new plan step withdraws it."""
    if PolicyEvent.COMPLETE in chunk.events:
        return tick if since is None else since
    return None if PolicyEvent.PLANNED in chunk.events else since
