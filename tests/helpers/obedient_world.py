"""A world whose arm is where it was told to be, and a policy that plays a script of chunks."""

from collections.abc import Sequence

import numpy as np

from emu_robot.core import ActionChunk, Floats32, Observation, PlanStep, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec
from emu_robot.robots.spec import PANDA

HOME = np.array([*PANDA.home, 1.0], np.float32)


class ObedientWorld:
    """Success at tick 24. Renders on demand; told: the actions that it got; rendered: ticks that had pictures."""

    spec = EnvironmentSpec(
        control_hz=20,
        cameras={"front": CameraSpec(height=128, width=128)},
        planner_camera="front",
        layout=PANDA.layout,
        success_rule="24 ticks are over",
        versions={},
    )
    task_name, instruction, max_steps = "wait", "wait for a while", 40

    def reset(self, seed: int, *, observe: bool = True) -> Observation:
        self._state, self.told, self.rendered = HOME.copy(), list[Floats32](), list[int]()
        return self.observe()

    def observe(self) -> Observation:
        self.rendered.append(len(self.told))
        return Observation(images={"front": np.full((128, 128, 3), len(self.told), np.uint8)}, state=self._state)

    def step(self, action: Floats32, *, observe: bool = True) -> Transition:
        self.told.append(action.copy())
        self._state = action.astype(np.float32)
        seen = self.observe() if observe else Observation(images={}, state=self._state)
        done = len(self.told) >= 24
        return Transition(observation=seen, success=done, subtasks_done=(len(self.told) >= 8, done))

    def close(self) -> None:
        """Nothing to release."""


class ScriptedPolicy:
    """Gives the chunks of its script, then the last one again and again. further: what it foresees."""

    def __init__(self, script: Sequence[ActionChunk], further: Sequence[PlanStep] = ()) -> None:
        self._script, self.further, self.asked = list(script), tuple(further), 0

    def reset(self, instruction: str) -> None:
        self.asked = 0

    def act(self, observation: Observation) -> ActionChunk:
        self.asked += 1
        return self._script[min(self.asked, len(self._script)) - 1]

    def foresee(self, observation: Observation) -> tuple[PlanStep, ...]:
        return self.further


def towards(turn: float, ticks: int = 16) -> Floats32:
    """(T, 8) actions that turn the first joint by `turn` [rad] in steady steps."""
    actions = np.repeat(HOME[None], ticks, axis=0)
    actions[:, 0] += np.linspace(turn / ticks, turn, ticks)
    return actions
