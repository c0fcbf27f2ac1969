"""A tabletop as a MuJoCo model: arm, object slots, receptacles, and a drawer cabinet.

Each object slot is one free body with a geom for every shape. An episode shows one of them in its colour; some shapes
have a cap of another colour. Receptacles are mocap bodies, placed or parked below the table. One compiled model thus
serves every task of a grammar.
"""

from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

from emu_sim.grammar import DRAWER, Grammar, place_kind
from emu_sim.panda import panda_spec

ZONE_SLOTS = 2
BOX, CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER


@dataclass(frozen=True, kw_only=True)
class Cap:
    """A thin mark on top of an object, which distinguishes shapes of one colour at 128 px."""

    name: str
    """Name of its geoms."""
    geom: mujoco.mjtGeom
    """Box or cylinder."""
    half: tuple[float, float, float]
    """Size of the geom [m]."""
    rgb: tuple[float, float, float]
    """Colour."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape of objects."""

    geom: mujoco.mjtGeom
    """Box or cylinder."""
    half: tuple[float, float, float]
    """Size of the geom [m]: half lengths, or radius and half height."""
    cap: Cap | None = None
    """Its mark; None without one."""

    @property
    def half_height(self) -> float:
        """[m]"""
        return self.half[1] if self.geom == CYLINDER else self.half[2]

    @property
    def width(self) -> float:
        """[m] along y, in which the fingers close."""
        return 2 * (self.half[0] if self.geom == CYLINDER else self.half[1])


CAN_RADIUS, CAN_HALF_HEIGHT = 0.023, 0.026  # [m]
SHAPES = {
    "cube": Shape(geom=BOX, half=(0.022, 0.022, 0.022)),
    "can": Shape(
        geom=CYLINDER,
        half=(CAN_RADIUS, CAN_HALF_HEIGHT, 0),
        cap=Cap(name="lid", geom=CYLINDER, half=(0.011, 0.0005, 0), rgb=(0.88, 0.90, 0.92)),
    ),
    "brick": Shape(geom=BOX, half=(0.027, 0.014, 0.014)),
    "post": Shape(
        geom=BOX,
        half=(0.015, 0.015, 0.034),
        cap=Cap(name="cap", geom=BOX, half=(0.009, 0.009, 0.0005), rgb=(0.07, 0.07, 0.08)),
    ),
}
ZONE_HALF = 0.058  # [m]
PLATE_RADIUS = 0.06  # [m]
BOWL_RADIUS, BOWL_HEIGHT = 0.062, 0.035  # [m] at the rim
BOX_HALF, BOX_HEIGHT = (0.066, 0.066), 0.014  # [m]
DRAWER_TRAVEL = 0.14  # [m]
DRAWER_POS = (0.40, 0.27)  # [m] centre of the closed tray; it slides towards +x
TRAY_HALF = (0.07, 0.072)  # [m]
KNOB_OFFSET = 0.11  # [m] knob from the tray's centre
KNOB_HEIGHT = 0.045  # [m] where it is grasped
PARKED_Z = -1.0

RGB = {
    "red": (0.85, 0.08, 0.08), "green": (0.05, 0.60, 0.12), "blue": (0.08, 0.22, 0.88), "yellow": (0.95, 0.80, 0.05),
    "cyan": (0.05, 0.78, 0.82), "magenta": (0.85, 0.12, 0.80),
}  # fmt: skip
FLOOR = {"bowl": 0.0065, "plate": 0.0085, "box": 0.0045, DRAWER: 0.007}
"""Height of a receptacle's floor above the table [m]; zones have none."""


def zone_rgba(colour: str) -> tuple[float, float, float, float]:
    """The pale colour of a zone, so that an object of the same colour stays visible on it."""
    r, g, b = (0.45 * channel + 0.55 for channel in RGB[colour])
    return r, g, b, 1.0


def _add_box(body: mujoco.MjsBody, pos: tuple, size: tuple, rgba: tuple, **kwargs) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=pos, size=size, rgba=rgba, **kwargs)


def spots(grammar: Grammar, place: str) -> tuple[float, ...]:
    """Where objects lie on a receptacle: offsets along x from its centre [m], in the order in which they are filled.

    Along x the fingers are thin, so that objects can lie side by side.
    """
    return {"zone": grammar.zone_spots, "box": (-0.032, 0.032), DRAWER: (-0.033, 0.035)}.get(place_kind(place), (0.0,))


def _add_objects(world: mujoco.MjsBody, grammar: Grammar) -> None:
    for i in range(grammar.slots):
        body = world.add_body(name=f"object{i}", pos=(0.45, 0.1 * i, 0.05))
        body.add_freejoint(name=f"object{i}")
        common = {"mass": 0.06, "condim": 4, "friction": (0.4, 0.03, 0.001)}
        shapes = {name: SHAPES[name] for name in grammar.shapes}
        for name, shape in shapes.items():
            body.add_geom(name=f"object{i}_{name}", type=shape.geom, size=shape.half, **common)
        for shape in shapes.values():
            if shape.cap is not None:
                body.add_geom(
                    name=f"object{i}_{shape.cap.name}", type=shape.cap.geom, size=shape.cap.half,
                    pos=(0, 0, shape.half_height), mass=0, contype=0, conaffinity=0,
                )  # fmt: skip


def _add_receptacles(world: mujoco.MjsBody, grammar: Grammar) -> None:
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
    if "box" in grammar.places:
        _add_shallow_box(world)


def _add_shallow_box(world: mujoco.MjsBody) -> None:
    box = world.add_body(name="box", mocap=True, pos=(0.5, 0, PARKED_Z))
    floor, wall, (half_x, half_y) = (0.30, 0.32, 0.36, 1), (0.13, 0.14, 0.17, 1), BOX_HALF
    _add_box(box, (0, 0, 0.002), (half_x, half_y, 0.002), floor, friction=(0.4, 0.03, 0.001))
    for side in (-1, 1):
        _add_box(box, (side * half_x, 0, BOX_HEIGHT / 2), (0.003, half_y + 0.003, BOX_HEIGHT / 2), wall)
        _add_box(box, (0, side * half_y, BOX_HEIGHT / 2), (half_x, 0.003, BOX_HEIGHT / 2), wall)


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
def build_model(grammar: Grammar) -> mujoco.MjModel:
    """Compile a grammar's scene, once per process. `World` writes an episode's colours and collisions into a copy."""
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
    _add_objects(world, grammar)
    _add_receptacles(world, grammar)
    _add_drawer(world)
    _add_cameras(spec)
    model = spec.compile()
    model.mat_reflectance[:] = 0
    return model
