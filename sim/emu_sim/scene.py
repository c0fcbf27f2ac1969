"""The tabletop as a MuJoCo model: arm, three object slots, bowl, plate, two zones and a drawer cabinet.

Each object slot is one free body with a cube and a can geom. An episode shows one of them in its colour; a can has a
metal lid. Receptacles are mocap bodies, placed or parked below the table. One compiled model thus serves every task.
"""

from functools import cache

import mujoco
import numpy as np

from emu_sim.panda import panda_spec

OBJECT_SLOTS = 3
ZONE_SLOTS = 2
CUBE_HALF = 0.022  # [m]
CAN_RADIUS, CAN_HALF_HEIGHT = 0.023, 0.026  # [m]
LID_RADIUS = 0.011  # [m] of a can, which distinguishes it from a cube of its colour at 128 px
ZONE_HALF = 0.058  # [m]
PLATE_RADIUS = 0.06  # [m]
BOWL_RADIUS, BOWL_HEIGHT = 0.062, 0.035  # [m] at the rim
DRAWER_TRAVEL = 0.14  # [m]
DRAWER_POS = (0.40, 0.27)  # [m] centre of the closed tray; it slides towards +x
TRAY_HALF = (0.07, 0.072)  # [m]
KNOB_OFFSET = 0.11  # [m] knob from the tray's centre
KNOB_HEIGHT = 0.045  # [m] where it is grasped
PARKED_Z = -1.0

RGB = {
    "red": (0.85, 0.08, 0.08), "green": (0.05, 0.60, 0.12), "blue": (0.08, 0.22, 0.88), "yellow": (0.95, 0.80, 0.05),
}  # fmt: skip

LID_RGB = (0.88, 0.90, 0.92)


def zone_rgba(colour: str) -> tuple[float, float, float, float]:
    """The pale colour of a zone, so that an object of the same colour stays visible on it."""
    r, g, b = (0.45 * channel + 0.55 for channel in RGB[colour])
    return r, g, b, 1.0


def _add_box(body: mujoco.MjsBody, pos: tuple, size: tuple, rgba: tuple, **kwargs) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=pos, size=size, rgba=rgba, **kwargs)


def _add_objects(world: mujoco.MjsBody) -> None:
    for i in range(OBJECT_SLOTS):
        body = world.add_body(name=f"object{i}", pos=(0.45, 0.1 * i, 0.05))
        body.add_freejoint(name=f"object{i}")
        common = {"mass": 0.06, "condim": 4, "friction": (0.4, 0.03, 0.001)}
        body.add_geom(name=f"object{i}_cube", type=mujoco.mjtGeom.mjGEOM_BOX, size=[CUBE_HALF] * 3, **common)
        size = [CAN_RADIUS, CAN_HALF_HEIGHT, 0]
        body.add_geom(name=f"object{i}_can", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, **common)
        body.add_geom(
            name=f"object{i}_lid", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[LID_RADIUS, 0.0005, 0],
            pos=(0, 0, CAN_HALF_HEIGHT), mass=0, contype=0, conaffinity=0,
        )  # fmt: skip


def _add_receptacles(world: mujoco.MjsBody) -> None:
    for i in range(ZONE_SLOTS):
        zone = world.add_body(name=f"zone{i}", mocap=True, pos=(0.5, 0, PARKED_Z))
        size = (ZONE_HALF, ZONE_HALF, 0.001)
        _add_box(zone, (0, 0, 0), size, (1, 1, 1, 1), name=f"zone{i}", contype=0, conaffinity=0)
    plate = world.add_body(name="plate", mocap=True, pos=(0.5, 0, PARKED_Z))
    white, rim = (0.96, 0.96, 0.98, 1), (0.45, 0.50, 0.60, 1)
    for radius, height, colour in ((PLATE_RADIUS, 0.003, rim), (0.8 * PLATE_RADIUS, 0.004, white)):
        plate.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[radius, height, 0], pos=(0, 0, height), rgba=colour,
            friction=(0.4, 0.03, 0.001),
        )  # fmt: skip
    bowl = world.add_body(name="bowl", mocap=True, pos=(0.5, 0, PARKED_Z))
    colour, sides = (0.36, 0.20, 0.12, 1), 12
    bowl.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.045, 0.003, 0], pos=(0, 0, 0.003), rgba=colour)
    for angle in np.arange(sides) * 2 * np.pi / sides:
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        quat = np.zeros(4)
        # yaw to the side, then lean outwards
        mujoco.mju_mulQuat(
            quat, np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)]), np.array([np.cos(0.2), 0, np.sin(0.2), 0])
        )
        pos = tuple(0.051 * direction + np.array([0, 0, BOWL_HEIGHT / 2 + 0.001]))
        _add_box(bowl, pos, (0.003, 0.0155, BOWL_HEIGHT / 2), colour, quat=quat)


