"""Real nodes started from graph.yaml, as `emu-robot bringup` starts them."""

import gc
import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import rclpy
from conftest import wait_until
from ros_robot import Peer

from emu_robot.deploy.graph import SETTINGS_OF, read_graph
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.deploy.processes import Processes
from emu_robot.deploy.ros_environment import node_processes

ROOT = Path(__file__).parents[2]
NODES = read_graph_file(graph_path()).nodes
OF_ROS = {"use_sim_time", "start_type_description_service", "autostart"}


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.close()


def shares_memory(pid: int) -> bool:
    """Whether Fast DDS has mapped a segment or a port of shared memory into this process."""
    return "/dev/shm/fastrtps_" in Path(f"/proc/{pid}/maps").read_text()


def udp_addresses(pid: int) -> set[str]:
    """Of this machine, that a process's IPv4 sockets are bound to."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    inodes = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    numbers = {row[1].partition(":")[0] for row in rows if row[9] in inodes}
    return {socket.inet_ntoa(bytes.fromhex(number)[::-1]) for number in numbers}


def test_the_graph_s_gate_runs_as_the_file_says(peer: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    settings = {"safety.estop_file": str(tmp_path / "estop"), "safety.control_hz": "40"}
    said: list[str] = []
    with Processes(node_processes(read_graph(nodes="safety", settings=settings)), say=said.append) as processes:
        wait_until(lambda: peer.state == "disarmed", f"the gate to say that it is there; it said {said}")
        process = processes["safety"]
        assert not shares_memory(process.pid), "Fast DDS did not take the profile"
        assert udp_addresses(process.pid) == {"127.0.0.1"}, "what is meant for the simulated arm leaves this machine"
        wait_until(lambda: peer.arm().success, "arming")
        assert peer.estop().success and (tmp_path / "estop").exists()
    assert process.returncode is not None
    assert any(line.startswith("[safety] [INFO]") for line in said) and not any("rror" in line for line in said), said


@contextmanager
def bringup(*words: str) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from emu_robot.cli.main import main; sys.exit(main(['bringup', *sys.argv[1:]]))"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def gate_of(process: subprocess.Popen[str]) -> int:
    """The process that bringup has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: children.read_text().strip(), "the gate's process")
    return int(children.read_text().split()[0])


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (lambda bringup, gate: os.kill(gate, signal.SIGKILL), 1, "error: safety ended (SIGKILL)"),
        (lambda bringup, gate: os.kill(bringup, signal.SIGINT), 0, ""),
    ],
)
def test_bringup_ends_with_its_node_or_when_told(
    peer: Peer, tmp_path: Path, end: Callable[[int, int], None], status: int, said: str
):
    with bringup("nodes=safety", f"safety.estop_file={tmp_path / 'estop'}") as process:
        wait_until(lambda: peer.state == "disarmed", "the gate to say that it is there")
        gate = gate_of(process)
        end(process.pid, gate)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == status and said in errors
    assert not Path(f"/proc/{gate}").exists()


def test_a_node_that_cannot_be_configured_ends_the_graph(tmp_path: Path):
    with bringup("nodes=safety", f"safety.estop_file={tmp_path}") as process:  # a folder
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and "error: safety ended (exit status 1)" in errors, output


def test_the_others_that_are_still_importing_end_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "torch.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with bringup("nodes=planner,policy,safety", f"safety.estop_file={tmp_path}") as process:  # a folder
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.splitlines() == ["error: safety ended (exit status 1); the others were told to end"]
    others = {line for line in output.splitlines()[1:] if not line.startswith("[safety]")}
    assert others <= {"[planner] importing", "[policy] importing"}, output


@pytest.mark.parametrize("name", [name for name in NODES if importlib.util.find_spec(f"emu_robot_ros.{name}_node")])
def test_the_file_names_every_parameter_of_a_node(name: str):
    module = importlib.import_module(f"emu_robot_ros.{name}_node")
    rclpy.init()
    try:
        node = getattr(module, f"{name.title().replace('_', '')}Node")()
        declared = {parameter.name for parameter in node.get_parameters_by_prefix("").values()}
        node.destroy_node()
        del node
    finally:
        gc.collect()  # else its cycles keep it in the ROS graph, where other tests see it
        rclpy.try_shutdown()
    listed = {*NODES[name].arguments, *NODES[name].parameters}
    listed |= {setting.name for setting in fields(SETTINGS_OF[name])} if name in SETTINGS_OF else set()
    assert declared - OF_ROS == listed
