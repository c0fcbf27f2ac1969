"""`emu-robot doctor ros`: what it says of machines that lack something, and of graphs in which something is wrong."""

import json
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robots import APART, SIX

from emu_robot.cli import doctor
from emu_robot.cli import main as cli
from emu_robot.deploy import ros_checks
from emu_robot.deploy.graph_file import graph_path
from emu_robot.deploy.preflight import CommandTopic, ImageStream, JointStream, NodeSeen, Seen, judge
from emu_robot.doctor import Check
from emu_robot.errors import SystemSetupError
from emu_robot.robots.deployment import read_deployment

PROFILE = graph_path().parent / "fastdds_udp.xml"
MODULES = ("rclpy", "emu_robot", "emu_robot_interfaces", "emu_robot_ros")
PYTHON = """#!/bin/sh
if [ $1 = -c ]; then echo '{found}'; exit; fi
shift 2
echo $@
exit $(cat {folder}/status)
"""
FOUND = {**{name: f"/env/lib/{name}/__init__.py" for name in MODULES}, "rmw": "rmw_fastrtps_cpp"}


def said(checks: Check | Sequence[Check]) -> str:
    """The problems, required ones marked, as one text."""
    checks = [checks] if isinstance(checks, Check) else checks
    return " | ".join(f"{'! ' * check.required}{check.problem}" for check in checks if check.problem)


# -- the machine


def test_what_does_not_load_is_named_with_the_remedy():
    assert not said(ros_checks.check_imports(Path("python"), FOUND))
    broken = {**FOUND, "emu_robot_interfaces error": "ModuleNotFoundError: No module named 'emu_robot_interfaces'"}
    del broken["emu_robot_interfaces"]
    problem = said(ros_checks.check_imports(Path("python"), broken))
    assert problem.startswith("! emu_robot_interfaces does not load in python (ModuleNotFoundError: No module")
    assert "Get it: colcon build in ros_ws" in problem


def test_a_python_that_does_not_even_run_is_named(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    assert ros_checks.probe(python) == {"rclpy error": "broken"}


def test_interfaces_older_than_their_sources_are_named(tmp_path: Path):
    sources, share = tmp_path / "src", tmp_path / "share/emu_robot_interfaces"
    for folder in (sources, share):
        (folder / "msg").mkdir(parents=True)
        (folder / "msg/One.msg").write_text("int32 a\n")
    found = {"emu_robot_interfaces": str(tmp_path / "lib/python3.12/site-packages/emu_robot_interfaces/__init__.py")}
    assert not said(ros_checks.check_interfaces(found, sources))
    (sources / "msg/One.msg").write_text("int32 b\n")
    (sources / "msg/Two.msg").write_text("int32 a\n")
    assert "One.msg, Two.msg changed since it was built" in said(ros_checks.check_interfaces(found, sources))
    assert "no share folder" in said(ros_checks.check_interfaces({"emu_robot_interfaces": "/a/__init__.py"}, sources))


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, ""),
        ({"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}, ""),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "LOCALHOST adds a transport. Over Fast DDS's shared memory"),
        ({"ROS_DOMAIN_ID": "110"}, "! ROS_DOMAIN_ID is '110', must lie in 0 to 101"),
        ({"ROS_DOMAIN_ID": "lab"}, "! ROS_DOMAIN_ID is 'lab'"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "local"}, "! ROS_AUTOMATIC_DISCOVERY_RANGE is 'local', must be one of"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "! ROS_AUTOMATIC_DISCOVERY_RANGE is OFF: nodes find no others"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "ROS_LOCALHOST_ONLY overrides the discovery range"),
    ],
)  # fmt: skip
def test_the_domain_is_said_and_judged(environment: dict[str, str], problem: str):
    checks = ros_checks.check_domain(environment)
    assert checks[0].name == f"ROS_DOMAIN_ID {environment.get('ROS_DOMAIN_ID', '0')}"
    assert said(checks).startswith(problem) and bool(said(checks)) == bool(problem)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (FOUND, ""),
        ({"rmw": "rmw_cyclonedds_cpp"}, "the middleware is rmw_cyclonedds_cpp, tried was only Fast DDS. export RMW"),
        ({"rmw error": "RuntimeError: no"}, "! the middleware rmw_x does not load (RuntimeError: no). export RMW"),
    ],
)
def test_the_middleware_is_fast_dds(found: dict[str, str], problem: str):
    answer = said(ros_checks.check_rmw(found, {"RMW_IMPLEMENTATION": "rmw_x"}))
    assert answer.startswith(problem) and bool(answer) == bool(problem)


