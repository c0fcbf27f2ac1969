"""Any LeRobot arm behind the safety gate: an SO-101 by LeRobot's own driver on fake servos, the simulated Panda."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import draccus
import feetech_arm
import numpy as np
import pytest
from feetech_arm import MOTORS, FakeServos, ServoLine, degrees, register_bus, ticks_of, write_calibration
from lerobot.datasets import LeRobotDataset
from lerobot.robots import make_robot_from_config
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
from lerobot.robots.utils import ensure_safe_goal_position
from lerobot.scripts import lerobot_record, lerobot_rollout, lerobot_teleoperate
from lerobot.utils.errors import DeviceNotConnectedError
from lerobot_recordings import short_recording

from emu_robot.errors import ConfigError, InvalidValueError, RobotStoppedError, UnknownNameError
from emu_robot.lerobot import (
    EmuGated,
    EmuGatedConfig,
    EmuSimExpert,
    EmuSimExpertConfig,
    EmuSimPanda,
    EmuSimPandaConfig,
    gated_robot,
)
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.robots.deployment import read_deployment

HZ = 30.0
JOINTS = MOTORS[:-1]
LIMITS = read_deployment("so101").limits
LOWER, UPPER, VELOCITY, ACCELERATION = (
    np.array([*np.degrees(value[:-1]), 100 * value[-1]])
    for value in (LIMITS.lower, LIMITS.upper, LIMITS.velocity, LIMITS.acceleration)
)
NAMES = [f"{name}.pos" for name in MOTORS]
REST = dict.fromkeys(NAMES, 0.0) | {"gripper.pos": 50.0}
NEAR = 360 / feetech_arm.TICKS
"""One tick of a servo [degrees]."""
WORDS = "open the drawer"


class FakeTime:
    """A steady clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(gated_robot, "time", clock)
    return clock


@pytest.fixture
def servos(monkeypatch: pytest.MonkeyPatch) -> FakeServos:
    servos = FakeServos()
    monkeypatch.setattr("lerobot.robots.so_follower.so_follower.FeetechMotorsBus", register_bus(servos))
    return servos


@pytest.fixture
def so101(tmp_path: Path) -> Callable[..., SO101FollowerConfig]:
    """Settings of a calibrated SO-101."""
    write_calibration(tmp_path, "black")

    def settings(port: str = "/dev/none", **more: Any) -> SO101FollowerConfig:
        return SO101FollowerConfig(port=port, id="black", calibration_dir=tmp_path, **more)

    return settings


@pytest.fixture
def gated(so101, tmp_path: Path, servos: FakeServos) -> Iterator[Callable[..., EmuGated]]:
    """Makes a connected arm behind the gate; disconnects it in the end."""
    made: list[EmuGated] = []

    def make(**more: Any) -> EmuGated:
        settings: dict[str, Any] = {"limits": "so101", "fps": HZ, "estop_file": str(tmp_path / "{robot}-{id}.estop")}
        config = EmuGatedConfig(arm=so101(), calibration_dir=tmp_path, **settings | more)
        robot = make_robot_from_config(config)
        assert isinstance(robot, EmuGated)
        made.append(robot)
        robot.connect()
        return robot

    yield make
    for robot in made:
        if robot.is_connected:
            robot.disconnect()


def move(robot: EmuGated, action: dict[str, Any], steps: int) -> list[dict[str, float]]:
    """An action for so many turns of LeRobot's loop; what was sent."""
    sent = []
    for _ in range(steps):
        robot.get_observation()
        sent.append(robot.send_action(action))
    return sent


def line(sent: list[dict[str, float]]) -> np.ndarray:
    """(N, 6) in the order of MOTORS."""
    return np.array([[one[name] for name in NAMES] for one in sent])


# -- what LeRobot does by itself


