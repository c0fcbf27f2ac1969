"""A policy that moves a fake arm's first joint, says what it wants, and fails when told."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from fake_arm import JOINTS, FakeArm

from emu_robot.core import ActionChunk, Floats, Image, Observation, PlanStep, PolicyEvent
from emu_robot.errors import EmuRobotError

SPEED = 0.2
"""Of the first joint [rad/s]."""
HORIZON = 16


class PicturedArm(FakeArm):
    """Its pictures have the time of the last command. frozen: whether no more come."""

    def __init__(self) -> None:
        super().__init__(share=0.8)
        self.pictured_at, self.frozen = 0.0, False

    def pictures(self) -> tuple[Mapping[str, Image], float] | None:
        return {"front": np.full((8, 8, 3), 99, np.uint8)}, self.pictured_at

    def command(self, position: Floats, now: float) -> None:
        super().command(position, now)
        self.pictured_at = self.pictured_at if self.frozen else now


class WalkingPolicy:
    """Each instruction has the subtasks of `script`, one after the other, each reached after `lasts` chunks.

    heard: (method, argument) of all calls but `act`. seen: the states that were shown. fails: message of the next
    error. sleeps_s: time that the next chunks take. speed: of the first joint [per s], in the arm's own numbers.
    """

    control_hz, n_action_steps, image_size = 20, 8, 8
    cameras: tuple[str, ...] = ("front",)
    action_names: tuple[str, ...] = (*(f"joint{i}" for i in range(JOINTS)), "gripper")

    def __init__(self, script: Sequence[str] = ("open it", "close it"), lasts: int = 4, speed: float = SPEED) -> None:
        self._script, self._lasts, self._speed = tuple(script), lasts, speed
        self.heard: list[tuple[str, str]] = []
        self.seen: list[np.ndarray] = []
        self.fails, self.sleeps_s, self.grip = "", 0.0, 1.0
        self._k, self._left, self._given = 0, 0, ""

    def reset(self, instruction: str) -> None:
        self.heard.append(("reset", instruction))
        self._k, self._left, self._given = 0, 0, ""

    def coach(self, subtask: str) -> None:
        self.heard.append(("coach", subtask))
        self._given, self._left = subtask, 0

    def act(self, observation: Observation) -> ActionChunk:
        time.sleep(self.sleeps_s)
        if self.fails:
            raise EmuRobotError(self.fails)
        self.seen.append(observation.state.copy())
        events: tuple[PolicyEvent, ...] = ()
        if self._left == 0:
            events, self._left = (PolicyEvent.PLANNED,), self._lasts
        words = self._given or self._script[self._k % len(self._script)]
        self._left -= 1
        if self._left == 0:
            events = (*events, PolicyEvent.SWITCHED)
            self._k, self._given = self._k + (not self._given), ""
        times = (np.arange(HORIZON) + 1) / self.control_hz
        actions = np.repeat(observation.state[None], HORIZON, axis=0)
        actions[:, 0] += self._speed * times
        actions[:, -1] = self.grip
        return ActionChunk(actions=actions.astype(np.float32), step=PlanStep(subtask=words), events=events)
