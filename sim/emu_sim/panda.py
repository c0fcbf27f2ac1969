"""The Franka Panda with a Robotiq 2F-85 from the installed package gym-hil, prepared for fast physics and rendering."""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from emu_robot.errors import SystemSetupError
from emu_robot.shared.files import replacing

MAX_FACES = 200  # per visual mesh: about 9k faces for the whole arm; the original has 130k
# Position servos near critical damping. A lead of 0.15 rad does not saturate them.
# Force limits: Franka datasheet (87 Nm for joints 1-4, 12 Nm for 5-7).
SERVO_STIFFNESS = (600.0, 600.0, 500.0, 500.0, 150.0, 150.0, 100.0)  # [Nm/rad]
SERVO_DAMPING = (70.0, 70.0, 50.0, 50.0, 10.0, 10.0, 8.0)  # [Nm s/rad]


def _source() -> Path:
    spec = find_spec("gym_hil")
    if spec is None or spec.origin is None:
        raise SystemSetupError("the Panda model needs the package gym-hil: pip install gym-hil==0.1.14")
    return Path(spec.origin).parent / "assets" / "panda.xml"


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "emu_robot" / "meshes"


def _decimated(mesh_file: Path) -> Path:
    """A copy of the mesh with at most MAX_FACES faces, kept in the user's cache."""
    digest = hashlib.sha256(mesh_file.read_bytes() + str(MAX_FACES).encode()).hexdigest()[:16]
    target = _cache_folder() / f"{mesh_file.stem}-{digest}.stl"
    if target.exists():
        return target
    import trimesh

    mesh = trimesh.load_mesh(mesh_file)
    if len(mesh.faces) > MAX_FACES:
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        mesh = mesh.simplify_quadric_decimation(face_count=MAX_FACES)
    with replacing(target) as partial:
        mesh.export(partial, file_type="stl")
    return target


def panda_spec() -> mujoco.MjSpec:
    """An editable arm: decimated visuals, position servos, gravity compensation; only the gripper collides."""
    source = _source()
    spec = mujoco.MjSpec.from_file(str(source))
    visual = {geom.meshname for geom in spec.geoms if geom.classname.name.endswith("visual")}
    for mesh in spec.meshes:
        path = source.parent / spec.meshdir / mesh.file
        mesh.name = mesh.name or path.stem  # MuJoCo's implicit name, which a new file name would change
        mesh.file = str(_decimated(path) if mesh.name in visual else path)
    for geom in spec.geoms:
        is_pad = geom.name.endswith(("pad1", "pad2"))
        if geom.classname.name == "panda/collision":
            geom.contype = geom.conaffinity = 0
        elif not geom.classname.name.endswith("visual"):
            geom.condim, geom.friction = 4, [1.5 if is_pad else 0.5, 0.05, 0.0001]
    for body in spec.bodies:
        body.gravcomp = 1.0
    for site in spec.sites:
        site.rgba[3] = 0.0
    for sensor in list(spec.sensors):
        spec.delete(sensor)
    for camera in list(spec.cameras):
        spec.delete(camera)
    joints = {f"joint{i}" for i in range(1, 8)}
    for actuator in spec.actuators:
        if actuator.target not in joints:
            continue
        index = int(actuator.target[-1]) - 1
        limit = 87.0 if index < 4 else 12.0
        actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[0] = SERVO_STIFFNESS[index]
        actuator.biasprm[:3] = [0.0, -SERVO_STIFFNESS[index], -SERVO_DAMPING[index]]
        actuator.ctrlrange = np.asarray(spec.joint(actuator.target).range)
        actuator.forcerange, actuator.forcelimited = np.array([-limit, limit]), 1
    return spec
