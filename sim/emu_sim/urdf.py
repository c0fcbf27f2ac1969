"""The kinematics of an arm from its URDF. Shapes and masses are left out, so that no mesh is needed."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from emu_robot.errors import ConfigError, UnknownNameError
from emu_sim.model_kinematics import ModelKinematics

UNUSED = ("visual", "collision", "inertial")
"""Parts of a link that kinematics do not need."""
MASS, INERTIA = 1e-3, 1e-6
"""What every link weighs instead [kg], [kg m^2]."""
MOVING = ("revolute", "continuous")
"""Types of joints that a motor turns."""


def read_urdf(path: Path, joints: Sequence[str], tool: str) -> ModelKinematics:
    """The kinematics of a link for joints in this order. tool: the link; empty for the last one, if there is only one.

    Raises `ConfigError` for a file that is no URDF, `UnknownNameError` for a joint or link that it does not have.
    """
    root = _without_shapes(path)
    turning = [joint.get("name") for joint in root.iter("joint") if joint.get("type") in MOVING]
    for name in joints:
        if name not in turning:
            raise UnknownNameError(f"turning joint of {path.name}", name, turning)
    link = _tool(path, root, tool)
    try:
        spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
        spec.compiler.fusestatic = False
        spec.compiler.boundmass, spec.compiler.boundinertia = MASS, INERTIA
        spec.body(link).add_site(name="tool")
        model = spec.compile()
    except ValueError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not model.body_weldid[model.body(link).id]:
        raise ConfigError(f"{path}: no joint moves the link {link}")
    ids = [model.joint(name).id for name in joints]
    return ModelKinematics(model, model.site("tool").id, model.jnt_qposadr[ids], model.jnt_dofadr[ids])


def _without_shapes(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise ConfigError(f"{path} is no URDF: {error}") from error
    if root.tag != "robot":
        raise ConfigError(f"{path} is no URDF: it begins with {root.tag}, not robot; expand a xacro first")
    for link in root.iter("link"):
        for part in [child for child in link if child.tag in UNUSED]:
            link.remove(part)
    for part in [child for child in root if child.tag not in ("link", "joint")]:
        root.remove(part)
    return root


def _tool(path: Path, root: ElementTree.Element, tool: str) -> str:
    """The link that is driven."""
    links = [str(link.get("name")) for link in root.iter("link")]
    if tool:
        if tool not in links:
            raise UnknownNameError(f"link of {path.name}", tool, links)
        return tool
    parents = {parent.get("link") for parent in root.iter("parent")}
    last = [name for name in links if name not in parents]
    if len(last) != 1:
        raise ConfigError(f"{path.name} has {len(last)} last links; give arm.tool=, one of: {', '.join(links)}")
    return last[0]
