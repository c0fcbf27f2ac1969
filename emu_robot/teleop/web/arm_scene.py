"""Arm and scene as viser's nodes, at the places of a view."""

import numpy as np
import viser
from viser.transforms import SO3

from emu_robot.core import Floats
from emu_robot.robots.bodies import Body
from emu_robot.robots.pose import Pose
from emu_robot.teleop.view import View

HANDLE_M = 0.16
"""Length of the arrows of the handle [m]."""
STILL = 2e-4
"""Change of a pose, in metres or parts of a quaternion, below which it is not sent again."""
CAMERA_POSITION, CAMERA_LOOK_AT, CAMERA_FOV = (1.5, -0.85, 0.95), (0.26, 0.04, 0.3), 0.8
"""First view of a page: from the arm's front, a little to its right [m], [rad]."""
BACKGROUND = (238, 241, 245)
"""Colour behind the scene."""


class ArmScene:
    """What all pages see of the arm."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._scene = server.scene
        self._bodies: tuple[Body, ...] | None = None
        self._frames: list[viser.FrameHandle] = []
        self._sent: Floats = np.zeros((0, 7))
        self._scene.set_background_image(np.full((1, 1, 3), BACKGROUND, np.uint8))
        self._scene.configure_default_lights(cast_shadow=False)
        camera = server.initial_camera
        camera.position, camera.look_at, camera.fov = CAMERA_POSITION, CAMERA_LOOK_AT, CAMERA_FOV
        self._target = self._scene.add_frame("/target", axes_length=0.06, axes_radius=0.002, visible=False)

    def show(self, view: View) -> None:
        """Bring every node where the view has it. What did not move is not sent."""
        if view.bodies is not self._bodies:
            self._build(view.bodies)
        moved = np.abs(view.body_poses - self._sent).max(axis=1, initial=0.0) > STILL
        for i in np.nonzero(moved)[0]:
            frame, pose = self._frames[i], view.body_poses[i]
            frame.position, frame.wxyz = pose[:3], pose[3:]
            self._sent[i] = pose
        self._target.visible = view.is_driven and view.target is not None
        if view.is_driven and view.target is not None:
            put(self._target, view.target)

    def _build(self, bodies: tuple[Body, ...]) -> None:
        for frame in self._frames:
            frame.remove()
        self._bodies, self._frames = bodies, []
        self._sent = np.full((len(bodies), 7), np.inf)
        for i, body in enumerate(bodies):
            name = f"/arm/{i} {body.name.replace('/', ' ')}"
            self._frames.append(self._scene.add_frame(name, show_axes=False))
            for j, surface in enumerate(body.surfaces):
                self._scene.add_mesh_simple(
                    f"{name}/{j}", surface.vertices, surface.faces, color=surface.rgb, side="double"
                )


def put(node: viser.SceneNodeHandle, pose: Pose) -> None:
    """Bring a node to a pose."""
    if np.abs(node.position - pose.position).max() > STILL:
        node.position = pose.position
    wxyz = SO3.from_matrix(pose.rotation).wxyz
    if min(np.abs(node.wxyz - wxyz).max(), np.abs(node.wxyz + wxyz).max()) > STILL:
        node.wxyz = wxyz


def pose_of(node: viser.SceneNodeHandle) -> Pose:
    """Where a node is. Its quaternion comes from a page, and is made a unit one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.asarray(node.wxyz, np.float64) / np.linalg.norm(node.wxyz)
    return Pose(position=np.array(node.position, np.float64), rotation=SO3(unit).as_matrix().astype(np.float64))
