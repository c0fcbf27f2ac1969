"""Checks before the start that the Python of a graph's nodes has the packages they need. Needs no ROS itself."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from emu_robot.deploy.graph import Graph
from emu_robot.errors import SystemSetupError
from emu_robot.robots.deployment import read_deployment

BUILT: tuple[str, ...] = ("emu_robot_ros", "emu_robot_interfaces")
"""Packages that every node needs, built from ros_ws."""
OF_NODES: dict[str, tuple[str, ...]] = {
    "planner": ("torch",),
    "policy": ("torch",),
    "recorder": ("mcap",),
    "sim_bridge": ("mujoco",),
}
FIND = "import importlib.util, sys; print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
"""Prints, in the nodes' Python, which of the given packages it lacks."""


def packages_needed(graph: Graph) -> dict[str, str]:
    """Package -> the part that needs it, in words."""
    needed = dict.fromkeys(BUILT, "every node")
    for node in graph.nodes:
        for package in OF_NODES.get(node.name, ()):
            needed.setdefault(package, f"the node {node.name}")
        if node.name == "safety" and _takes_goals(str(node.parameters["robot"])):
            needed["control_msgs"] = f"the gripper of {node.parameters['robot']}"
    return needed


def check_packages(graph: Graph, python: Path, environment: Mapping[str, str], *, of_wheels: bool) -> None:
    """Raise `SystemSetupError` for the first package that `python` lacks, in one line with the remedy.

    environment: variables of the nodes beside this process's. of_wheels: whether `make ros` made the interpreter.
    """
    needed = packages_needed(graph)
    words = [str(python), "-c", FIND, *needed]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SystemSetupError(f"{python} does not run: {said[-1]}")
    missing = done.stdout.split()
    if missing:
        remedy = _remedy(missing[0], of_wheels)
        raise SystemSetupError(f"{python} has no {missing[0]}, which {needed[missing[0]]} needs. Get it: {remedy}")


def _takes_goals(robot: str) -> bool:
    """Whether an action commands the robot's gripper."""
    gripper = read_deployment(robot).gripper
    return gripper is not None and gripper.kind == "gripper_command"


def _remedy(package: str, of_wheels: bool) -> str:
    if of_wheels and package in (*BUILT, "control_msgs"):
        return "make ros"
    if package in BUILT:
        return "colcon build in ros_ws, and source its install/setup.bash"
    if package == "control_msgs":
        return "apt install ros-jazzy-control-msgs"
    return "install emu_robot into the same environment (docs/DEPLOY.md)"
