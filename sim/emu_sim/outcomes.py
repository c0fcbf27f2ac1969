"""What subtasks leave on the table, without physics: objects are placed where executed demonstrations leave them.

The spreads were measured on demonstrations with the noise of `emu-robot collect`, as offsets from the expert's goals.
"""

from typing import NamedTuple

import numpy as np

from emu_robot.core import Floats
from emu_robot.robots.spec import PANDA
from emu_sim.experts import PUSH_Z, free_spot
from emu_sim.grammar import DRAWER, Subtask, shape_of
from emu_sim.kinematics import joint_target
from emu_sim.layout import HAND_Y, MAX_YAW, TABLE_X, TABLE_Y, Layout, apart
from emu_sim.scene import DRAWER_TRAVEL, SHAPES
from emu_sim.world import SUBSTEPS, World, base_height

OFFSET = {"put": (-0.005, 0.0), "stack": (-0.004, 0.0), "push": (0.0, 0.0)}
"""Kind of step -> mean distance of the object from its goal along x and y [m]."""
SPREAD = {"put": (0.0065, 0.0063), "stack": (0.006, 0.005), "push": (0.017, 0.025)}
"""Kind of step -> standard deviation of that distance along x and y [m]."""
YAW_SPREAD = 0.035
"""Standard deviation of the yaw of an object with flat sides after a grasp, which aligns it with the fingers [rad]."""
OPENING = {"open": (0.130, 0.004), "close": (0.001, 0.001)}
"""Kind of step -> mean and standard deviation of the drawer's opening [m]."""
HOME = (np.array([0, 0.099, 0, 0.002, 0, 0, 0]), 0.01)
HOME_DISTURBED = (np.array([0, 0.062, 0, -0.028, 0, 0.041, 0]), 0.044)
HOME_LIMIT, DISTURBED_SHARE = 0.12, 0.25
"""Joints beside home at a keyframe: mean and standard deviation without and after disturbances, limit [rad], and the
share of the latter."""
DROP_GAP = (0.06, 0.075)
"""Least distance of a dropped object from others along x and y [m]."""
IK_STEPS, IK_STEP = 25, 0.05
"""Iterations of the inverse kinematics, and the hand's way in one of them [m]."""
OPENING_PER_WIDTH = 10.0
"""Opening of a gripper that holds an object, per width of the object [1/m]."""