def test_lerobots_own_check_lets_nan_reach_the_bus(servos: FakeServos, so101, monkeypatch) -> None:
    assert np.isnan(ensure_safe_goal_position({"elbow_flex": (np.nan, 0.0)}, 5.0)["elbow_flex"])
    arm = SO101Follower(so101(max_relative_target=5.0))
    arm.connect()
    asked: list[dict[str, float]] = []
    write = arm.bus.sync_write
    monkeypatch.setattr(arm.bus, "sync_write", lambda name, values: (asked.append(values), write(name, values)))
    with pytest.raises(ValueError, match="cannot convert float NaN"):
        arm.send_action(REST | {"elbow_flex.pos": np.nan})
    assert np.isnan(asked[0]["elbow_flex"]) and not any(servos.goals.values())


def test_lerobots_own_arm_is_sent_beyond_its_range(servos: FakeServos, so101) -> None:
    arm = SO101Follower(so101())
    arm.connect()
    arm.send_action(REST | {"elbow_flex.pos": 300.0})
    assert servos.goals["elbow_flex"][-1] > feetech_arm.TICKS


# -- what the gate does


@pytest.fixture(params=["registers", "pty"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeServos, str]]:
    """Servos below LeRobot's bus, and below Feetech's own library on a serial line."""
    servos = FakeServos()
    if request.param == "registers":
        monkeypatch.setattr("lerobot.robots.so_follower.so_follower.FeetechMotorsBus", register_bus(servos))
        yield servos, "/dev/none"
        return
    pytest.importorskip("scservo_sdk", reason="needs LeRobot's extra `feetech`")
    serial_line = ServoLine(servos)
    yield servos, serial_line.port
    serial_line.close()


def test_an_so101_follows_within_its_limits(port: tuple[FakeServos, str], so101, tmp_path: Path) -> None:
    servos, device = port
    config = EmuGatedConfig(arm=so101(device), limits="so101", fps=60, estop_file="", calibration_dir=tmp_path)
    robot = EmuGated(config)
    robot.connect()
    goal = REST | {"shoulder_pan.pos": 15.0, "gripper.pos": 80.0}
    for sent in move(robot, goal, 60):
        assert sent.keys() == goal.keys()
    assert robot.get_observation() == pytest.approx(goal, abs=NEAR)
    place = np.array([degrees("shoulder_pan", ticks) for ticks in servos.goals["shoulder_pan"]])
    assert np.abs(np.diff(place)).max() <= VELOCITY[0] / 60 + NEAR
    assert np.abs(np.diff(place, 2)).max() <= ACCELERATION[0] / 60**2 + 2 * NEAR
    wrong = robot.send_action(goal | {"elbow_flex.pos": np.nan})
    assert wrong == pytest.approx(goal, abs=1)
    robot.disconnect()
    assert [entry[2] for entry in servos.log if entry[0] == "Torque_Enable"][-6:] == [0] * 6


def test_it_is_the_arm_to_its_caller(gated) -> None:
    robot = gated()
    assert robot.observation_features == robot.arm.observation_features
    assert robot.action_features == robot.arm.action_features
    assert (robot.name, robot.robot_type, robot.id, robot.cameras) == ("so_follower", "so_follower", "black", {})
    assert robot.is_calibrated
    assert robot.get_observation() == pytest.approx(REST, abs=NEAR)


def test_a_leader_far_away_is_named_and_awaited(gated, clock: FakeTime, caplog) -> None:
    robot = gated()
    far = REST | {"shoulder_lift.pos": 45.0, "wrist_roll.pos": -30.0}
    sent = line(move(robot, far, 60))
    np.testing.assert_allclose(sent, sent[:1].repeat(60, 0), atol=NEAR)
    said = [record.message for record in caplog.records if "holds" in record.message]
    assert len(said) == 1 and "shoulder_lift.pos from 0 to 45 (at most 20.05)" in said[0]
    assert "wrist_roll.pos from" in said[0] and "elbow" not in said[0]
    near = REST | {"shoulder_lift.pos": 15.0}
    assert move(robot, near, 30)[-1] == pytest.approx(near, abs=NEAR)


