"""A one-axis world with the tabletop's interface: objects on a line, a policy that carries them to their places."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.core import ActionChunk, Observation, PlanStep, PolicyEvent, Transition
from emu_robot.errors import UnknownNameError
from emu_robot.evaluation.config import EvalConfig, LayoutsConfig

COLOURS = {"red cube": (220, 40, 40), "blue can": (40, 60, 220)}


@dataclass(frozen=True)
class FakeSubtask:
    object: str

    @property
    def text(self) -> str:
        return f"put the {self.object} on the plate"


@dataclass(frozen=True)
class FakeTask:
    family: str
    subtasks: tuple[FakeSubtask, ...]


class FakeEnvironment:
    """Each subtask is done after 10 ticks with the gripper closed while its object is the due one."""

    control_hz = 20
    max_steps = 60

    def __init__(self, family: str) -> None:
        names = list(COLOURS)[: 1 if family == "pick_place" else 2]
        self.task = FakeTask(family, tuple(FakeSubtask(name) for name in names))
        self.n_rendered = 0
        self.instruction = "put everything on the plate"

    def reset(self, seed: int) -> Observation:
        self._rng = np.random.default_rng(seed)
        self._objects = {name: self._rng.uniform(20, 108, 2) for name in COLOURS}
        self._done = [False] * len(self.task.subtasks)
        self._held = 0
        return self.observe()

    @property
    def subtask_index(self) -> int:
        return sum(self._done)

    @property
    def current_subtask(self) -> str | None:
        k = self.subtask_index
        return self.task.subtasks[k].text if k < len(self._done) else None

    def step(self, action: np.ndarray, observe: bool = True) -> Transition:
        k = self.subtask_index
        if k < len(self._done):
            self._held = self._held + 1 if action[-1] < 0.5 else 0
            if self._held >= 10:
                self._done[k], self._held = True, 0
                self._objects[self.task.subtasks[k].object] = np.array([64.0, 100.0])
        observation = self.observe() if observe else Observation(images={}, state=np.zeros(8, np.float32))
        return Transition(observation=observation, success=all(self._done), subtasks_done=tuple(self._done))

    def observe(self) -> Observation:
        self.n_rendered += 1
        images = {camera: self.render(camera) for camera in ("front", "wrist")}
        return Observation(images=images, state=np.zeros(8, np.float32))

    def render(self, camera: str = "front", size: int = 128) -> np.ndarray:
        image = np.full((128, 128, 3), 170, np.uint8)
        for name, (u, v) in self._objects.items():
            image[int(v) - 5 : int(v) + 6, int(u) - 5 : int(u) + 6] = COLOURS[name]
        return np.ascontiguousarray(np.kron(image, np.ones((size // 128, size // 128, 1), np.uint8)))

    def facts(self) -> dict[str, Any]:
        due = self.task.subtasks[self.subtask_index].object if self.current_subtask else None
        return {
            "objects": {name: np.array([*uv, 0.0]) / 100 for name, uv in self._objects.items()},
            "grasped": due if self._held > 2 else None,
            "subtask": self.current_subtask,
        }

    def object_pixels(self, camera: str) -> dict[str, tuple[float, float] | None]:
        return {name: (float(int(u)), float(int(v))) for name, (u, v) in self._objects.items()}

    def oracle_step(self) -> PlanStep | None:
        if self.current_subtask is None:
            return None
        saved = dict(self._objects)
        self._objects[self.task.subtasks[self.subtask_index].object] = np.array([64.0, 100.0])
        step = PlanStep(subtask=self.current_subtask, subgoal=self.render())
        self._objects = saved
        return step

    def expert(self) -> "FakeExpert":
        return FakeExpert()


class FakeExpert:
    def action(self) -> np.ndarray:
        return np.zeros(8, np.float32)


class FakePolicy:
    """Follows the subgoal source; after a seeded number of chunks it gives up with the gripper open."""

    def __init__(self, source: Any, reliability: float) -> None:
        self._source, self._reliability = source, reliability
        self.seed(0)

    def seed(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def reset(self, instruction: str) -> None:
        self._works = self._rng.random() < self._reliability

    def act(self, observation: Observation) -> ActionChunk:
        step = self._source()
        actions = np.zeros((5, 8), np.float32) if self._works else np.ones((5, 8), np.float32)
        return ActionChunk(actions=actions, step=step, events=(PolicyEvent.PLANNED,))


def make_environment(config: LayoutsConfig, family: str) -> FakeEnvironment:
    return FakeEnvironment(family)


def make_policy(config: EvalConfig, subgoal_source: Any) -> FakePolicy:
    return FakePolicy(subgoal_source, reliability=0.6)


def no_policy(config: EvalConfig, subgoal_source: Any) -> FakePolicy:
    raise UnknownNameError("policy", "nothing", ["fake"])


class Mortal:
    """A runner whose process dies at piece `deadly`: once at piece 2 (while `alive` exists), or always."""

    def __init__(self, alive: Path, deadly: int = 2) -> None:
        self._alive, self._deadly = alive, deadly

    def run(self, index: int) -> int:
        if index == self._deadly and (self._deadly == 0 or self._alive.exists()):
            self._alive.unlink(missing_ok=True)
            os._exit(1)
        return index

    def close(self) -> None: ...