def _add_drawer(world: mujoco.MjsBody) -> None:
    wood, dark, light = (0.50, 0.34, 0.22, 1), (0.20, 0.14, 0.10, 1), (0.66, 0.48, 0.32, 1)
    x, y = DRAWER_POS
    half_x, half_y = TRAY_HALF
    cabinet = world.add_body(name="cabinet", pos=(x, y, 0))
    shell = {"contype": 0, "conaffinity": 0}  # the shell is only visual: objects lie in the tray below it
    _add_box(cabinet, (0, half_y + 0.012, 0.045), (half_x + 0.005, 0.005, 0.045), wood, **shell)
    _add_box(cabinet, (0, -half_y - 0.012, 0.045), (half_x + 0.005, 0.005, 0.045), wood, **shell)
    _add_box(cabinet, (0, 0, 0.085), (half_x + 0.005, half_y + 0.012, 0.005), wood, **shell)
    _add_box(cabinet, (-half_x - 0.005, 0, 0.045), (0.005, half_y + 0.012, 0.045), wood, **shell)
    tray = world.add_body(name="tray", pos=(x, y, 0.004))
    tray.add_joint(
        name="drawer", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(1, 0, 0), range=(0, DRAWER_TRAVEL), limited=1,
        damping=3.0, frictionloss=0.5,
    )  # fmt: skip
    _add_box(tray, (0, 0, 0), (half_x, half_y, 0.003), dark, mass=0.3)
    _add_box(tray, (-half_x, 0, 0.014), (0.003, half_y, 0.014), light, mass=0.02)
    for side in (-1, 1):
        _add_box(tray, (0, side * half_y, 0.014), (half_x, 0.003, 0.014), light, mass=0.02)
    _add_box(
        tray, (half_x + 0.004, 0, 0.034), (0.004, half_y + 0.008, 0.034), light, mass=0.05, contype=0, conaffinity=0
    )
    _add_box(tray, (half_x + 0.002, 0, 0.014), (0.003, half_y, 0.014), light, mass=0.02)
    # The knob is a post at a distance from the front, so that the fingers can close around it from above.
    _add_box(tray, (half_x + 0.02, 0, 0.02), (0.018, 0.008, 0.006), (0.15, 0.15, 0.15, 1), mass=0.02)
    tray.add_geom(
        name="knob", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.012, 0.022, 0], pos=(KNOB_OFFSET, 0, 0.036),
        rgba=(0.15, 0.15, 0.15, 1), mass=0.02, friction=(1.5, 0.05, 0.001), condim=4,
    )  # fmt: skip


def _camera_quat(pos: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Orientation of a camera at pos [m] that looks at target [m], image upwards along `up`."""
    forward = (target - pos) / np.linalg.norm(target - pos)
    right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(right, forward), -forward], axis=1).flatten())
    return quat


def _add_cameras(spec: mujoco.MjSpec) -> None:
    pos, target, up = np.array([0.86, 0.037, 0.86]), np.array([0.485, 0.037, 0.0]), np.array([0.0, 0.0, 1.0])
    spec.worldbody.add_camera(name="front", pos=pos, quat=_camera_quat(pos, target, up), fovy=38.5)
    # Ahead of the hand, tilted back so that the fingertips and the table below them are in view.
    pos, target, up = np.array([0.08, 0.0, 0.03]), np.array([0.02, 0.0, 0.16]), np.array([1.0, 0.0, 0.0])
    spec.body("base").add_camera(name="wrist", pos=pos, quat=_camera_quat(pos, target, up), fovy=75)


@cache
def build_model() -> mujoco.MjModel:
    """Compile the scene, once per process. `World` writes an episode's colours and collisions into its own copy."""
    spec = panda_spec()
    spec.option.timestep = 0.0025
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.visual.headlight.ambient = [0.45] * 3
    spec.visual.headlight.diffuse = [0.25] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.quality.offsamples = 0
    # Coarse primitives: every face costs time in software rendering, and the difference is invisible at 128 px.
    spec.visual.quality.numslices, spec.visual.quality.numstacks, spec.visual.quality.numquads = 20, 2, 1
    spec.visual.quality.shadowsize = 0
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 10
    spec.stat.extent, spec.stat.center = 1.0, [0.45, 0, 0.1]
    world = spec.worldbody
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=(0, 0, 2), dir=(-0.3, 0.2, -1), diffuse=[0.55] * 3,
        castshadow=False,
    )  # fmt: skip
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.01], rgba=(0.62, 0.62, 0.60, 1),
        friction=(0.4, 0.03, 0.001),
    )  # fmt: skip
    _add_objects(world)
    _add_receptacles(world)
    _add_drawer(world)
    _add_cameras(spec)
    model = spec.compile()
    model.mat_reflectance[:] = 0
    return model
