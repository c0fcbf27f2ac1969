"""Meta-World with small pictures: `env=lerobot:metaworld/TASK,image_size=128`.

LeRobot's environment renders 480 x 480 px at every step, with shadows. This world makes the same environment and takes
the same steps: states, rewards, success, time limit and seeds are LeRobot's, to the bit. It renders when a picture is
asked for, at `image_size`, without shadows and reflections. And it knows the simulator's state: true subtasks, and the
scripted policy of the task as its expert.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from emu_robot.core import Floats, Floats32, Image, Observation, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec
from emu_robot.errors import ShapeError, UnknownNameError
from emu_robot.lerobot.env_names import needed_packages
from emu_robot.lerobot.env_tasks import LeRobotTask
from emu_robot.lerobot.metaworld_subtasks import Progress, progress_of
from emu_robot.robots.spec import ActionKind, RobotLayout

CAMERA = "image"
"""LeRobot's name of its picture."""
N_STATE = 4
"""Leading numbers of Meta-World's observation that LeRobot passes on."""
LARGEST_PICTURE = 480
"""Meta-World's models allow pictures up to this height [px]."""
LAYOUT = RobotLayout(
    state_names=("hand.x", "hand.y", "hand.z", "gripper.pos"),
    action_names=("hand.dx", "hand.dy", "hand.dz", "gripper.pos"),
    n_grippers=1,
    relative_dims=0,
    state_units=("m", "m", "m", "1"),
    action_units=("1", "1", "1", "1"),  # 1 moves the target of the hand by 1 cm
    action_kind=ActionKind.DELTA,
    gripper_open=-1.0,
    gripper_closed=1.0,
)


def metaworld_spec(control_hz: int, image_size: int, versions: Mapping[str, str]) -> EnvironmentSpec:
    """The description of Meta-World's worlds. image_size: height and width of the picture [px]."""
    return EnvironmentSpec(
        control_hz=control_hz,
        cameras={CAMERA: CameraSpec(height=image_size, width=image_size)},
        planner_camera=CAMERA,
        layout=LAYOUT,
        success_rule="Meta-World says so at any step (info success, LeRobot's is_success)",
        versions=versions,
    )


class MetaworldWorld:
    """One task. Pictures are rendered on demand."""

    def __init__(self, task: LeRobotTask, spec: EnvironmentSpec) -> None:
        self.spec, self.task_name = spec, task.name
        with needed_packages(task.config):
            from lerobot.envs.metaworld import MetaworldEnv
        self._gym = MetaworldEnv(task=task.name, **task.config.gym_kwargs)
        self._gym._ensure_env()
        self._raw: Any = self._gym._env
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._state = np.zeros(N_STATE)
        self._progress = self._new_progress()
        plain_light(self._raw.model)

    @property
    def instruction(self) -> str:
        """LeRobot's description of the task."""
        return self._gym.task_description

    @property
    def max_steps(self) -> int:
        """LeRobot's limit."""
        return self._gym._max_episode_steps

    @property
    def subtasks(self) -> tuple[str, ...]:
        return tuple(words for words, _ in self._progress.steps)

    @property
    def subtask_index(self) -> int:
        return self._progress.n_done

    def reset(self, seed: int, *, observe: bool = True) -> Observation:
        self._raw.seed(seed)
        self._state, _ = self._raw.reset(seed=seed)
        self._progress = self._new_progress()
        return self._observation(observe)

    def step(self, action: Floats32, *, observe: bool = True) -> Transition:
        """As LeRobot's. The episode may go on after it has ended, up to the time limit."""
        if action.shape != (len(LAYOUT.action_names),):
            raise ShapeError("action", action.shape, (len(LAYOUT.action_names),))
        self._state, reward, _, truncated, info = self._raw.step(np.asarray(action, np.float32))
        success = bool(info["success"])
        self._progress.update(self._state, success)
        return Transition(
            observation=self._observation(observe),
            success=success,
            subtasks_done=self._progress.done,
            reward=float(reward),
            ended=success or bool(truncated),
        )

    def observe(self) -> Observation:
        return self._observation(True)

    def render(self, camera: str, size: int) -> Image:
        """The picture (size, size, 3), at most 480 px, turned upright as LeRobot turns it."""
        if camera != CAMERA:
            raise UnknownNameError("camera", camera, (CAMERA,))
        size = min(size, LARGEST_PICTURE)
        if size not in self._renderers:
            self._renderers[size] = mujoco.Renderer(self._raw.model, size, size)
        self._renderers[size].update_scene(self._raw.data, self._gym.camera_name)
        return np.ascontiguousarray(self._renderers[size].render()[::-1, ::-1])

    def expert(self) -> "ScriptedExpert":
        """Meta-World's scripted policy for the task."""
        return ScriptedExpert(self)

    def scripted_action(self) -> Floats32:
        """What the scripted policy does now (4,), within the limits [-1, 1] of the actions."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every action beyond the limits
            action = self._gym.expert_policy.get_action(self._state.copy())
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def close(self) -> None:
        while self._renderers:
            self._renderers.popitem()[1].close()
        self._gym.close()

    def _new_progress(self) -> Progress:
        return progress_of(self.task_name, self._gym.expert_policy)

    def _observation(self, observe: bool) -> Observation:
        size = self.spec.cameras[CAMERA].height
        state: Floats = self._state[:N_STATE]
        return Observation(
            images={CAMERA: self.render(CAMERA, size)} if observe else {}, state=state.astype(np.float32)
        )


class ScriptedExpert:
    """Plays the scripted policy, which sees the simulator's state and has no memory."""

    def __init__(self, world: MetaworldWorld) -> None:
        self._world = world

    def action(self) -> Floats32:
        return self._world.scripted_action()


def plain_light(model: mujoco.MjModel) -> None:
    """No shadows and reflections: they take most of the time of a small picture."""
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