def test_a_profile_of_one_s_own_must_be_readable_and_share_no_memory(tmp_path: Path):
    def problem(path: Path) -> str:
        return said(ros_checks.check_profile({"FASTRTPS_DEFAULT_PROFILES_FILE": str(path)}))

    assert not said(ros_checks.check_profile({}))
    assert not problem(PROFILE)
    assert not problem(PROFILE.with_name("fastdds_loopback.xml"))
    assert problem(tmp_path / "none.xml").startswith("! FASTRTPS_DEFAULT_PROFILES_FILE: ")
    for ours, another in (("UDPv4", "SHM"), ("false", "true")):
        (tmp_path / "mine.xml").write_text(PROFILE.read_text().replace(ours, another))
        assert "lets processes of one machine share memory" in problem(tmp_path / "mine.xml")


def test_the_kernel_must_leave_room_for_pictures(tmp_path: Path):
    file = tmp_path / "rmem_max"
    file.write_text("4194304\n")
    assert not said(ros_checks.check_receive_buffer(file))
    file.write_text("212992\n")
    problem = said(ros_checks.check_receive_buffer(file))
    assert problem.startswith("net.core.rmem_max 212992: pictures of 640 x 480 and more get lost")
    assert "sysctl -w net.core.rmem_max=4194304" in problem


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"timedatectl": "yes"}, ""),
        ({"timedatectl": "no"}, "the system clock is not synchronised (timedatectl)"),
        ({"chronyc": "Leap status     : Normal"}, ""),
        ({"chronyc": "Leap status     : Not synchronised"}, "the system clock is not synchronised (chronyc)"),
        ({}, "neither timedatectl nor chronyc says"),
    ],
)
def test_the_clock_is_judged_by_who_knows(answers: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ros_checks, "answer_of", lambda *command: answers.get(command[0], ""))
    answer = said(ros_checks.check_clock())
    assert answer.startswith(problem) and bool(answer) == bool(problem)


def test_priorities_are_tried():
    assert not said(ros_checks.check_priorities(0)[0])
    assert ros_checks.permitted("pass") and not ros_checks.permitted("os.setpriority(os.PRIO_PROCESS, 0, nice)")


# -- the verb