def test_wrong_actions_hold_and_many_in_a_row_stop(gated, clock: FakeTime, caplog) -> None:
    robot = gated()
    goal = REST | {"shoulder_pan.pos": 10.0}
    move(robot, goal, 30)
    wrongs = [
        goal | {"elbow_flex.pos": np.nan},
        {"elbow_flex.pos": 0.0},
        goal | {"knee.pos": 0.0},
        goal | {"gripper.pos": "1"},
    ]
    for wrong in wrongs:
        assert robot.send_action(wrong) == pytest.approx(goal, abs=1)
    for words in ("elbow_flex.pos=nan", "lacks shoulder_pan.pos", "has knee.pos", "gripper.pos='1'"):
        assert words in caplog.text
    with pytest.raises(
        RobotStoppedError, match=r"fault \(5 wrong .*lacks shoulder_pan.*\); mend its cause and start again"
    ):
        robot.send_action({})
    with pytest.raises(RobotStoppedError, match="fault"):
        robot.send_action(goal)
    robot.disconnect()
    robot.connect()
    assert robot.send_action(goal) == pytest.approx(goal, abs=1)


def test_an_arm_that_does_not_follow_is_a_fault(gated, clock: FakeTime, servos: FakeServos) -> None:
    robot = gated()
    servos.stuck = True
    with pytest.raises(RobotStoppedError, match="does not follow") as stopped:
        for place in range(100):
            move(robot, REST | {"shoulder_pan.pos": float(place)}, 1)
    assert "\n" not in str(stopped.value)
    place = [degrees("shoulder_pan", ticks) for ticks in servos.goals["shoulder_pan"]]
    assert abs(place[-1] - place[-2]) <= RESTING_STEP and max(place) < np.degrees(0.5) + 10


RESTING_STEP = np.degrees(0.01) / HZ + 2 * NEAR
"""Of the last two commands of an arm that came to rest [degrees]."""


def in_motion(robot: EmuGated, speed: float = 60.0) -> float:
    """Shoulder pan at this speed [degrees/s]; where it is then."""
    place = 0.0
    for _ in range(20):
        place += speed / HZ
        move(robot, REST | {"shoulder_pan.pos": place}, 1)
    return robot.get_observation()["shoulder_pan.pos"]


def check_came_to_rest(servos: FakeServos, at: float, speed: float = 60.0) -> None:
    """From `at` [degrees] on, within the braking distance."""
    place = [degrees("shoulder_pan", ticks) for ticks in servos.goals["shoulder_pan"]]
    assert abs(place[-1] - place[-2]) <= RESTING_STEP
    assert abs(place[-1] - at) <= speed**2 / (2 * ACCELERATION[0]) + 2 * speed / HZ + NEAR


def test_disconnecting_in_motion_comes_to_rest_first(gated, clock: FakeTime, servos: FakeServos) -> None:
    robot = gated()
    at = in_motion(robot)
    robot.disconnect()
    check_came_to_rest(servos, at)
    last = max(i for i, entry in enumerate(servos.log) if entry[0] == "Goal_Position")
    assert ("Torque_Enable", "shoulder_pan", 0) in servos.log[last:]
    with pytest.raises(DeviceNotConnectedError):
        robot.send_action(REST)


def test_the_arm_is_disconnected_even_if_braking_fails(gated, clock: FakeTime, monkeypatch) -> None:
    robot = gated()
    in_motion(robot)
    monkeypatch.setattr(robot.arm, "send_action", lambda action: (_ for _ in ()).throw(ConnectionError("unplugged")))
    with pytest.raises(ConnectionError, match="unplugged"):
        robot.disconnect()
    assert not robot.is_connected


def test_the_estop_file_stops_and_lasts(gated, clock: FakeTime, servos: FakeServos, tmp_path: Path) -> None:
    robot = gated()
    at = in_motion(robot)
    path = tmp_path / "so_follower-black.estop"
    path.write_text("a hand\nin the way\n")
    for _ in range(2):
        with pytest.raises(
            RobotStoppedError, match=rf"emergency stop \(a hand\); when .* remove {path} and start again"
        ):
            robot.send_action(REST | {"shoulder_pan.pos": at})
    check_came_to_rest(servos, at)
    robot.disconnect()
    with pytest.raises(RobotStoppedError, match="emergency stop"):
        robot.connect()
    assert not robot.is_connected
    path.unlink()
    robot.connect()
    robot.estop()
    assert path.exists()
    with pytest.raises(RobotStoppedError, match=r"emergency stop \(requested\)"):
        robot.send_action(REST)


