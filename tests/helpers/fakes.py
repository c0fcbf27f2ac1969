"""A one-axis world with most capabilities: objects on a line, a policy that carries them to their places."""

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emu_robot.core import ActionChunk, Observation, PlanStep, PolicyEvent, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.errors import UnknownNameError
from emu_robot.evaluation.config import EvalConfig
from emu_robot.robots.spec import PANDA

COLOURS = {"red cube": (220, 40, 40), "blue can": (40, 60, 220)}


SPEC = EnvironmentSpec(
    control_hz=20,
    cameras={name: CameraSpec(height=128, width=128) for name in ("front", "wrist")},
    planner_camera="front",
    layout=PANDA.layout,
    success_rule="everything is on the plate",
    versions={"fake": "1"},
    failure_kinds={"gave up": "the gripper was open at the end"},
)


class FakeSuite:
    """Three tasks in two groups. `alive` counts the worlds that are open, `opened` lists those that were."""

    spec = SPEC
    tasks = tuple(
        TaskSpec(name=name, group=group) for name, group in (("one", "few"), ("two", "few"), ("both", "many"))
    )
    default_tasks = ("many",)
    alive = 0
    opened: ClassVar[list[str]] = []

    def open(self, task: str, split: str) -> "FakeEnvironment":
        FakeSuite.alive += 1
        assert FakeSuite.alive <= 2, "worlds are closed again"
        FakeSuite.opened.append(task)
        return FakeEnvironment(task)


class FakeEnvironment:
    """Each subtask is done after 10 ticks with the gripper closed while its object is the due one."""

    spec = SPEC
    max_steps = 60

    def __init__(self, task: str) -> None:
        self.task_name = task
        self._names = list(COLOURS)[: 2 if task == "both" else 1]
        self.n_rendered = 0
        self.instruction = "put everything on the plate"

    @property
    def subtasks(self) -> tuple[str, ...]:
        return tuple(f"put the {name} on the plate" for name in self._names)

    def reset(self, seed: int) -> Observation:
        self._rng = np.random.default_rng(seed)
        self._objects = {name: self._rng.uniform(20, 108, 2) for name in COLOURS}
        self._done = [False] * len(self._names)
        self._held, self.is_open = 0, True
        return self.observe()

    @property
    def subtask_index(self) -> int:
        return sum(self._done)

    @property
    def due_object(self) -> str | None:
        return self._names[self.subtask_index] if self.subtask_index < len(self._names) else None

    @property
    def compositions(self) -> tuple[str, ...]:
        return tuple(f"{name}, plate" for name in self._names)

    @property
    def due_composition(self) -> str | None:
        return "red cube, plate" if self.due_object == "red cube" else None

    def step(self, action: np.ndarray, *, observe: bool = True) -> Transition:
        k, self.is_open = self.subtask_index, bool(action[-1] >= 0.5)
        if k < len(self._done):
            self._held = self._held + 1 if action[-1] < 0.5 else 0
            if self._held >= 10:
                self._done[k], self._held = True, 0
                self._objects[self._names[k]] = np.array([64.0, 100.0])
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

    def holds(self, subtask: str) -> bool | None:
        return self._done[self.subtasks.index(subtask)] if subtask in self.subtasks else None

    def failure_watch(self) -> "FakeWatch":
        return FakeWatch(self)

    def object_pixels(self, camera: str) -> dict[str, tuple[float, float] | None]:
        return {name: (float(int(u)), float(int(v))) for name, (u, v) in self._objects.items()}

    def oracle_step(self) -> PlanStep | None:
        if self.due_object is None:
            return None
        saved = dict(self._objects)
        self._objects[self.due_object] = np.array([64.0, 100.0])
        step = PlanStep(subtask=self.subtasks[self.subtask_index], subgoal=self.render())
        self._objects = saved
        return step

    def expert(self) -> "FakeExpert":
        return FakeExpert()

    def close(self) -> None:
        FakeSuite.alive -= 1


class FakeWatch:
    def __init__(self, environment: FakeEnvironment) -> None:
        self._environment = environment

    def after(self, action: np.ndarray) -> None: ...

    def diagnose(self) -> tuple[str, str] | None:
        return ("gave up", "the gripper was open") if self._environment.is_open else None


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
