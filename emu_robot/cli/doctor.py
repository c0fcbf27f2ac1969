"""`emu-robot doctor`: checks this machine, and says how to install what is missing.

`emu-robot doctor ros [robot=panda_sim] [graph=running] [namespace=left]` checks ROS 2 and the running graph of a robot.
It listens for three seconds and moves nothing. graph=drivers expects the arm's drivers alone, before bringup;
graph=running also the safety gate; graph=sim or another graph of bringup also each of its nodes.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from emu_robot.cli.bringup import pairs
from emu_robot.deploy.graph_file import GraphEntry, GraphFile, graph_path, read_graph_file
from emu_robot.deploy.ros_checks import check_imports, machine_checks, probe
from emu_robot.deploy.ros_environment import find_interpreter, node_environment
from emu_robot.doctor import Check, report, run_checks
from emu_robot.errors import SystemSetupError, UnknownNameError
from emu_robot.robots.deployment import read_deployment
from emu_robot.robots.ros_names import read_namespace

EXPECTED: dict[str, tuple[str, ...]] = {"drivers": (), "running": ("safety",)}
"""Further graphs besides those of bringup, with the nodes that must run."""
KEYS = ("robot", "graph", "namespace")


def run(arguments: Sequence[str]) -> int:
    """Print the checks. Returns exit status 1 if something required is missing."""
    if any(word in ("-h", "--help") for word in arguments):
        print(__doc__)
        return 0
    if arguments and arguments[0] == "ros":
        return _ros(pairs(arguments[1:]))
    if arguments:
        raise UnknownNameError("part", arguments[0], ("ros",))
    return 0 if report(run_checks()) else 1


def _wanted(settings: dict[str, str], described: GraphFile) -> tuple[str, GraphEntry]:
    """The robot, and the expected nodes, environment and namespace. Raises `EmuRobotError` for unknown names."""
    for key in settings:
        if key not in KEYS:
            raise UnknownNameError("key", key, KEYS)
    robot, name, namespace = (settings.get(key, "") for key in KEYS)
    robot, name = robot or "panda_sim", name or "running"
    read_deployment(robot)
    if name not in (*EXPECTED, *described.graphs):
        raise UnknownNameError("graph", name, (*EXPECTED, *described.graphs))
    graph = described.graphs.get(name, GraphEntry(nodes=EXPECTED.get(name, ())))
    return robot, replace(graph, namespace=read_namespace(namespace) if namespace else graph.namespace)


def _ros(settings: dict[str, str]) -> int:
    described = read_graph_file(graph_path())
    robot, graph = _wanted(settings, described)
    try:
        python = find_interpreter()
    except SystemSetupError as error:
        report([Check(name="ROS 2", problem=str(error))])
        return 1
    found = probe(python)
    imports = check_imports(python, found)
    nice = min((node.nice for node in described.nodes.values()), default=0)
    well = report([*imports, *machine_checks(found, nice)])
    if any(check.problem for check in imports):
        return 1  # the graph could not be examined
    sys.stdout.flush()
    command = [str(python), "-m", "emu_robot_ros.preflight", f"--robot={robot}", f"--nodes={','.join(graph.nodes)}"]
    command.append(f"--namespace={graph.namespace}")
    environment = os.environ | node_environment(described.environment, graph.environment)
    alive = subprocess.run(command, env=environment, check=False).returncode == 0
    return 0 if well and alive else 1