def test_a_late_caller_begins_again_at_rest(gated, clock: FakeTime, servos: FakeServos, caplog) -> None:
    robot = gated()
    at = in_motion(robot)
    clock.sleep(3.0)
    sent = [robot.send_action(REST | {"shoulder_pan.pos": at + 10})["shoulder_pan.pos"] for _ in range(5)]
    assert "no action for 3.0" in caplog.text
    steps = np.diff([at, *sent])
    assert (np.abs(np.diff([0.0, *steps])) <= ACCELERATION[0] / HZ**2 + NEAR).all() and sent[-1] > at + NEAR


def test_calls_that_come_too_soon_wait(gated, clock: FakeTime) -> None:
    robot = gated()
    move(robot, REST, 1)
    began = clock.now
    move(robot, REST, 10)
    assert clock.now - began == pytest.approx(10 / HZ)


def test_an_arm_beyond_its_limits_is_not_taken_over(gated, servos: FakeServos, clock: FakeTime) -> None:
    servos.put("Present_Position", "shoulder_pan", ticks_of("shoulder_pan", 120.0))
    with pytest.raises(InvalidValueError, match=r"shoulder_pan.pos is at 120, outside \[-110, 110\]: move it inside"):
        gated()
    assert not any(servos.goals.values())
    robot = gated(joints={"shoulder_pan": gated_robot.DimensionLimits(upper=125.0)})
    assert robot.is_connected


def test_an_arm_in_other_units_is_not_taken_over(gated, servos: FakeServos, clock: FakeTime) -> None:
    servos.put("Present_Position", "elbow_flex", ticks_of("elbow_flex", 30.0))
    with pytest.raises(InvalidValueError, match=r"elbow_flex.pos is at 29.98, outside \[-1.69, 1.69\].* or unit"):
        gated(unit="radians")
    assert not any(servos.goals.values())


WRONGS: list[Callable[[dict[str, Any], str], dict[str, Any]]] = [
    lambda action, name: action | {name: np.nan},
    lambda action, name: action | {name: np.inf},
    lambda action, name: action | {name: -np.inf},
    lambda action, name: action | {name: 1e308},
    lambda action, name: action | {name: -(10**400)},
    lambda action, name: action | {name: None},
    lambda action, name: action | {name: "12"},
    lambda action, name: action | {name: 4000.0},
    lambda action, name: {key: value for key, value in action.items() if key != name},
    lambda action, name: action | {"knee.pos": 0.0},
    lambda action, name: {key: np.radians(value) for key, value in action.items()},
    lambda action, name: {key: np.degrees(value) for key, value in action.items()},
    lambda action, name: {},
]


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_asked_what_is_sent_keeps_the_limits(gated, clock, monkeypatch, seed: int) -> None:
    """10,000 actions of which every tenth is wrong, at uneven times, some of them late."""
    rng, robot = np.random.default_rng(seed), gated()
    logging.disable(logging.WARNING)
    sent: list[tuple[float, np.ndarray]] = []
    send = robot.arm.send_action

    def watched(action: dict[str, float]) -> dict[str, float]:
        assert list(action) == [name for name in action if name in NAMES] and len(action) == len(NAMES)
        sent.append((clock.now, np.array([action[name] for name in NAMES])))
        return send(action)

    monkeypatch.setattr(robot.arm, "send_action", watched)
    target, heading = np.zeros(6), np.zeros(6)
    target[5], stops = 50.0, 0
    for i in range(10_000):
        heading = np.clip(heading + rng.normal(0, 0.6, 6), -6, 6)
        if i % 20 == 0:
            target = np.array([robot.get_observation()[name] for name in NAMES])
        target = np.clip(target + heading, LOWER - 3, UPPER + 3)
        action = dict(zip(NAMES, target.tolist(), strict=True))
        if rng.random() < 0.1:
            action = WRONGS[rng.integers(len(WRONGS))](action, NAMES[rng.integers(6)])
        robot.get_observation()
        clock.sleep(rng.choice([0.0, 0.01, 0.03, 0.04, 0.1, 0.5], p=[0.2, 0.3, 0.3, 0.1, 0.09, 0.01]))
        try:
            robot.send_action(action)
        except RobotStoppedError:
            stops += 1
            robot.disconnect()
            robot.connect()
    logging.disable(logging.NOTSET)
    check_limits(sent, late_s=robot.config.late_s)
    assert stops < 20
    assert np.ptp(np.array([place for _, place in sent]), axis=0).min() > 20


