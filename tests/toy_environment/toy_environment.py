"""A point on a plane that is to be moved to a mark: the smallest environment that can be evaluated, with an expert."""

import numpy as np

from emu_robot.core import Image, Observation, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec, TaskSpec
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.spec import ActionKind, RobotLayout

SIZE, REACHED = 32, 0.05
MARKS = {"left": (-0.7, 0.0), "right": (0.7, 0.0), "top left": (-0.7, 0.7), "top right": (0.7, 0.7)}
SPEC = EnvironmentSpec(
    control_hz=10,
    cameras={"overhead": CameraSpec(height=SIZE, width=SIZE)},
    planner_camera="overhead",
    layout=RobotLayout(
        state_names=("x", "y"),
        action_names=("dx", "dy"),
        n_grippers=0,
        relative_dims=0,
        state_units=("m", "m"),
        action_units=("m", "m"),
        action_kind=ActionKind.DELTA,
    ),
    success_rule="the point is within 5 cm of the mark at any step",
    versions={"toy": "1"},
)


class ToySuite:
    spec = SPEC
    tasks = tuple(TaskSpec(name=name, group="corners" if " " in name else "sides") for name in MARKS)
    default_tasks = ("all",)

    def open(self, task: str, split: str) -> "ToyEnvironment":
        return ToyEnvironment(task)


class ToyEnvironment:
    spec = SPEC

    def __init__(self, task: str) -> None:
        self.task_name, self.instruction = task, f"go to the {task}"
        self.max_steps = 20 if " " in task else 15
        self.mark = self.point = np.zeros(2)

    def reset(self, seed: int) -> Observation:
        rng = np.random.default_rng(seed)
        self.mark = np.array(MARKS[self.task_name]) + rng.uniform(-0.1, 0.1, 2)
        self.point = rng.uniform(-0.2, 0.2, 2)
        return self._observe()

    def step(self, action: np.ndarray) -> Transition:
        if action.shape != (2,):
            raise ShapeError("action", action.shape, "(2,)")
        if not np.isfinite(action).all():
            raise InvalidValueError(f"action is not finite: {action.tolist()}")
        self.point = np.clip(self.point + np.clip(action, -0.1, 0.1), -1.0, 1.0)
        reached = bool(np.linalg.norm(self.mark - self.point) < REACHED)
        return Transition(observation=self._observe(), success=reached, subtasks_done=())

    def expert(self) -> "ToyExpert":
        return ToyExpert(self)

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        image: Image = np.full((SIZE, SIZE, 3), 200, np.uint8)
        for where, colour in ((self.mark, (40, 160, 60)), (self.point, (200, 40, 40))):
            column, row = ((where * (1, -1) + 1) / 2 * (SIZE - 3)).astype(int)
            image[row : row + 3, column : column + 3] = colour
        return Observation(images={"overhead": image}, state=self.point.astype(np.float32))


class ToyExpert:
    def __init__(self, environment: ToyEnvironment) -> None:
        self._environment = environment

    def action(self) -> np.ndarray:
        way = self._environment.mark - self._environment.point
        return (way * min(1.0, 0.1 / max(float(np.linalg.norm(way)), 1e-9))).astype(np.float32)
