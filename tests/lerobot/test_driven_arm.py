"""`emu-robot teleop arm=lerobot:... leader=lerobot:...`: LeRobot's own SO-101 classes over servos behind a pty."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import painted_camera
import pytest
from feetech_arm import MOTORS, FakeServos, ServoLine, degrees, ticks_of, wait_longer, write_calibration
from page_operator import PageOperator

from emu_robot.cli.main import main
from emu_robot.cli.teleop import TeleopVerbConfig, serving
from emu_robot.errors import ConfigError
from emu_robot.lerobot.devices import ARM, make_device
from emu_robot.lerobot.driven_limits import DrivenArmConfig, driven_limits
from emu_robot.teleop.session import SessionConfig

pytest.importorskip("scservo_sdk", reason="needs LeRobot's extra `feetech`")
CAMERA = "{type: painted, width: 64, height: 48, fps: 30}"
URDF = """<robot name="five">
  <link name="base"/><link name="upper"><visual><geometry><mesh filename="none.stl"/></geometry></visual></link>
  <link name="lower"/><link name="fore"/><link name="hand"/><link name="tip"/>
  <joint name="shoulder_pan" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 1"/></joint>
  <joint name="shoulder_lift" type="revolute"><parent link="upper"/><child link="lower"/><axis xyz="0 1 0"/></joint>
  <joint name="elbow_flex" type="revolute">
    <parent link="lower"/><child link="fore"/><origin xyz="0 0 0.12"/><axis xyz="0 1 0"/></joint>
  <joint name="wrist_flex" type="revolute">
    <parent link="fore"/><child link="hand"/><origin xyz="0.13 0 0"/><axis xyz="0 1 0"/></joint>
  <joint name="wrist_roll" type="revolute">
    <parent link="hand"/><child link="tip"/><origin xyz="0.06 0 0"/><axis xyz="1 0 0"/></joint>
</robot>"""


class Bench:
    """A follower and a leader on serial lines, and `emu-robot teleop` with an operator at its page."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.follower, self.leader = FakeServos(), FakeServos()
        self.line, self.leader_line = ServoLine(self.follower), ServoLine(self.leader)
        stack.callback(self.line.close)
        stack.callback(self.leader_line.close)
        write_calibration(folder, "black")

    def arm(self, **more: str) -> dict[str, str]:
        return {"port": self.line.port, "id": "black", "calibration_dir": str(self.folder), **more}

    def lead(self, motor: str, place: float) -> None:
        """Put a joint of the leader to a place [degrees]."""
        self.leader.put("Present_Position", motor, ticks_of(motor, place))

    def serve(self, *, leads: bool, out: Path | None = None, **more: str) -> PageOperator:
        """Start; the operator resumes, which arms the gate."""
        session = SessionConfig(countdown_s=0.0, watchdog_s=0.5)
        device = {"port": self.leader_line.port, "id": "black", "calibration_dir": str(self.folder)} if leads else {}
        config = TeleopVerbConfig(
            arm="lerobot:so101_follower",
            leader="lerobot:so101_leader" if leads else "",
            task="stack the cups",
            out=out,
            port=0,
            session=session,
        )
        _, url = self._stack.enter_context(serving(config, {"arm": self.arm(**more), "leader": device}))
        operator = PageOperator(url)
        self._stack.callback(operator.close)
        view = operator.wait(lambda view: view["gate"] == "disarmed", "the session to run")
        assert view["reason"].endswith("not armed: Resume (U) arms it")
        assert not any(self.follower.goals.values())
        operator.wait(lambda view: view["gate"] == "holding", "the gate to be armed")
        return operator

    def at(self, motor: str) -> float:
        return degrees(motor, self.follower.place(motor))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    wait_longer(monkeypatch)
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def follows(bench: Bench, operator: PageOperator, motor: str, place: float) -> None:
    operator.wait(lambda view: abs(bench.at(motor) - place) < 0.3, f"{motor} to be at {place}")


@pytest.mark.slow
def test_a_leader_is_followed_through_the_gate_and_an_episode_is_a_dataset(bench: Bench, tmp_path: Path) -> None:
    operator = bench.serve(leads=True, out=tmp_path / "set", **{"limits": "so101", **_camera()})
    bench.lead("shoulder_pan", 12.0)
    time.sleep(0.5)
    assert abs(bench.at("shoulder_pan")) < 0.2  # nobody holds the deadman
    operator.pressed = True
    follows(bench, operator, "shoulder_pan", 12.0)
    goals = np.radians([degrees("shoulder_pan", ticks) for ticks in bench.follower.goals["shoulder_pan"]])
    assert 0 < np.diff(goals).max() <= 0.1 and len(goals) > 10  # slowly, in many steps
    operator.wait(lambda view: _starts(operator), "the recorder to be ready", 400)
    for place in np.linspace(12.0, 0.0, 40):
        bench.lead("shoulder_pan", place)
        bench.lead("gripper", 40.0)
        time.sleep(0.05)
    follows(bench, operator, "shoulder_pan", 0.0)
    operator.order("success")
    operator.wait(lambda view: view["committed"] == 1, "the episode to be on the disk", 400)
    _check_dataset(tmp_path / "set")