def check_limits(sent: list[tuple[float, np.ndarray]], late_s: float) -> None:
    """Of positions [degrees] at the times they were sent: finite, in range, no faster and no sharper than allowed.
    After `late_s` without a command the arm had stopped.
    """
    times, places = np.array([time for time, _ in sent]), np.array([place for _, place in sent])
    assert len(times) > 5000 and np.isfinite(places).all()
    assert (places >= LOWER - 1e-6).all() and (places <= UPPER + 1e-6).all()
    elapsed, steps = np.diff(times)[:, np.newaxis], np.diff(places, axis=0)
    late = elapsed > late_s
    assert elapsed.min() > 0.999 / HZ and late.any() and not late.all()
    moving = np.where(late, 1 / HZ, elapsed)
    assert (np.abs(steps) <= VELOCITY * moving + NEAR).all()
    speeds = steps * HZ
    before = np.where(late[1:], 0.0, speeds[:-1])
    assert (np.abs(speeds[1:] - before) <= ACCELERATION * moving[1:] + 3 * NEAR * HZ).all()


def test_joint_states_that_cannot_be_move_nothing(gated, clock: FakeTime, servos: FakeServos) -> None:
    robot = gated()
    at = in_motion(robot, speed=30.0)
    servos.stuck = True
    servos.put("Present_Position", "shoulder_pan", ticks_of("shoulder_pan", 105.0))
    with pytest.raises(RobotStoppedError):
        move(robot, REST | {"shoulder_pan.pos": at}, 60)
    check_came_to_rest(servos, at, speed=30.0)


# -- settings


