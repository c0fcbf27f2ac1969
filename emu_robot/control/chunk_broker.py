"""Plays action chunks one action per control tick. Knows no torch, no simulator and no plan."""

import numpy as np

from emu_robot.core import ActionChunk, Coachable, Floats32, Observation, Policy, Steerable
from emu_robot.errors import InvalidValueError, ShapeError


class ChunkBroker:
    """Asks a policy for chunks and hands out their actions."""

    def __init__(self, policy: Policy, *, n_action_steps: int | None = None) -> None:
        """n_action_steps: number of actions of each chunk that are executed, at least 1; None means all."""
        if n_action_steps is not None and n_action_steps < 1:
            raise InvalidValueError(f"n_action_steps is {n_action_steps}; it must be at least 1")
        self._policy = policy
        self._n_action_steps = n_action_steps
        self._pending: list[Floats32] = []

    @property
    def needs_observation(self) -> bool:
        """Whether the next tick needs a new chunk, and so a full observation."""
        return not self._pending

    def reset(self, instruction: str) -> None:
        """Drop the rest of the last chunk and start the policy on an instruction."""
        if not instruction.strip():
            raise InvalidValueError("the instruction is empty")
        self._pending = []
        self._policy.reset(instruction)

    def instruct(self, instruction: str) -> None:
        """Drop the rest of the last chunk and go over to another instruction; empty: hold still.

        Raises `InvalidValueError` if the policy cannot change its instruction.
        """
        if not isinstance(self._policy, Steerable):
            raise InvalidValueError(f"{type(self._policy).__name__} takes no other instruction while the robot moves")
        self._pending = []
        self._policy.instruct(instruction)

    def coach(self, subtask: str) -> None:
        """Drop the rest of the last chunk and pursue this subtask; empty: plan again.

        Raises `InvalidValueError` if the policy takes no subtask.
        """
        if not isinstance(self._policy, Coachable):
            raise InvalidValueError(f"{type(self._policy).__name__} takes no subtask in other words")
        self._pending = []
        self._policy.coach(subtask)

    def refill(self, observation: Observation) -> ActionChunk:
        """Ask for the next chunk. Raises `ShapeError` or `InvalidValueError` if it cannot be executed."""
        chunk = self._policy.act(observation)
        actions = chunk.actions
        if actions.ndim != 2 or len(actions) == 0:
            raise ShapeError("actions of a chunk", actions.shape, "(T >= 1, A)")
        if not np.isfinite(actions).all():
            raise InvalidValueError("the policy produced an action that is not finite")
        self._pending = list(actions[: self._n_action_steps])
        return chunk

    def next_action(self) -> Floats32:
        """The action (A,) of this tick. Call `refill` first if `needs_observation`."""
        if not self._pending:
            raise InvalidValueError("no action left: refill the broker with an observation first")
        return self._pending.pop(0)
