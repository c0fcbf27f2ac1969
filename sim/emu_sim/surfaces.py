"""What is seen of a MuJoCo model, as triangles: visible geoms of each body, one surface per colour."""

from collections.abc import Sequence

import mujoco
import numpy as np
import trimesh

from emu_robot.core import Floats
from emu_robot.robots.bodies import Body, Surface
from emu_sim.scene import PARKED_Z

HIDDEN_GROUPS = 3
"""First group of geoms that are not drawn: shapes for collisions."""
MOST_FACES = 5000
"""Faces of a mesh beyond which its convex hull is drawn: a plate full of holes, which no page shows."""
THIN = 0.01
"""Half the thickness of the floor, whose plane has none [m]."""


class Surfaces:
    """The triangles of every geom, made once: a scene only chooses among them and colours them."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._drawn = [i for i in range(model.ngeom) if model.geom_group[i] < HIDDEN_GROUPS]
        self._meshes = {i: _mesh(model, i) for i in self._drawn}

    def bodies(self, data: mujoco.MjData) -> tuple[list[int], tuple[Body, ...]]:
        """Indices of the bodies that are seen in the scene of `data`, and the bodies. Parked ones are left out."""
        geoms: dict[int, dict[tuple[float, float, float], list[int]]] = {}
        for i in self._drawn:
            body, (*rgb, alpha) = int(self._model.geom_bodyid[i]), _rgba(self._model, i)
            if alpha > 0 and data.xpos[body, 2] > PARKED_Z / 2:
                geoms.setdefault(body, {}).setdefault((rgb[0], rgb[1], rgb[2]), []).append(i)
        return list(geoms), tuple(
            Body(
                name=self._model.body(body).name,
                surfaces=tuple(self._surface(group, rgb) for rgb, group in colours.items()),
            )
            for body, colours in geoms.items()
        )

    def _surface(self, geoms: Sequence[int], rgb: tuple[float, float, float]) -> Surface:
        parts = [self._meshes[i] for i in geoms]
        starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
        faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
        return Surface(
            vertices=np.concatenate([part.vertices for part in parts]).astype(np.float32),
            faces=np.concatenate(faces).astype(np.uint32),
            rgb=rgb,
        )


def _rgba(model: mujoco.MjModel, geom: int) -> Floats:
    material = model.geom_matid[geom]
    return (model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]).round(3)


def _mesh(model: mujoco.MjModel, geom: int) -> trimesh.Trimesh:
    """A geom's triangles in the frame of its body."""
    size, kind = model.geom_size[geom], mujoco.mjtGeom(model.geom_type[geom])
    match kind:
        case mujoco.mjtGeom.mjGEOM_MESH:
            mesh = _own_mesh(model, int(model.geom_dataid[geom]))
        case mujoco.mjtGeom.mjGEOM_BOX:
            mesh = trimesh.creation.box(2 * size)
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            mesh = trimesh.creation.cylinder(radius=size[0], height=2 * size[1])
        case mujoco.mjtGeom.mjGEOM_PLANE:
            mesh = trimesh.creation.box((2 * size[0], 2 * size[1], 2 * THIN))
            mesh.apply_translation((0, 0, -THIN))
        case _:
            raise NotImplementedError(f"no surface for a geom of kind {kind.name}")
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.geom_quat[geom])
    placed = np.eye(4)
    placed[:3, :3], placed[:3, 3] = turn.reshape(3, 3), model.geom_pos[geom]
    mesh.apply_transform(placed)
    return mesh


def _own_mesh(model: mujoco.MjModel, mesh: int) -> trimesh.Trimesh:
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    first_face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    own = trimesh.Trimesh(
        vertices=model.mesh_vert[first : first + count],
        faces=model.mesh_face[first_face : first_face + faces],
        process=False,
    )
    return own if faces <= MOST_FACES else own.convex_hull