def test_settings_on_the_command_line() -> None:
    words = ["--teleop.type=emu_sim_expert", "--robot.type=emu_gated", "--robot.limits=so101"]
    words += ["--robot.arm.type=so101_follower", "--robot.arm.port=/dev/ttyACM0", "--robot.arm.id=black"]
    words += ["--robot.arm.cameras={front: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}"]
    words += ["--robot.joints={shoulder_pan: {lower: -90, max_jump: 5}}"]
    config = draccus.parse(lerobot_teleoperate.TeleoperateConfig, args=words).robot
    assert isinstance(config, EmuGatedConfig) and isinstance(config.arm, SO101FollowerConfig)
    assert (config.arm.port, config.arm.cameras["front"].width) == ("/dev/ttyACM0", 640)
    assert config.joints["shoulder_pan"].max_jump == 5
    with pytest.raises(SystemExit):
        draccus.parse(lerobot_teleoperate.TeleoperateConfig, args=[*words[:2], "--robot.arm.type=emu_gated"])


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"limits": "so7"}, UnknownNameError, "unknown robot 'so7'; known: .*so101"),
        ({"limits": "so101", "unit": "turns"}, UnknownNameError, "unknown unit 'turns'; known: degrees, radians"),
        ({"limits": "so101", "fps": 5.0}, InvalidValueError, "control_hz is 5.0"),
        ({"limits": "so101", "late_s": 0.05}, InvalidValueError, "gap_timeout_s is 0.05"),
        ({"limits": "so101", "gripper_open": 0.0}, ConfigError, "gripper_open is 0.0"),
        ({"limits": "so101", "max_jump": np.nan}, InvalidValueError, "max_jump is nan"),
    ],
)
def test_settings_that_cannot_be(so101, settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        EmuGatedConfig(arm=so101(), **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no lower, upper, velocity, acceleration is known for the motor shoulder_pan"),
        ({"limits": "panda_sim"}, "unknown motor 'joint1'; known: shoulder_pan"),
        ({"limits": "so101", "joints": {"knee": {"lower": 0}}}, "unknown motor 'knee'"),
        ({"limits": "so101", "joints": {"elbow_flex": {"lower": 200}}}, "joints.elbow_flex: lower 200.0 is not below"),
        ({"limits": "so101", "joints": {"elbow_flex": {"velocity": 0}}}, "joints.elbow_flex.velocity is 0.0"),
        ({"limits": "so101", "joints": {"elbow_flex": {"upper": np.inf}}}, "joints.elbow_flex.upper is inf"),
        ({"limits": "so101", "grippers": list(MOTORS)}, "the arm has no other motor"),
    ],
)
def test_limits_that_do_not_fit_the_arm(so101, servos, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    more = {**settings}
    joints = {name: gated_robot.DimensionLimits(**given) for name, given in more.pop("joints", {}).items()}
    config = EmuGatedConfig(arm=so101(), calibration_dir=tmp_path, joints=joints, **more)
    with pytest.raises((ConfigError, UnknownNameError), match=words):
        EmuGated(config)


def test_an_arm_with_normalised_joints_brings_its_own_limits(gated, so101, clock: FakeTime, servos, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"limits of so101 are angles and arm.use_degrees is false"):
        EmuGatedConfig(arm=so101(use_degrees=False), limits="so101")
    limits = gated_robot.DimensionLimits(lower=-80, upper=80, velocity=60, acceleration=300)
    gripper = gated_robot.DimensionLimits(lower=10, upper=90, velocity=200, acceleration=2000)
    joints = {**dict.fromkeys(JOINTS, limits), "gripper": gripper}
    robot = EmuGated(
        EmuGatedConfig(arm=so101(use_degrees=False), joints=joints, estop_file="", calibration_dir=tmp_path)
    )
    robot.connect()
    sent = line(move(robot, dict.fromkeys(NAMES, 0.0), 60))
    assert sent[-1] == pytest.approx([0, 0, 0, 0, 0, 10], abs=0.1)
    assert np.abs(np.diff(sent[:, 5])).max() <= 200 / HZ + 1e-6
    assert move(robot, REST | {"elbow_flex.pos": 17.0}, 5)[-1]["elbow_flex.pos"] == pytest.approx(0, abs=0.1)
    sent = line(move(robot, REST | {"elbow_flex.pos": 15.0}, 60))
    assert sent[-1][2] == pytest.approx(15, abs=0.1) and np.abs(np.diff(sent[:, 2])).max() <= 60 / HZ + 1e-6
    robot.disconnect()


def test_arms_that_are_not_driven_by_positions_are_refused(so101, servos, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(SO101Follower, "action_features", {"x.vel": float, "shoulder_pan.pos": float})
    with pytest.raises(ConfigError, match="so_follower is not driven by positions it can measure: x.vel"):
        EmuGated(EmuGatedConfig(arm=so101(), limits="so101", calibration_dir=tmp_path))


# -- LeRobot's own commands


def test_teleoperation_that_is_interrupted_comes_to_rest(so101, servos: FakeServos, tmp_path, monkeypatch) -> None:
    """`lerobot-teleoperate` in real time: a leader that moves on, and Ctrl-C."""
    calls = 0

    def leader(self: EmuSimExpert) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise KeyboardInterrupt
        return REST | {"shoulder_pan.pos": 1.0 * calls}

    monkeypatch.setattr(EmuSimExpert, "get_action", leader)
    lerobot_teleoperate.teleoperate(
        lerobot_teleoperate.TeleoperateConfig(
            teleop=EmuSimExpertConfig(calibration_dir=tmp_path),
            robot=EmuGatedConfig(arm=so101(), limits="so101", fps=50, estop_file="", calibration_dir=tmp_path),
            fps=50,
        )
    )
    place = [degrees("shoulder_pan", ticks) for ticks in servos.goals["shoulder_pan"]]
    assert place[35] - place[34] > 0.5 and abs(place[-1] - place[-2]) <= RESTING_STEP
    assert servos.log[-1][0] in ("Lock", "Torque_Enable")


def sim_config(tmp_path: Path, **more: Any) -> EmuGatedConfig:
    arm = EmuSimPandaConfig(families="open_drawer", instruction=WORDS, calibration_dir=tmp_path, **more)
    settings: dict[str, Any] = {"limits": "panda_sim", "unit": "radians", "gripper_open": 1.0, "fps": 20}
    return EmuGatedConfig(arm=arm, estop_file="", calibration_dir=tmp_path, **settings)


def test_the_expert_does_its_task_through_the_gate(tmp_path: Path, clock: FakeTime) -> None:
    robot = EmuGated(sim_config(tmp_path, id="arm"))
    expert = EmuSimExpert(EmuSimExpertConfig(robot_id="arm", calibration_dir=tmp_path))
    expert.connect()
    robot.connect()
    environment = robot.arm.environment  # type: ignore[attr-defined]
    for _ in range(300):
        robot.get_observation()
        robot.send_action(expert.get_action())
        if environment.subtask is None:
            break
    assert environment.success
    robot.disconnect()


@pytest.mark.slow
def test_a_policy_acts_through_the_gate_in_lerobots_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lerobot-rollout` with the released weights: the next layout comes once the task is done."""
    layouts: list[int] = []
    disconnect = EmuSimPanda.disconnect
    monkeypatch.setattr(EmuSimPanda, "disconnect", lambda self: (layouts.append(self.layouts), disconnect(self)))
    words = ["--robot.type=emu_gated", "--robot.limits=panda_sim", "--robot.unit=radians", "--robot.gripper_open=1"]
    words += ["--robot.arm.type=emu_sim_panda", "--robot.arm.families=open_drawer", "--robot.arm.seed=10000000"]
    words += [f"--robot.arm.instruction={WORDS}", "--robot.fps=20", "--robot.late_s=1", "--robot.estop_file="]
    words += [f"--policy.path={to_lerobot('mini', tmp_path / 'mini')}", "--device=cpu", "--fps=20", "--duration=30"]
    words += [f"--task={WORDS}", "--return_to_initial_position=false", "--play_sounds=false"]
    monkeypatch.setattr("sys.argv", ["lerobot-rollout", *words])
    lerobot_rollout.main()
    assert layouts[0] > 1


def test_a_new_layout_is_met_at_rest(tmp_path: Path, clock: FakeTime) -> None:
    robot = EmuGated(sim_config(tmp_path, id="arm"))
    robot.connect()
    home = {name: value for name, value in robot.get_observation().items() if name.endswith(".pos")}
    away = home | {"joint1.pos": home["joint1.pos"] + 0.3}
    for _ in range(4):
        away["joint1.pos"] += 0.3
        robot.get_observation()
        robot.send_action(away)
    robot.arm.new_episode()  # type: ignore[attr-defined]
    assert robot.get_observation()["joint1.pos"] == pytest.approx(home["joint1.pos"], abs=0.01)
    assert robot.send_action(home) == pytest.approx(home, abs=0.01)
    robot.disconnect()


def test_lerobot_records_through_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(lerobot_record, "init_logging", lambda: caplog.set_level(logging.INFO))
    dataset = short_recording("test/gated", tmp_path / "set", WORDS)
    config = lerobot_record.RecordConfig(
        robot=sim_config(tmp_path),
        teleop=EmuSimExpertConfig(calibration_dir=tmp_path),
        dataset=dataset,
        play_sounds=False,
    )
    recorded = LeRobotDataset(lerobot_record.record(config).repo_id, root=tmp_path / "set")
    assert recorded.num_episodes == 2 and recorded.meta.robot_type == "emu_sim_panda"
    states, actions = (np.array(recorded.hf_dataset[key]) for key in ("observation.state", "action"))
    first: dict[str, Any] = recorded[0]  # type: ignore[assignment]
    assert first["observation.images.front"].shape == (3, 128, 128)
    assert len(states) >= 20 and np.isfinite(actions).all()
    assert np.abs(np.diff(states[:10, :7], axis=0)).max() > 0.01