def _camera() -> dict[str, Any]:
    return {"cameras.front": CAMERA}


def _starts(operator: PageOperator) -> bool:
    if operator.view["phase"] != "recording":
        operator.order("start")
        time.sleep(0.5)
    return operator.view["phase"] == "recording"


def _check_dataset(folder: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/so101", root=folder)
    names = [f"{name}.pos" for name in MOTORS]
    assert dataset.features["action"]["names"] == dataset.features["observation.state"]["names"] == names
    assert dataset.meta.info.robot_type == "so_follower"
    frames: list[Any] = [dataset[i] for i in range(len(dataset))]
    assert {frame["task"] for frame in frames} == {"stack the cups"} and len(frames) > 20
    assert frames[0]["observation.images.front"].shape == (3, 48, 64)
    actions = np.array([np.asarray(frame["action"]) for frame in frames])
    states = np.array([np.asarray(frame["observation.state"]) for frame in frames])
    assert actions[0, 0] == pytest.approx(12.0, abs=1) and actions[-1, 0] == pytest.approx(0.0, abs=1)  # degrees
    assert np.abs(actions - states)[:, :5].max() < 8
    assert 45 < actions[-1, 5] <= 100  # percent of the gripper's range


def test_a_leader_far_away_is_named_and_its_arm_waits(bench: Bench) -> None:
    operator = bench.serve(leads=True)
    bench.lead("elbow_flex", 60.0)
    operator.pressed = True
    view = operator.wait(lambda view: "the leader is" in view["reason"], "the reason")
    assert "+1.05 rad from the robot's elbow_flex.pos; bring it within 0.80 rad" in view["reason"]
    assert abs(bench.at("elbow_flex")) < 0.2
    bench.lead("elbow_flex", 30.0)
    follows(bench, operator, "elbow_flex", 30.0)


def test_a_lost_bus_holds_says_so_and_is_armed_by_a_person_alone(bench: Bench) -> None:
    operator = bench.serve(leads=True)
    bench.lead("shoulder_lift", 10.0)
    operator.pressed = True
    follows(bench, operator, "shoulder_lift", 10.0)
    operator.resumes, bench.line.mute = False, True
    view = operator.wait(lambda view: view["gate"] == "disarmed", "the gate to be disarmed")
    assert "so_follower does not answer" in view["reason"] and not view["driven"]
    bench.line.mute = False
    bench.follower.put("Present_Position", "shoulder_lift", ticks_of("shoulder_lift", -10.0))  # it has sunk
    operator.wait(lambda view: "answer" not in view["reason"], "the arm to be back")
    sent = len(bench.follower.log)
    time.sleep(0.5)
    assert len(bench.follower.log) == sent and bench.at("shoulder_lift") == pytest.approx(-10, abs=0.2)
    operator.resumes = True
    follows(bench, operator, "shoulder_lift", 10.0)


def test_a_lost_leader_holds_and_says_so(bench: Bench) -> None:
    operator = bench.serve(leads=True)
    operator.pressed = True
    operator.wait(lambda view: view["driven"], "the arm to be driven")
    bench.leader_line.mute = True
    view = operator.wait(lambda view: "the leader so_leader does not answer" in view["reason"], "the reason")
    assert view["gate"] == "holding"
    bench.leader_line.mute = False
    operator.wait(lambda view: view["driven"], "the arm to be driven again")


def test_a_resting_leader_away_from_its_arm_is_told(bench: Bench) -> None:
    operator = bench.serve(leads=True)
    operator.pressed = True
    operator.wait(lambda view: view["driven"], "the arm to be driven")
    bench.follower.stuck = True
    bench.lead("wrist_flex", 9.0)
    said = operator.wait(lambda view: "stays" in view["said"], "the distance to be told")["said"]
    assert "wrist_flex.pos stays -0.16 rad from the leader's: compare the two calibrations" in said


def test_without_kinematics_it_moves_joint_by_joint(bench: Bench) -> None:
    operator = bench.serve(leads=False)
    assert operator.view["joints"] == [f"{name}.pos" for name in MOTORS[:-1]] and operator.view["tool"] is None
    operator.wish, operator.pressed = {"joint": 1, "share": 1.0}, True
    operator.wait(lambda view: bench.at("shoulder_lift") > 6, "the joint to move")
    assert all(abs(bench.at(name)) < 0.3 for name in MOTORS[:-1] if name != "shoulder_lift")
    operator.wish = {"home": True}
    follows(bench, operator, "shoulder_lift", 0.0)  # home is where it was at the start
    before = bench.follower.place("gripper")
    operator.wish = {"grip": -1}
    operator.wait(lambda view: bench.follower.place("gripper") < before - 300, "the gripper to close")


def test_with_a_urdf_the_tool_is_driven_in_space(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(URDF)
    operator = bench.serve(leads=False, urdf=str(tmp_path / "arm.urdf"))
    start = operator.view["tool"]
    np.testing.assert_allclose(start, [0.19, 0.0, 0.12], atol=0.003)
    operator.wish, operator.pressed = {"linear": [1, 0, 0]}, True  # right of one who faces the arm: its own +y
    operator.wait(lambda view: view["tool"][1] > 0.05, "the tool to move")
    np.testing.assert_allclose(operator.view["tool"][::2], start[::2], atol=0.01)
    assert bench.at("shoulder_pan") > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["arm=lerobot:so101_folower"], r"unknown type of arm 'so101_folower'; known: .*koch_follower.*did you mean"),
        (["arm=so101"], "unknown arm 'so101'; known: lerobot:TYPE, such as lerobot:so101_follower"),
        (["arm=lerobot:so101_follower"], r"so101_follower needs arm.port=; serial ports here: "),
        (["arm=lerobot:so101_follower", "arm.prot=x"], r"no setting arm.prot; valid: .*did you mean 'port'"),
        (["arm=lerobot:so101_follower", "arm.port=/dev/none", "arm.calibration_dir={folder}"], "there: black; calib"),
        (
            ["arm=lerobot:so101_follower", "arm.port=/dev/none", "arm.calibration_dir={folder}", "arm.id=black"],
            r"so101_follower cannot be reached on /dev/none: .*; serial ports here: ",
        ),
        (
            ["arm=lerobot:so101_follower", "arm.port=/dev/none", "arm.cameras.top.type=kodak"],
            r"unknown arm.cameras.top.type 'kodak'; known: .*opencv",
        ),
        (["arm=lerobot:so101_follower", "arm.port=x", "arm.speed=90"], "arm.speed is 90"),
        (["arm=ros:my_arm.yaml"], "my_arm.yaml"),
        (["arm=ros:ur9"], "unknown robot 'ur9'"),
        (["arm=ros:panda_sim", "policy=mini"], "the graph has a policy node of its own"),
        (["arm.port=/dev/none"], "arm.port is given without arm="),
        (["leader=lerobot:so101_leader", "leader.port=/dev/none"], r"gives shoulder_pan.pos.*panda takes joint1.pos"),
        (["leader=lerobot:so102_leader"], "unknown type of leader 'so102_leader'; known: .*so101_leader"),
        (["arm=lerobot:so101_follower", "seed=3"], "seed has no effect: the arm is lerobot:so101_follower"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_exists(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_calibration(tmp_path, "black")
    assert main(["teleop", "out=null", "port=0", *(word.format(folder=tmp_path) for word in words)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error), error


def test_other_units_of_leader_and_arm_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="gives degrees and so_follower takes other numbers"):
        bench.serve(leads=True, use_degrees="false")


@pytest.mark.parametrize(("in_degrees", "ends"), [("true", 113.98), ("false", 100.0)])
def test_the_calibration_limits_an_arm_and_a_file_narrows_it(tmp_path: Path, in_degrees: str, ends: float) -> None:
    write_calibration(tmp_path, "black")
    settings: dict[str, Any] = {"port": "x", "id": "black", "calibration_dir": str(tmp_path)}
    robot = make_device(ARM, "so101_follower", {**settings, "use_degrees": in_degrees})
    limits = driven_limits(robot, DrivenArmConfig(speed=1.5))
    lift = MOTORS.index("shoulder_lift")
    assert limits.motion.upper[lift] == pytest.approx(ends, abs=0.4)
    np.testing.assert_allclose(limits.scaled.velocity[:5], 1.5)  # the gate's numbers are radians in both units
    np.testing.assert_allclose(limits.scaled.upper[[0, lift, 5]], [2.148, 1.995, 1.0], atol=2e-3)
    if in_degrees == "true":
        both = driven_limits(robot, DrivenArmConfig(limits="so101")).motion
        assert both.upper[:2] == pytest.approx([110.0, 100.0], abs=0.01) and both.velocity[0] == pytest.approx(
            114.6, abs=0.1
        )


def test_a_camera_that_is_gone_is_told_and_driving_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = bench.serve(leads=False, **_camera())
    monkeypatch.setattr(painted_camera.Painted, "alive", False)
    operator.wait(lambda view: "camera front does not answer: no picture" in view["said"], "the camera to be told")
    operator.wish, operator.pressed = {"joint": 0, "share": -1.0}, True
    operator.wait(lambda view: bench.at("shoulder_pan") < -4, "the joint to move")