class Outcomes:
    """Moves a world from one moment of an episode to another. Every draw comes from `rng`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._gripper = _gripper_poses(world)
        self._on: dict[str, str] = {}

    def begin(self, layout: Layout, rng: np.random.Generator) -> None:
        """Lay the first scene, arm at home."""
        self.world.reset(layout, settle=False)
        self._on, self._rng = dict(layout.on), rng

    @property
    def on(self) -> dict[str, str]:
        """Object -> receptacle or object that it lies on; those that it lacks lie on the table."""
        return dict(self._on)

    def complete(self, step: Subtask) -> None:
        """Leave what the subtask leaves, arm at home."""
        if step.object is None:
            self._move_drawer(abs(self._rng.normal(*OPENING[step.kind])))
        else:
            aside = self._rng.normal(OFFSET[step.kind], SPREAD[step.kind])
            yaw = None if step.kind == "push" else self._rng.normal(scale=YAW_SPREAD)
            self._put(step.object, self._goal(step) + np.array([*aside, 0.0]), yaw)
            self._on[step.object] = str(step.target)
        self._to_home()

    def nothing(self) -> None:
        """Leave all as it is, arm at home: the attempt did not even touch the object."""
        self._to_home()

    def drop(self, step: Subtask) -> bool:
        """Leave the object of the step on the table on its way, or the drawer half open. False if there is no room."""
        if step.object is None:
            self._move_drawer(self._rng.uniform(0.3, 0.7) * DRAWER_TRAVEL)
            self._to_home()
            return True
        start, goal = self.world.objects[step.object].pos, self._goal(step)
        others = [thing.pos for name, thing in self.world.objects.items() if name != step.object]
        others += [self.world.place_pos(name) for name in self.world.places]
        for _ in range(10):
            xy = start[:2] + self._rng.uniform(0.3, 1.2) * (goal - start)[:2] + self._rng.normal(scale=0.02, size=2)
            inside = TABLE_X[0] < xy[0] < TABLE_X[1] and HAND_Y[0] < xy[1] < TABLE_Y[1]
            if inside and apart(xy, others, DROP_GAP):
                self._on.pop(step.object, None)
                self._put(step.object, np.array([*xy, 0.0]), self._rng.uniform(-MAX_YAW, MAX_YAW))
                self._to_home()
                return True
        return False

    def hover(self, step: Subtask) -> None:
        """Show the arm near what the step moves, with the gripper open."""
        world = self.world
        near = world.knob_pos if step.object is None else world.objects[step.object].pos
        aside = self._rng.normal(scale=0.02, size=2)
        self._hand_to(near + np.array([*aside, self._rng.uniform(0.03, 0.15)]), 1.0)

    def reach(self, step: Subtask) -> None:
        """Show the arm at some moment of the step, over the object or with it in hand. The next call replaces it."""
        rng, world = self._rng, self.world
        if step.object is None:
            self._hand_to(world.knob_pos + np.array([0, 0, rng.uniform(0, 0.12)]), 0.2 if rng.random() < 0.5 else 1.0)
            return
        thing, goal = world.objects[step.object], self._goal(step)
        share = rng.random()
        if step.kind == "push" or share < 0.5:
            above = 0.12 * max(0.0, rng.uniform(-0.5, 1.0))
            beside = rng.normal(scale=0.03 if above else 0.004, size=2)
            height = PUSH_Z if step.kind == "push" else thing.pos[2] + 0.003
            back = 0.07 * (goal - thing.pos)[:2] / max(np.linalg.norm((goal - thing.pos)[:2]), 1e-6)
            xy = thing.pos[:2] + beside - (back if step.kind == "push" else 0.0)
            self._hand_to(np.array([*xy, height + above]), 0.0 if step.kind == "push" else 1.0)
            return
        way = 2 * share - 1  # with the object in hand
        across = (goal - thing.pos)[:2]
        height = goal[2] + thing.half_height + min(0.12, 2.5 * min(way, 1 - way) * float(np.linalg.norm(across)))
        width = SHAPES[shape_of(step.object)].width
        self._hand_to(np.array([*(thing.pos[:2] + way * across), height]), OPENING_PER_WIDTH * width)
        hand = world.pinch_pos
        world.lay(step.object, hand[0], hand[1], hand[2] - thing.half_height - 0.003, 0.0)
        world.place()

    def _goal(self, step: Subtask) -> Floats:
        """(3,) [m] where the expert aims, on the surface below."""
        name, target = str(step.object), str(step.target)
        if step.kind == "stack":
            base = self.world.objects[target]
            return base.pos + np.array([0, 0, base.half_height])
        centre = self.world.place_pos(target) if step.kind == "push" else free_spot(self.world, name, target)
        return np.array([*centre[:2], base_height({name: target}, name)])

    def _put(self, name: str, place: Floats, yaw: float | None) -> None:
        """Lay the object with its underside at `place` (3,) [m], turned by `yaw` [rad]; None: as it was."""
        turn = self.world.yaw(name) if yaw is None else float(yaw)
        self.world.lay(name, float(place[0]), float(place[1]), float(place[2]), turn)

    def _move_drawer(self, opening: float) -> None:
        """Slide the drawer with all that lies in it."""
        self.world.slide_drawer(opening, [name for name, place in self._on.items() if place == DRAWER])

    def _to_home(self) -> None:
        """Bring the arm home, as exactly as executed episodes have it at keyframes."""
        mean, spread = HOME_DISTURBED if self._rng.random() < DISTURBED_SHARE else HOME
        beside = np.clip(self._rng.normal(mean, spread), -HOME_LIMIT, HOME_LIMIT)
        self.world.pose(np.array(PANDA.home) + beside, self._gripper[0].joints)

    def _hand_to(self, goal: Floats, opening: float) -> None:
        """Bring the pinch point to goal (3,) [m]."""
        world = self.world
        gripper = min(self._gripper, key=lambda pose: abs(pose.opening - opening)).joints
        world.pose(np.array(PANDA.home), gripper)
        for _ in range(IK_STEPS):
            way = goal - world.pinch_pos
            world.pose(joint_target(world, way * min(1.0, IK_STEP / max(float(np.linalg.norm(way)), 1e-9))), gripper)


class GripperPose(NamedTuple):
    """All joints of the gripper at one opening."""

    opening: float
    """In [0, 1], 1 = open."""
    joints: Floats
    """(G,) [rad]."""


def _gripper_poses(world: World) -> list[GripperPose]:
    """Poses from open to shut, by closing the empty gripper. It ends the world's scene."""
    world.reset(Layout({}, {}, 0.0))
    poses = [GripperPose(1.0, world.gripper_pose)]
    while world.gripper_opening > 0.02:
        world.step(np.append(PANDA.home, 0.0), substeps=SUBSTEPS // 4)
        poses.append(GripperPose(world.gripper_opening, world.gripper_pose))
    return poses
