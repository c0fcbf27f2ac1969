"""The physics of the tabletop: turns joint targets into states and images. Knows nothing of success."""

import atexit
import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import mujoco
import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Floats32, Image
from emu_robot.errors import SystemSetupError, UnknownNameError
from emu_robot.robots.spec import PANDA
from emu_sim import scene
from emu_sim.grammar import TABLETOP, Grammar, colour_of, shape_of
from emu_sim.layout import Layout

SUBSTEPS, SUBSTEP_S = 20, 0.0025  # 20 Hz control
GRIPPER_CTRL = 255.0
DRIVER_CLOSED = 0.80  # [rad] of the gripper's driver joint, fully closed
ABOVE = 0.009  # [m] from which an object falls onto what it starts on
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclass(frozen=True)
class Placed:
    """Place of an object: its centre (3,) [m], and half its height [m]."""

    pos: Floats
    half_height: float


class World:
    """The tabletop of one grammar. `reset(layout)` sets up a scene; `step(action)` runs one control tick of 50 ms."""

    def __init__(self, grammar: Grammar = TABLETOP) -> None:
        self.grammar = grammar
        self.model = copy.deepcopy(scene.build_model(grammar))
        self.data = mujoco.MjData(self.model)
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._close_renderers = partial(_close_all, self._renderers)
        joints = [self.model.joint(name) for name in PANDA.joint_names]
        self.qpos_index = np.array([joint.qposadr[0] for joint in joints])
        self.dof_index = np.array([joint.dofadr[0] for joint in joints])
        self._drivers = [self.model.joint(f"{side}_driver_joint").qposadr[0] for side in ("left", "right")]
        self._drawer = self.model.joint("drawer").qposadr[0]
        own = {*self.qpos_index, self._drawer, *range(self.model.joint("object0").qposadr[0], self.model.nq)}
        self._gripper = np.array([i for i in range(self.model.nq) if i not in own])
        self._pinch = self.model.site("pinch").id
        self._pads = [{self.model.geom(f"{side}_pad{i}").id for i in (1, 2)} for side in ("left", "right")]
        self._slots: dict[str, int] = {}
        self._places: dict[str, str] = {}
        single = [place for place in grammar.places if not place.endswith("zone")]
        self._receptacles = [*(f"zone{i}" for i in range(scene.ZONE_SLOTS)), *single]

    def reset(self, layout: Layout, *, settle: bool = True) -> None:
        """Set up the scene: arm at home, gripper open, objects as in the layout.

        settle=False: without physics; objects lie exactly where they would come to rest.
        """
        mujoco.mj_resetData(self.model, self.data)
        home = np.array(PANDA.home)
        self.data.qpos[self.qpos_index] = home
        self.data.ctrl[:7] = home
        self.data.qpos[self._drawer] = layout.drawer
        self._lay_objects(layout, ABOVE if settle else 0.0)
        self._lay_places(layout)
        mujoco.mj_forward(self.model, self.data)
        for _ in range(5 if settle else 0):  # let the objects settle on the table
            self.step(np.append(home, 1.0))

    def _lay_objects(self, layout: Layout, above: float) -> None:
        self._slots = {name: slot for slot, name in enumerate(layout.objects)}
        for slot in range(self.grammar.slots):
            name = next((n for n, s in self._slots.items() if s == slot), None)
            self._show(slot, name)
            if name is None:
                # An empty slot is parked behind the arm's base. It has no active geom and must not fall.
                self.data.joint(f"object{slot}").qpos[:] = (-0.5, 0.1 * slot, 0.1, 1, 0, 0, 0)
                self.model.body_gravcomp[self.model.body(f"object{slot}").id] = 1.0
                continue
            self.model.body_gravcomp[self.model.body(f"object{slot}").id] = 0.0
            x, y, yaw = layout.objects[name]
            self.lay(name, x, y, base_height(layout.on, name) + (above if name in layout.on else 0.0), yaw)

    def _show(self, slot: int, name: str | None) -> None:
        """Give a slot the object's shape and colour; None: neither."""
        for kind in self.grammar.shapes:
            geom, active = self.model.geom(f"object{slot}_{kind}"), name is not None and kind == shape_of(name)
            geom.contype = geom.conaffinity = int(active)
            geom.rgba = (*scene.RGB[colour_of(name)], 1.0) if name is not None and active else (0, 0, 0, 0)
            if cap := scene.SHAPES[kind].cap:
                self.model.geom(f"object{slot}_{cap.name}").rgba = (*cap.rgb, float(active))

    def lay(self, name: str, x: float, y: float, base: float, yaw: float) -> None:
        """Put an object at x, y [m] with its underside at height `base` [m] and turned by `yaw` [rad]."""
        z = half_height(name) + base
        joint = self.data.joint(f"object{self._slots[name]}")
        joint.qpos[:] = (x, y, z, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))

    def yaw(self, name: str) -> float:
        """[rad] of an object that stands upright."""
        w, _x, _y, z = self.data.joint(f"object{self._slots[name]}").qpos[3:]
        return float(2 * np.arctan2(z, w))

    @property
    def places(self) -> tuple[str, ...]:
        """Receptacles on the table."""
        return tuple(self._places)

    def _lay_places(self, layout: Layout) -> None:
        for body in self._receptacles:
            self.data.mocap_pos[self._mocap(body)] = (0.5, 0.0, scene.PARKED_Z)
        self._places = {}
        zones = 0
        for name, (x, y) in layout.places.items():
            body = name
            if name.endswith("zone"):
                body, zones = f"zone{zones}", zones + 1
                self.model.geom(body).rgba = scene.zone_rgba(colour_of(name))
            self._places[name] = body
            self.data.mocap_pos[self._mocap(body)] = (x, y, 0.0005)

    def _mocap(self, body: str) -> int:
        return int(self.model.body(body).mocapid[0])

    @property
    def objects(self) -> dict[str, Placed]:
        return {
            name: Placed(self.data.body(f"object{slot}").xpos.copy(), half_height(name))
            for name, slot in self._slots.items()
        }

    def place_pos(self, name: str) -> Floats:
        """(3,) [m] centre of a receptacle's floor (the tray's, for the drawer)."""
        if name == "drawer":
            return self.data.body("tray").xpos.copy()
        if name not in self._places:
            raise UnknownNameError("receptacle", name, (*self._places, "drawer"))
        return self.data.mocap_pos[self._mocap(self._places[name])].copy()

    @property
    def drawer_opening(self) -> float:
        """Opening [m]; 0 is closed."""
        return float(self.data.qpos[self._drawer])

    @property
    def knob_pos(self) -> Floats:
        return self.data.geom("knob").xpos.copy()

    @property
    def pinch_pos(self) -> Floats:
        """(3,) [m] the point between the fingertips."""
        return self.data.site_xpos[self._pinch].copy()

    @property
    def gripper_opening(self) -> float:
        driver = np.mean([self.data.qpos[index] for index in self._drivers])
        return float(np.clip(1.0 - driver / DRIVER_CLOSED, 0.0, 1.0))

    @property
    def joints(self) -> Floats:
        return self.data.qpos[self.qpos_index].copy()

    @property
    def state(self) -> Floats32:
        """(8,) joint positions [rad], gripper opening in [0, 1]."""
        return np.append(self.joints, self.gripper_opening).astype(np.float32)

    def touching(self) -> dict[str, int]:
        """Object (or "knob") -> number of fingers that touch it, 1 or 2."""
        geoms = {self.model.geom("knob").id: "knob"}
        for name, slot in self._slots.items():
            geoms[self.model.geom(f"object{slot}_{shape_of(name)}").id] = name
        fingers: dict[str, set[int]] = {}
        for a, b in self.data.contact.geom:
            for thing, other in ((a, b), (b, a)):
                if thing in geoms:
                    fingers.setdefault(geoms[thing], set()).update(
                        i for i, pad in enumerate(self._pads) if other in pad
                    )
        return {name: len(touched) for name, touched in fingers.items()}

    @property
    def grasped(self) -> str | None:
        """The object between both fingers; None without one."""
        return next((name for name, fingers in self.touching().items() if fingers == 2), None)

    @property
    def joint_velocities(self) -> Floats:
        """(7,) [rad/s]"""
        return self.data.qvel[self.dof_index].copy()

    def step(self, action: NDArray, substeps: int = SUBSTEPS) -> None:
        """Run one control tick, or `substeps` of `SUBSTEP_S`.

        action (8,): joint targets [rad], clipped to the limits, and gripper opening in [0, 1].
        """
        self.data.ctrl[:7] = np.clip(action[:7], PANDA.joint_lower, PANDA.joint_upper)
        self.data.ctrl[7] = GRIPPER_CTRL * (1.0 - np.clip(action[7], 0.0, 1.0))
        mujoco.mj_step(self.model, self.data, nstep=substeps)

    def pose(self, joints: Floats, gripper: Floats) -> None:
        """Put the arm at joints (7,) [rad] and the gripper at a `gripper_pose`, without physics."""
        self.data.qpos[self.qpos_index] = joints
        self.data.qpos[self._gripper] = gripper
        self.place()

    @property
    def gripper_pose(self) -> Floats:
        """(G,) positions of all joints of the gripper."""
        return self.data.qpos[self._gripper].copy()

    def slide_drawer(self, opening: float, cargo: Iterable[str]) -> None:
        """Open the drawer to `opening` [m], without physics, with the objects that lie in it."""
        for name in cargo:
            self.data.joint(f"object{self._slots[name]}").qpos[0] += opening - self.drawer_opening
        self.data.qpos[self._drawer] = opening
        self.place()

    def settle(self) -> None:
        """Let physics run until what was laid without it lies still; the arm stays."""
        hold = np.append(self.joints, self.gripper_opening)
        self.data.qvel[:] = 0
        for _ in range(10):
            self.step(hold)

    def place(self) -> None:
        """Bring all bodies and cameras where the joints have them, without physics."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def save(self) -> Floats:
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, state: Floats) -> None:
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        mujoco.mj_forward(self.model, self.data)

    def render(self, camera: str, size: int = PANDA.image_size) -> Image:
        """(size, size, 3) uint8. Raises `UnknownNameError` for a camera that the scene does not have."""
        if camera not in PANDA.cameras:
            raise UnknownNameError("camera", camera, PANDA.cameras)
        if size not in self._renderers:
            self.model.vis.global_.offwidth = self.model.vis.global_.offheight = size
            try:
                self._renderers[size] = mujoco.Renderer(self.model, size, size)
            except Exception as error:  # MuJoCo passes on any error of its GL binding
                raise SystemSetupError(
                    "cannot render off screen: install EGL with `apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri` "
                    f"and set MUJOCO_GL=egl ({type(error).__name__}: {error})"
                ) from error
            # MuJoCo shuts EGL down at exit; its renderers have to be closed before.
            atexit.unregister(self._close_renderers)
            atexit.register(self._close_renderers)
        renderer = self._renderers[size]
        renderer.update_scene(self.data, camera)
        return renderer.render().copy()

    def object_pixels(self, camera: str) -> dict[str, tuple[float, float] | None]:
        """Object -> (u, v) [px] centroid of its visible pixels in its colour at 128 px; None below 12 pixels."""
        self.render(camera)
        renderer = self._renderers[PANDA.image_size]
        renderer.enable_segmentation_rendering()
        renderer.update_scene(self.data, camera)
        ids = renderer.render()[..., 0].copy()
        renderer.disable_segmentation_rendering()
        pixels: dict[str, tuple[float, float] | None] = {}
        for name, slot in self._slots.items():
            v, u = np.nonzero(ids == self.model.geom(f"object{slot}_{shape_of(name)}").id)
            pixels[name] = (float(u.mean()), float(v.mean())) if len(u) >= 12 else None
        return pixels

    def pinch_pixel(self, camera: str) -> tuple[float, float]:
        """(u, v) [px] of the point between the fingertips in a 128 px picture, also if it is hidden or outside."""
        return self.pixel(camera, self.pinch_pos)

    def pixel(self, camera: str, point: Floats) -> tuple[float, float]:
        """(u, v) [px] of a point (3,) [m] in a 128 px picture, also if it is hidden or outside."""
        view = self.data.camera(camera)
        x, y, z = view.xmat.reshape(3, 3).T @ (point - view.xpos)
        half = PANDA.image_size / 2
        focal = half / np.tan(np.radians(self.model.camera(camera).fovy[0]) / 2)
        return float(half - focal * x / z), float(half + focal * y / z)

    def close(self) -> None:
        """Free the renderers. A later `render` makes new ones."""
        self._close_renderers()
        atexit.unregister(self._close_renderers)


def half_height(name: str) -> float:
    """[m] of an object."""
    return scene.SHAPES[shape_of(name)].half_height


def base_height(on: Mapping[str, str], name: str) -> float:
    """[m] of the surface under an object. on: object -> receptacle or object that it lies on."""
    base = on.get(name)
    if base is None or shape_of(base) not in scene.SHAPES:
        return scene.FLOOR.get(str(base), 0.0)
    return base_height(on, base) + 2 * half_height(base)


def _close_all(renderers: dict[int, mujoco.Renderer]) -> None:
    for renderer in renderers.values():
        renderer.close()
    renderers.clear()