@pytest.fixture
def ros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the Python that has ROS: all imports succeed, the preflight exits as the file `status` says."""
    python = tmp_path / "python"
    python.write_text(PYTHON.format(found=json.dumps(FOUND), folder=tmp_path))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(doctor, "find_interpreter", lambda: python)
    monkeypatch.setattr(doctor, "machine_checks", lambda *given: [Check(name="machine")])
    return tmp_path


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        ([], "--robot=panda_sim --nodes=safety --namespace="),
        (["graph=drivers", "robot=ur5e"], "--robot=ur5e --nodes= --namespace="),
        (["graph=arm", "robot=ur5e"], "--robot=ur5e --nodes=safety,planner,policy --namespace="),
        (["namespace=left"], "--robot=panda_sim --nodes=safety --namespace=/left"),
    ],
)
def test_doctor_ros_ends_as_the_preflight_does(
    ros: Path, words: list[str], passed_on: str, capfd: pytest.CaptureFixture[str]
):
    for status in (0, 1):
        (ros / "status").write_text(str(status))
        assert cli.main(["doctor", "ros", *words]) == status
        lines = capfd.readouterr().out.splitlines()
        assert lines[0].startswith("ok       rclpy") and lines[-2:] == ["ok       machine", passed_on]


def test_doctor_ros_without_ros_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def none() -> Path:
        raise SystemSetupError("no rclpy: make ros")

    monkeypatch.setattr(doctor, "find_interpreter", none)
    assert cli.main(["doctor", "ros"]) == 1
    assert capsys.readouterr().err == "missing  no rclpy: make ros\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["ors"], "unknown part 'ors'; known: ros"),
        (["ros", "grpah=sim"], "unknown key 'grpah'; known: robot, graph, namespace"),
        (["ros", "namespace=left arm"], "namespace='left arm': must be letters, digits and _"),
        (["ros", "graph=lab"], "unknown graph 'lab'; known: drivers, running, sim, arm"),
        (["ros", "robot=kuka"], "unknown robot 'kuka'"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["doctor", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {problem}")


# -- a running graph; with real nodes in tests/ros/test_preflight.py

ROBOT = read_deployment("franka_fr3")
assert ROBOT.gripper is not None
TIMES = np.arange(0.0, 3.0, 0.02).tolist()


def well() -> Seen:
    """A Franka whose drivers and nodes are as they should be."""
    limits, gripper = ROBOT.limits, {ROBOT.dimension_names[-1]: 0.02}
    middle = (limits.lower + limits.upper)[:-1] / 2
    positions = dict(zip(ROBOT.joints.names, middle.tolist(), strict=True)) | gripper
    return Seen(
        joints=JointStream(
            topic="/joint_states", arrivals=TIMES, ages=[0.002] * 9, positions=positions, complete=len(TIMES)
        ),
        cameras={"front": ImageStream(topic="/front", arrivals=TIMES, ages=[0.03] * 9, what="", different={1, 2})},
        commands=[
            CommandTopic(topic="/arm", kind="trajectory", publishers=["/safety"], subscribers=["/controller"]),
            CommandTopic(topic="/gripper", kind="gripper_command", subscribers=["the action server /gripper"]),
        ],
        nodes={"safety": NodeSeen(count=1, lifecycle="active", robot="franka_fr3", uses_sim_time=False)},
        gate_state="holding",
    )


def test_a_graph_that_is_well_has_no_problem():
    assert not said(judge(well(), ROBOT, ["safety"]))


@pytest.mark.parametrize(
    ("what", "values", "problem"),
    [
        ("joints", {"arrivals": [0.0, 0.1, 0.2]}, "! /joint_states: 10 Hz, at least 20 are needed"),
        ("joints", {"ages": []}, "! /joint_states is not stamped"),
        ("joints", {"ages": [0.5]}, "! /joint_states: 500 ms old, at most 100 are allowed"),
        ("joints", {"complete": 0}, "! no message on /joint_states holds all joints of the arm"),
        ("joints", {"arrivals": [], "elsewhere": ["/fr3"]}, "! no joint states on /joint_states (there is /fr3)"),
        ("camera", {"arrivals": [0.0, 0.2, 0.4]}, "! /front: 5 Hz, at least 10 are needed"),
        ("camera", {"publishers": ["/a", "/b"]}, "! /front has several publishers: /a, /b. Leave one"),
        ("camera", {"problem": "image encoding 'yuyv'; known: rgb8"}, "! /front: image encoding 'yuyv'"),
        ("arm", {"publishers": ["/move_group"]}, "! /arm has other publishers than one safety gate: /move_group"),
        ("arm", {"publishers": ["/safety", "/safety"]}, "! /arm has other publishers than one safety"),
        ("gripper", {"subscribers": []}, "! no node takes commands on /gripper. Start the controller"),
        ("safety", {"lifecycle": "inactive"}, "! the node safety is inactive"),
        ("safety", {"robot": "ur5e"}, "! the safety gate was started for ur5e, this is franka_fr3"),
        ("seen", {"gate_state": "fault", "gate_reason": "a jump"}, "! the safety gate is in fault (a jump). When"),
        ("seen", {"gate_state": ""}, "! the safety gate does not say its state"),
        ("seen", {"duplicates": ["/safety"]}, "! several nodes are called /safety"),
        ("seen", {"joints_refused": (3, "j1 leaps")}, "! the safety gate would not believe 3 of the joint states: j1"),
        ("arm", {"rivals": "/arm/follow has 1 client"}, "! /arm/follow has 1 client. End it, or the gate will not arm"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(what: str, values: dict[str, Any], problem: str):
    seen = well()
    parts = {"joints": seen.joints, "camera": seen.cameras["front"], "arm": seen.commands[0], "seen": seen}
    part = {**parts, "gripper": seen.commands[1], "safety": seen.nodes["safety"]}[what]
    for name, value in values.items():
        setattr(part, name, value)
    answer = said(judge(seen, ROBOT, ["safety"]))
    assert answer.startswith(problem) and " | " not in answer


def test_in_a_namespace_its_own_gate_alone_may_command():
    seen = replace(well(), namespace="/left", nodes={"safety": NodeSeen(count=0)})
    problem = said(judge(seen, ROBOT, ["safety"]))
    assert "/arm has other publishers than one safety gate: /safety. End all but /left/safety" in problem
    assert "the node left/safety does not run, or hangs. Start it: emu-robot bringup namespace=left" in problem
    seen.commands[0].publishers = ["/left/safety"]
    seen.nodes, seen.gate_state = well().nodes, "fault"
    assert "ros2 service call /left/reset_estop std" in said(judge(seen, ROBOT, ["safety"]))
    seen.nodes["safety"].lifecycle, seen.gate_state = "inactive", "disarmed"
    assert said(judge(seen, ROBOT, ["safety"])).endswith("ros2 lifecycle set /left/safety activate")


def test_clocks_of_our_nodes_must_agree():
    seen = well()
    seen.nodes = {**seen.nodes, "policy": NodeSeen(count=1, lifecycle="active", uses_sim_time=True)}
    assert "use_sim_time is set for policy only" in said(judge(seen, ROBOT, ["safety"]))


def small(*gripper: JointStream) -> Seen:
    """The six-jointed arm at rest, as it should be, and what its gripper sends on a topic of its own."""
    stream = JointStream(topic="/joint_states", arrivals=TIMES, ages=[0.002] * 9, complete=len(TIMES))
    stream.positions = dict.fromkeys(SIX.joints.names, 0.0)
    return Seen(joints=stream, gripper=next(iter(gripper), None), cameras={}, commands=[], nodes={})


def hand(**changes: Any) -> JointStream:
    usual = {"arrivals": TIMES[::5], "ages": [0.01] * 9, "positions": {"finger": 0.02, "thumb": 7.0}}
    return JointStream(topic="/hand/joint_states", **usual | changes)


def test_an_arm_without_gripper_needs_none():
    checks = judge(small(), SIX, [])
    assert not said(checks) and checks[0].name == "/joint_states has the 6 joints"


def test_a_gripper_with_joint_states_of_its_own_is_not_looked_for_among_the_arm_s():
    checks = judge(small(hand()), APART, [])
    assert not said(checks)
    names = [check.name for check in checks]
    assert names[0] == "/joint_states has the 6 joints" and "/hand/joint_states has the gripper" in names


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arrivals": []}, "! no joint states of the gripper on /hand/joint_states. Start its driver, or correct"),
        ({"arrivals": [], "publishers": ["/hand"]}, "! /hand publishes /hand/joint_states but nothing came"),
        ({"positions": {"thumb": 0.0}}, "! /hand/joint_states lacks finger; it has thumb. Correct the names"),
        ({"positions": {"finger": 4.0}}, "! finger is at 4, not between 0 (closed) and 0.04 (open). Correct"),
        ({"ages": [0.5]}, "! /hand/joint_states: 500 ms old, at most 200 are allowed"),
        ({"ages": []}, "! /hand/joint_states is not stamped"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_gripper_s_own_joint_states_is_said(changes: dict[str, Any], problem: str):
    answer = said(judge(small(hand(**changes)), APART, []))
    assert answer.startswith(problem) and " | " not in answer
