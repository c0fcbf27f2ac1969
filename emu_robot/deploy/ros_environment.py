"""Finds the Python that has ROS 2, and the environment of the nodes' processes. Needs no ROS itself."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from emu_robot.deploy.graph import Graph
from emu_robot.deploy.processes import ProcessSettings
from emu_robot.deploy.ros_packages import check_packages
from emu_robot.errors import SystemSetupError

PROJECT = Path(__file__).resolve().parents[2]


def find_interpreter(project: Path = PROJECT) -> Path:
    """This Python if it has rclpy, else the Python that `make ros` makes in the project.

    Raises `SystemSetupError` without either, or if a sourced ROS would be mixed with ROS from wheels.
    """
    own, wheels = Path(sys.executable), project / ".venv-ros/bin/python"
    if importlib.util.find_spec("rclpy") is None and not wheels.exists():
        raise SystemSetupError("no rclpy: source the setup of a ROS 2 Jazzy, or get it from wheels: make ros")
    python = own if importlib.util.find_spec("rclpy") is not None else wheels
    if problem := mixture(python, os.environ):
        raise SystemSetupError(problem)
    return python


def is_of_wheels(python: Path) -> bool:
    """Whether this interpreter's ROS comes from wheels, not from a sourced installation."""
    return any(python.parent.parent.glob("lib/python3*/site-packages/ros_wheels_bootstrapper"))


def mixture(python: Path, environment: Mapping[str, str]) -> str:
    """The problem and remedy if a ROS is sourced beside ROS from wheels; else empty.

    A workspace built upon the wheels may be sourced: it holds no ROS of its own.
    """
    prefix = python.parent.parent.resolve()
    sourced = [Path(word) for word in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if word]
    others = [str(path) for path in sourced if path.resolve() != prefix and (path / "share/rcl").exists()]
    if not others or not is_of_wheels(python):
        return ""
    return (
        f"{others[0]} is sourced (AMENT_PREFIX_PATH) and {prefix} has ROS 2 from wheels; they do not mix. "
        "Use a shell that sources no setup file, or a Python that sees the sourced rclpy"
    )


def node_environment(usual: Mapping[str, str], always: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that nodes need beside this process's: `always`, those of `usual` that are not set, and
    unbuffered output.
    """
    missing = {name: value for name, value in usual.items() if name not in os.environ}
    return {**missing, **always, "PYTHONUNBUFFERED": "1"}


def node_processes(graph: Graph) -> list[ProcessSettings]:
    """The processes of a graph, for `Processes`.

    Raises `SystemSetupError` without ROS, or without a package that the nodes need.
    """
    python, environment = find_interpreter(), node_environment(graph.usual_environment, graph.environment)
    check_packages(graph, python, environment, of_wheels=is_of_wheels(python))
    return [
        ProcessSettings(
            name=graph.label(node),
            command=[str(python), "-m", node.module, *node.ros_arguments(graph.namespace)],
            environment=environment,
            nice=node.nice,
            last_to_stop=node.last_to_stop,
            listens=True,
        )
        for node in graph.nodes
    ]
