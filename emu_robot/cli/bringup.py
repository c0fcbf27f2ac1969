"""`emu-robot bringup [graph=sim] [robot=…] [nodes=…] [node.parameter=value …]`: runs the ROS 2 nodes as processes.

graph=sim: a simulated arm, planner, policy, safety gate. graph=arm: the same without the simulation, for the drivers of
a real arm. robot=: the arm, by a known name or a YAML file. weights=mini: the weights of planner and policy.
nodes=+recorder,-planner adds and removes nodes; nodes=safety runs only these. file=: another graph.yaml.
namespace=left: all names under /left, for example beside another arm under /right.
Runs until Ctrl-C or until a node ends. The safety gate ends last.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from emu_robot.deploy.graph import read_graph
from emu_robot.deploy.processes import ENDINGS, Processes
from emu_robot.deploy.ros_environment import node_processes
from emu_robot.errors import ConfigError


def run(arguments: Sequence[str]) -> int:
    """Exit status 0 after Ctrl-C, 1 if a node ended by itself."""
    if any(word in ("-h", "--help") for word in arguments):
        print(__doc__)
        return 0
    settings = pairs(arguments)
    name, nodes, namespace, file = (settings.pop(key, "") for key in ("graph", "nodes", "namespace", "file"))
    path = Path(file) if file else None
    graph = read_graph(name or "sim", nodes=nodes, namespace=namespace, settings=settings, file=path)
    processes = node_processes(graph)
    print(f"{graph.name}: {', '.join(process.name for process in processes)}; Ctrl-C ends them", flush=True)
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with Processes(processes, say=_say) as running:
            ended = running.wait()
    except KeyboardInterrupt:
        return 0
    print(f"error: {ended}; the others were told to end", file=sys.stderr)
    return 1


def pairs(arguments: Sequence[str]) -> dict[str, str]:
    """Arguments key=value by key. Raises `ConfigError` for other forms."""
    for word in arguments:
        if not word.partition("=")[0] or "=" not in word:
            raise ConfigError(f"{word!r} is not of the form key=value")
    return dict(word.split("=", 1) for word in arguments)


def _say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one write, because several threads print


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
