"""`emu-robot bringup` and what it finds around it, with a stand-in for the Python that has ROS."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emu_robot.cli import main as cli
from emu_robot.deploy import ros_environment
from emu_robot.deploy.graph import read_graph
from emu_robot.deploy.ros_environment import find_interpreter, mixture, node_processes
from emu_robot.deploy.ros_packages import packages_needed
from emu_robot.errors import SystemSetupError

ROOT = Path(__file__).parents[2]
NODE = """#!{python} -IS
# Asked for packages (-c): names those in the file "missing". As a node: says how it was started, and when it is told to
# end; ends by itself if it is the policy and the file "die" is there.
import os, pathlib, signal, sys, time
project, words = pathlib.Path("{project}"), sys.argv[1:]
if words[0] == "-c":
    missing = project / "missing"
    sys.exit(print(missing.read_text() if missing.exists() else ""))
def end(*_):
    os.write(1, b"told\\n")
    os._exit(0)
signal.signal(signal.SIGINT, end)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
print(*words, flush=True)
while words[1] != "emu_robot_ros.policy_node" or not (project / "die").exists():
    time.sleep(0.02)
sys.exit(7)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a .venv-ros whose Python is a script, beside a Python without rclpy."""
    python = tmp_path / ".venv-ros/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(NODE.format(python=sys.executable, project=tmp_path))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ros_environment.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return tmp_path


def start(project: Path, *words: str) -> subprocess.Popen[str]:
    code = f"""
import importlib.util, sys
from pathlib import Path
from emu_robot.deploy import ros_environment
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "rclpy" else found(name, *rest)
ros_environment.find_interpreter.__defaults__ = (Path({str(project)!r}),)
from emu_robot.cli.main import main
sys.exit(main(["bringup", *{words!r}]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT
    )


def read_until(process: subprocess.Popen[str], condition: Callable[[list[str]], bool]) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.strip())
        if condition(lines):
            return lines
    raise AssertionError(f"it said only {lines}; {process.stderr and process.stderr.read()}")


def all_started(lines: list[str]) -> bool:
    return sum("--ros-args" in line for line in lines) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_node_is_told_to_end(project: Path, number: signal.Signals):
    with start(project, "sim_bridge.seed=5") as process:
        lines = read_until(process, all_started)
        bridge = next(line for line in lines if line.startswith("[sim_bridge] -m emu_robot_ros.sim_bridge_node"))
        assert "-p seed:=5" in bridge and 'robot:="panda_sim"' in bridge
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    told = [line for line in rest.splitlines() if line.endswith("told")]
    assert len(told) == 4 and told[-1] == "[safety] told"


def test_a_node_that_ends_ends_all_and_is_named(project: Path):
    with start(project) as process:
        read_until(process, all_started)
        (project / "die").touch()
        rest, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == "error: policy ended (exit status 7); the others were told to end"
    assert rest.splitlines()[-1] == "[safety] told" and rest.count("told") == 3


def test_lines_of_a_namespace_name_it(project: Path):
    with start(project, "namespace=left") as process:
        lines = read_until(process, all_started)
        assert lines[0] == "sim: left/safety, left/sim_bridge, left/planner, left/policy; Ctrl-C ends them"
        assert all(line.startswith("[left/") and "-r __ns:=/left" in line for line in lines[1:] if "--ros-args" in line)
        (project / "die").touch()
        rest, errors = process.communicate(timeout=20)
    assert errors.splitlines()[-1] == "error: left/policy ended (exit status 7); the others were told to end"
    assert rest.splitlines()[-1] == "[left/safety] told"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["graph=lab"], "error: unknown graph 'lab'; known: sim, arm"),
        (["graph=arm"], "error: robot= is missing for the graph arm"),
        (["sim"], "error: 'sim' is not of the form key=value"),
        (["namespace=left arm"], "error: namespace='left arm': must be letters, digits and _ between single slashes"),
        (["safety.control_hz=5"], "error: safety.control_hz is 5.0, must lie in [10, 1000]"),
        (["file=nowhere.yaml"], "error: No such file or directory: nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["bringup", *words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(said)


@pytest.mark.parametrize(
    ("words", "missing", "said"),
    [
        (["graph=arm", "robot=ur5e"], "control_msgs", "control_msgs, which the gripper of ur5e needs. Get it: apt"),
        (["graph=arm", "robot=ur5e"], "emu_robot_interfaces control_msgs", "emu_robot_interfaces, which every node"),
        (["graph=arm", "robot=xarm7"], "torch", "torch, which the node planner needs"),
    ],
)
def test_what_is_missing_is_one_line_before_anything_starts(project: Path, words: list[str], missing: str, said: str):
    (project / "missing").write_text(missing)
    with start(project, *words) as process:
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 1 and output == ""
    (line,) = errors.splitlines()
    assert line.startswith(f"error: {project}/.venv-ros/bin/python has no {said}")


def test_only_a_gripper_that_takes_goals_needs_control_msgs():
    def needed(graph: str, **settings: str) -> set[str]:
        return set(packages_needed(read_graph(graph, settings=settings)))

    ours = {"emu_robot_ros", "emu_robot_interfaces"}
    assert needed("arm", robot="franka_fr3") == {*ours, "torch", "control_msgs"}
    assert needed("arm", robot="xarm7") == {*ours, "torch"}
    assert needed("sim") == {*ours, "torch", "mujoco"}


def test_a_python_that_does_not_run_is_said(project: Path):
    (project / ".venv-ros/bin/python").write_text("#!/bin/sh\necho first >&2; echo broken >&2; exit 3\n")
    with start(project) as process:
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 1 and output == ""
    assert errors == f"error: {project}/.venv-ros/bin/python does not run: broken\n"


def test_without_ros_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ros_environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemSetupError, match="make ros"):
        find_interpreter(tmp_path)


def test_a_sourced_ros_and_one_of_wheels_are_not_mixed(project: Path, monkeypatch: pytest.MonkeyPatch):
    python, sourced, overlay = project / ".venv-ros/bin/python", project / "opt/ros/jazzy", project / "ws/install"
    (sourced / "share/rcl").mkdir(parents=True)
    overlay.mkdir(parents=True)
    both = {"AMENT_PREFIX_PATH": f"{overlay}:{sourced}"}
    assert not mixture(python, both)  # not of wheels
    (project / ".venv-ros/lib/python3.12/site-packages/ros_wheels_bootstrapper").mkdir(parents=True)
    assert str(sourced) in mixture(python, both)
    assert not mixture(python, {"AMENT_PREFIX_PATH": str(overlay)})
    assert not mixture(python, {})
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(sourced))
    with pytest.raises(SystemSetupError, match="do not mix"):
        find_interpreter(project)


def test_what_a_user_has_set_stays(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ros_environment, "find_interpreter", lambda: project / ".venv-ros/bin/python")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    found = node_processes(read_graph("arm", settings={"robot": "ur5e"}))[0]
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" not in found.environment
    assert found.environment["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert found.name == "safety" and found.nice == -10 and found.last_to_stop


def test_the_simulated_graph_keeps_to_this_machine_whatever_is_set(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ros_environment, "find_interpreter", lambda: project / ".venv-ros/bin/python")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    environment = node_processes(read_graph())[0].environment
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("fastdds_loopback.xml")
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"
