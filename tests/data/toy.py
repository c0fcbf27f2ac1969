"""A two-joint arm with the simulator's interface: touch each target in turn, going home after each."""

import numpy as np

from emu_robot.core import Observation, PlanStep, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.robots.spec import RobotLayout

HOME = np.array([0.0, 0.0])
TARGETS = {"left": np.array([-0.5, 0.2]), "right": np.array([0.5, 0.2]), "up": np.array([0.0, 0.6])}
NAMES = ("x.pos", "y.pos", "gripper.pos")


def view(joints: np.ndarray) -> np.ndarray:
    level = np.append(np.clip(128 + 100 * joints, 0, 255), 7).astype(np.uint8)
    return np.broadcast_to(level, (16, 16, 3)).copy()


class ToyExpert:
    def __init__(self, env: "ToyEnvironment") -> None:
        self._env = env

    def action(self) -> np.ndarray:
        env = self._env
        goal = HOME if env.subtask_index == len(env.names) or env.touched else TARGETS[env.names[env.subtask_index]]
        return np.array([*goal, 1.0], np.float32)


SPEC = EnvironmentSpec(
    control_hz=20,
    cameras={name: CameraSpec(height=16, width=16) for name in ("front", "wrist")},
    planner_camera="front",
    layout=RobotLayout(state_names=NAMES, action_names=NAMES, n_grippers=1, relative_dims=2),
    success_rule="every target was touched",
    versions={"toy arm": "1"},
)


class ToySuite:
    spec, default_tasks = SPEC, ("all",)
    tasks = (TaskSpec(name="touch", group="touch"), TaskSpec(name="tap", group="touch"))

    def open(self, task: str, split: str) -> "ToyEnvironment":
        return ToyEnvironment(task)


class ToyEnvironment:
    spec, max_steps = SPEC, 80

    def __init__(self, task: str = "touch") -> None:
        self.task_name = task

    def reset(self, seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        self.names = tuple(rng.permutation(sorted(TARGETS))[: rng.integers(1, 3)].tolist())
        self.is_impossible = seed % 7 == 3
        self.joints = rng.normal(scale=0.05, size=2)
        self.subtask_index, self.touched = 0, False
        return self.observe()

    @property
    def instruction(self) -> str:
        return "touch " + " then ".join(self.names)

    @property
    def subtasks(self) -> tuple[str, ...]:
        return tuple(f"touch {name}" for name in self.names)

    def expert(self) -> ToyExpert:
        return ToyExpert(self)

    def oracle_step(self) -> PlanStep | None:
        if self.subtask_index == len(self.names):
            return None
        return PlanStep(subtask=f"touch {self.names[self.subtask_index]}", subgoal=view(HOME))

    def observe(self) -> Observation:
        front = view(self.joints)
        return Observation(images={"front": front, "wrist": 255 - front}, state=self._state())

    def step(self, action: np.ndarray, *, observe: bool = True) -> Transition:
        self.joints = self.joints + 0.4 * (action[:2] - self.joints)
        if self.subtask_index < len(self.names):
            target = TARGETS[self.names[self.subtask_index]]
            self.touched = self.touched or bool(np.abs(self.joints - target).max() < 0.06 and not self.is_impossible)
            if self.touched and np.abs(self.joints - HOME).max() < 0.06:
                self.subtask_index, self.touched = self.subtask_index + 1, False
        done = tuple(i < self.subtask_index for i in range(len(self.names)))
        observation = self.observe() if observe else Observation(images={}, state=self._state())
        return Transition(observation=observation, success=all(done), subtasks_done=done)

    def _state(self) -> np.ndarray:
        return np.array([*self.joints, 1.0], np.float32)

    def close(self) -> None:
        self.joints = np.full(2, np.nan)
