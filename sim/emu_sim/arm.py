"""The arm of a tabletop for teleoperation: its physics follows the wall clock, at any rate of commands."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from emu_robot.core import Floats, Image
from emu_robot.robots.bodies import Body
from emu_robot.robots.deployment import read_deployment
from emu_robot.robots.spec import PANDA
from emu_sim.model_kinematics import ModelKinematics
from emu_sim.picture_thread import PictureThread
from emu_sim.surfaces import Surfaces
from emu_sim.world import SUBSTEP_S

if TYPE_CHECKING:
    from emu_sim.environment import TabletopEnvironment

LONGEST_S = 0.1
"""Physics made up for after a delay of the caller [s]; the rest of the time stands still."""


class TabletopArm:
    """The Panda of an open environment. Physics runs in `command` alone, for the time since the command before."""

    name = PANDA.name
    is_simulated = True
    layout = PANDA.layout

    def __init__(self, environment: "TabletopEnvironment", image_size: int = PANDA.image_size) -> None:
        """image_size: height and width of the pictures [px]."""
        self._environment = environment
        self._pictures = PictureThread(environment.world, environment.cameras, image_size)
        self.cameras: Mapping[str, tuple[int, int]] = dict.fromkeys(environment.cameras, (image_size, image_size))
        self.limits = read_deployment("panda_sim").limits
        self.home: Floats = np.array(PANDA.home)
        world = environment.world
        self.kinematics = ModelKinematics(world.model, world.model.site("pinch").id, world.qpos_index, world.dof_index)
        self.bodies: tuple[Body, ...] = ()
        self._surfaces, self._shown = Surfaces(world.model), []
        self._commanded_at: float | None = None
        self._left_s = 0.0

    @property
    def success(self) -> bool:
        """Whether the instruction of the scene is fulfilled."""
        return self._environment.success

    def new_scene(self, seed: int, now: float) -> tuple[str, tuple[str, ...]]:
        """Lay the scene of a seed, with the arm at home at once. Returns the instruction and its subtasks."""
        self._environment.reset(seed, observe=False)
        self._commanded_at, self._left_s = None, 0.0
        self._pictures.new_scene(now)
        self._shown, self.bodies = self._surfaces.bodies(self._environment.world.data)
        return self._environment.instruction, self._environment.subtasks

    def state(self, now: float) -> tuple[Floats, float]:
        """The position (8,) now."""
        world = self._environment.world
        return np.append(world.joints, world.gripper_opening), 0.0

    @property
    def body_poses(self) -> Floats:
        """(B, 7) place [m] and quaternion of each of the bodies."""
        data = self._environment.world.data
        return np.hstack([data.xpos[self._shown], data.xquat[self._shown]])

    def pictures(self) -> tuple[Mapping[str, Image], float] | None:
        """The last pictures that were rendered, and their time; None before the first scene."""
        return self._pictures.newest

    def command(self, position: Floats, now: float) -> None:
        """Run the physics up to `now` towards targets (8,)."""
        elapsed = 0.0 if self._commanded_at is None else min(max(now - self._commanded_at, 0.0), LONGEST_S)
        self._commanded_at = now
        self._left_s += elapsed
        substeps = int(self._left_s / SUBSTEP_S)
        if substeps:
            self._left_s -= substeps * SUBSTEP_S
            self._environment.advance(position, substeps)
        self._pictures.show(now)

    def close(self) -> None:
        """Release the environment and its cameras."""
        self._pictures.close()
        self._environment.close()
