"""Scripted closed-loop experts. They act on the present simulator state, and so recover from every disturbance.

An expert has no memory. It reads which objects are grasped and touched, and retries after a miss or a drop.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emu_robot.robots.spec import PANDA
from emu_sim.grammar import Subtask
from emu_sim.kinematics import joint_target
from emu_sim.predicates import subtask_holds
from emu_sim.scene import CAN_RADIUS, DRAWER_TRAVEL, spots
from emu_sim.world import World

OPEN, SHUT = 1.0, 0.0
LEAD = 0.04  # [m] of the target over the hand: about 0.4 m/s
TRAVEL_Z = 0.17  # [m] of the pinch point, clear of towers and cabinet
FUNNEL_SLOPE = 2.5  # height over the goal per horizontal error, so that the hand comes down from above
PUSH_Z = 0.034  # [m] closed fingers reach further down than open ones
ALIGNED = 0.008  # [m] horizontal error at which the hand may come all the way down
REACHED_XY, REACHED_Z = 0.013, 0.011  # [m] close enough to close or open the fingers
HOME_LEAD = 0.12  # [rad]

Vec = NDArray[np.float64]


class ExpertHost(Protocol):
    """The parts of an environment that an expert needs."""

    world: World

    @property
    def subtask(self) -> Subtask | None: ...


class Expert:
    """Acts for the environment's current subtask, and returns home when it is done."""

    def __init__(self, host: ExpertHost) -> None:
        self._host = host

    def action(self) -> NDArray[np.float32]:
        """(8,) joint targets [rad] and gripper opening."""
        world, subtask = self._host.world, self._host.subtask
        if subtask is None or self._is_done(world, subtask):
            return _retreat(world)
        match subtask.kind:
            case "open" | "close":
                return _move_drawer(world, DRAWER_TRAVEL - 0.008 if subtask.kind == "open" else 0.0)
            case "push":
                return _push(world, str(subtask.object), str(subtask.target))
            case _:
                return _pick_and_place(world, subtask)

    @staticmethod
    def _is_done(world: World, subtask: Subtask) -> bool:
        if not subtask_holds(world, subtask):
            return False
        if subtask.kind != "push":
            return True
        left = np.linalg.norm((world.place_pos(str(subtask.target)) - world.objects[str(subtask.object)].pos)[:2])
        return bool(left < 0.025 or world.pinch_pos[2] > 0.06)  # while the hand is down, push to the centre


def _command(world: World, goal: Vec, gripper: float) -> NDArray[np.float32]:
    step = goal - world.pinch_pos
    distance = float(np.linalg.norm(step))
    target = joint_target(world, step * min(1.0, LEAD / max(distance, 1e-9)))
    return np.append(target, gripper).astype(np.float32)


def _funnel(world: World, goal: Vec, gripper: float) -> NDArray[np.float32]:
    """Approach the goal from above: stay high while far, rise before a sideways motion when low."""
    hand = world.pinch_pos
    off = float(np.linalg.norm((goal - hand)[:2]))
    height = min(TRAVEL_Z, goal[2] + FUNNEL_SLOPE * max(0.0, off - ALIGNED))
    xy = goal[:2] if hand[2] > height - 0.02 else hand[:2] + 0.1 * (goal - hand)[:2]
    return _command(world, np.array([*xy, max(height, goal[2])]), gripper)


def _close_around(world: World, goal: Vec) -> NDArray[np.float32]:
    """Lower the open fingers over the goal, then close them. Once closing, continue unless pushed far away."""
    off = goal - world.pinch_pos
    slack = 2.0 if world.gripper_opening < 0.9 else 1.0
    reached = np.linalg.norm(off[:2]) < slack * REACHED_XY and abs(off[2]) < slack * REACHED_Z
    return _command(world, goal, SHUT) if reached else _funnel(world, goal, OPEN)


def _retreat(world: World) -> NDArray[np.float32]:
    """Open the gripper, rise, return home."""
    hand = world.pinch_pos
    at_home = np.abs(world.joints - PANDA.home).max() < 0.3
    if hand[2] < TRAVEL_Z - 0.02 and not at_home:
        if world.touching() and world.gripper_opening < 0.6:
            return _command(world, hand, OPEN)
        return _command(world, np.array([hand[0], hand[1], TRAVEL_Z + 0.03]), OPEN)
    lead = np.clip(np.array(PANDA.home) - world.joints, -HOME_LEAD, HOME_LEAD)
    return np.append(world.joints + lead, OPEN).astype(np.float32)


def free_spot(world: World, name: str, place: str) -> Vec:
    """(3,) [m] the first spot on a receptacle that no other object than `name` takes."""
    centre = world.place_pos(place)
    offsets = spots(world.grammar, place)
    others = [thing.pos for other, thing in world.objects.items() if other != name]
    free = [dx for dx in offsets if all(np.hypot(o[0] - centre[0] - dx, o[1] - centre[1]) > 0.045 for o in others)]
    return centre + np.array([free[0] if free else offsets[-1], 0.0, 0.0])


def _place_goal(world: World, subtask: Subtask) -> Vec:
    """(3,) [m] place of the object's centre at its release."""
    name, target = str(subtask.object), str(subtask.target)
    half = world.objects[name].half_height
    if subtask.kind == "stack":
        base = world.objects[target]
        return base.pos + np.array([0, 0, base.half_height + half + 0.004])
    lift = {"bowl": 0.012, "plate": 0.012, "box": 0.010, "drawer": 0.016}.get(target, 0.005)
    return free_spot(world, name, target) + np.array([0, 0, half + lift])


def _pick_and_place(world: World, subtask: Subtask) -> NDArray[np.float32]:
    thing, hand = world.objects[str(subtask.object)], world.pinch_pos
    if world.grasped != subtask.object:
        goal = thing.pos + np.array([0, 0, 0.003])
        return _close_around(world, goal)
    goal = _place_goal(world, subtask)
    off = goal - thing.pos
    if np.linalg.norm(off[:2]) < REACHED_XY and abs(off[2]) < REACHED_Z:
        return _command(world, hand, OPEN)
    return _funnel(world, hand + off, SHUT)


def _push(world: World, name: str, zone: str) -> NDArray[np.float32]:
    thing, hand = world.objects[name].pos, world.pinch_pos
    way = (world.place_pos(zone) - thing)[:2]
    left = float(np.linalg.norm(way))
    ahead = way / max(left, 1e-6)
    along = float((hand - thing)[:2] @ ahead)
    aside = float(np.linalg.norm((hand - thing)[:2] - along * ahead))
    low = hand[2] < PUSH_Z + 0.02
    if low and along < -0.015 and aside < 0.028:
        xy = thing[:2] + ahead * (min(left, 0.035) - CAN_RADIUS - 0.012)
        return _command(world, np.array([*xy, PUSH_Z]), SHUT)
    if low and np.linalg.norm((hand - thing)[:2]) < 0.055:
        return _command(world, np.array([hand[0], hand[1], TRAVEL_Z]), SHUT)
    behind = thing[:2] - 0.07 * ahead
    return _funnel(world, np.array([*behind, PUSH_Z]), SHUT)


def _move_drawer(world: World, opening: float) -> NDArray[np.float32]:
    knob, hand = world.knob_pos, world.pinch_pos
    left = opening - world.drawer_opening
    if world.grasped != "knob":
        return _close_around(world, knob)
    if abs(left) < 0.008:
        return _command(world, hand, OPEN)
    return _command(world, np.array([hand[0] + np.sign(left) * min(abs(left) + 0.01, LEAD), knob[1], knob[2]]), SHUT)
