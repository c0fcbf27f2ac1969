"""The real gate before an arm's driver as in life, for the robots that ship: what its controllers take and refuse.

One gate per robot serves all its tests, which pytest puts together for that; the last one kills it.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from action_msgs.msg import GoalStatus
from arm_driver import CMD_TIMEOUT_S, ArmDriver, DriverSettings
from conftest import running, wait_until
from control_msgs.action import FollowJointTrajectory
from controllers import GripperController, JointTrajectoryController
from rclpy.action import ActionClient
from robot_operator import Operator
from robot_operator import Path as Motion
from sensor_msgs.msg import JointState

from emu_robot.core import Floats
from emu_robot.robots.deployment import Deployment, find_deployment, read_deployment
from emu_robot_ros.conversions import trajectory

REACH, TURN_S = 0.4, 1.0
"""How far every joint goes [rad], and within which time."""
SHUT = 0.3
"""The gripper's opening in the end; it begins open."""


AS_IN_LIFE = {
    "ur5e": DriverSettings(path_tolerance=0.2, gripper_states=read_deployment("ur5e").joint_states),
    "so101": DriverSettings(states_hz=100, lag=0.05),
}
"""The UR's own tolerance, and the Robotiq's driver tells of its joint beside it; the SO-101's servos are soft."""


class Cell:
    """One gate, one driver, one operator.

    n: how many joints the arm has. ahead: 1 or -1, which way motions go since the arm was armed last: to the middle of
    its ranges, and past it.
    """

    def __init__(self, robot: Deployment, driver: ArmDriver, operator: Operator, gate: subprocess.Popen[str]) -> None:
        self.robot, self.driver, self.operator, self.gate = robot, driver, operator, gate
        self.n, self.ahead = len(robot.joints.names), 1.0
        assert robot.gripper is not None
        self.gripper = robot.gripper

    @property
    def joints(self) -> Floats:
        """(n,) [rad]"""
        return self.driver.arm.position[: self.n]

    @property
    def opening(self) -> float:
        return self.gripper.opening(float(self.driver.arm.position[-1]))

    def disarm(self) -> None:
        """Whatever was before."""
        if self.operator.state in ("fault", "estop"):
            wait_until(lambda: self.operator.reset().success, "reset")
        self.operator.arm(False)
        wait_until(lambda: self.operator.state == "disarmed", "disarming")

    def arm(self) -> None:
        """Armed anew, whatever was before."""
        self.disarm()
        self.ahead = 1.0 if self.joints[0] <= middle(self.robot)[0] else -1.0
        wait_until(lambda: self.operator.arm().success, "arming")  # not before it has joint states
        wait_until(lambda: self.operator.state == "holding", "holding")

    def swing(self) -> Motion:
        """From here all joints by REACH within TURN_S, from rest to rest, while the gripper goes to SHUT."""
        start = np.append(self.joints, self.opening)
        way = np.append(np.full(self.n, self.ahead * REACH), SHUT - self.opening)
        return lambda t: start + way * (1 - np.cos(np.pi * np.clip(t / TURN_S, 0, 1))) / 2

    def set_off(self) -> None:
        """Arm, and go on a motion until it is under way."""
        self.arm()
        start = self.joints.copy()

        def is_moving() -> bool:
            if self.operator.state != "tracking":  # not yet, or a busy machine made it hold
                self.operator.begin(self.swing(), TURN_S + 0.5)
            return self.ahead * (self.joints[0] - start[0]) > 0.3 * REACH

        wait_until(is_moving, "motion")


def middle(robot: Deployment) -> Floats:
    """(J,) amid the joints' ranges [rad]."""
    return (np.array(robot.joints.lower) + np.array(robot.joints.upper)) / 2


@contextmanager
def cell(robot_file: Path, folder: Path, settings: DriverSettings | None = None) -> Iterator[Cell]:
    """The arm begins amid its joints' ranges, its gripper open."""
    robot, settings = read_deployment(robot_file), settings or DriverSettings()
    assert robot.gripper is not None
    driver = ArmDriver(robot, np.append(middle(robot), robot.gripper.open), settings)
    operator = Operator(robot, settings.namespace)
    arguments = ["-p", f"robot:={robot_file}", "-p", f"estop_file:={folder / 'estop'}"]
    if settings.namespace:
        arguments += ["-r", f"__ns:=/{settings.namespace}"]
    try:
        with running("emu_robot_ros.safety_node", *arguments, log=folder / "gate.log") as gate:
            wait_until(lambda: operator.state == "disarmed", "the gate to say that it is there")
            yield Cell(robot, driver, operator, gate)
    finally:
        operator.close()
        driver.close()


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    robot_file, settings = find_deployment(request.param), AS_IN_LIFE.get(request.param)
    with cell(robot_file, tmp_path_factory.mktemp(request.param), settings) as made:
        yield made


def robots(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("found", names, indirect=True)


def came_to_rest_without_reversal(found: Cell, positions: Floats) -> None:
    """positions: (N, J) of joints that moved ahead."""
    positions = found.ahead * positions
    assert np.ptp(positions[-10:], axis=0).max() < 1e-3
    assert (np.maximum.accumulate(positions) - positions).max() < 2e-3


@robots("ur5e", "franka_fr3", "so101", "xarm7")
def test_an_arm_follows_chunks_and_its_controllers_refuse_nothing(found: Cell):
    found.arm()
    path = found.swing()
    began = found.operator.follow(path, TURN_S + 0.1)
    wait_until(lambda: found.operator.state == "holding", "the last chunk's end")
    times, setpoints, positions = found.driver.since(began)
    wanted = np.stack([path(float(t - began)) for t in times])
    assert np.abs(found.joints - path(TURN_S)[: found.n]).max() < 0.01
    assert np.abs(positions - wanted)[:, : found.n].max() < 0.15
    assert np.abs(positions - setpoints)[:, : found.n].max() < 0.06
    wait_until(lambda: abs(found.opening - SHUT) < 0.03, "the gripper", 2)
    gripper = found.driver.gripper_controller.controller
    assert not isinstance(gripper, GripperController) or 2 <= len(gripper.goals) <= 12
    assert found.driver.refusals == {}
    assert {state for state, _ in found.operator.states} == {"disarmed", "holding", "tracking"}


@robots("ur5e", "so101")
def test_an_emergency_stop_in_motion_comes_to_rest_without_reversal(found: Cell):
    found.set_off()
    pressed = time.monotonic()
    assert found.operator.estop().success
    wait_until(lambda: found.operator.state == "estop", "the stop")
    time.sleep(0.8)
    came_to_rest_without_reversal(found, found.driver.since(pressed)[2][:, : found.n])
    assert found.driver.refusals == {}


def wrong_once(driver: ArmDriver) -> None:
    """The first joint is told to be at 50 rad, in one message."""

    def garble(message: JointState) -> None:
        message.position = [50.0, *message.position[1:]]
        driver.garble = None

    driver.garble = garble


def none_for_a_while(driver: ArmDriver) -> None:
    driver.silent = True
    threading.Timer(0.5, setattr, (driver, "silent", False)).start()


@robots("so101")
@pytest.mark.parametrize("happens", [wrong_once, none_for_a_while])
def test_joint_states_that_are_wrong_or_missing_drive_the_arm_nowhere(
    found: Cell, happens: Callable[[ArmDriver], None]
):
    found.set_off()
    began = time.monotonic()
    happens(found.driver)
    time.sleep(TURN_S)
    after = found.driver.since(began)[2][:, : found.n]
    assert np.ptp(after, axis=0).max() < REACH
    came_to_rest_without_reversal(found, after)
    assert found.driver.refusals == {}


@robots("so101")
def test_an_arm_that_was_moved_by_hand_does_not_leap_when_its_brakes_open(found: Cell):
    found.arm()
    arm, start = found.driver.arm, found.joints.copy()
    arm.brakes = True
    for speed, seconds in ((0.6, 0.5), (0.0, 1.0)):
        arm.hand[: found.n] = found.ahead * speed
        time.sleep(seconds)
    left = found.joints.copy()
    assert np.abs(left - start).min() > 0.25
    arm.brakes = False
    time.sleep(0.5)
    assert np.abs(found.joints - left).max() < 0.02
    assert found.driver.refusals == {}


@contextmanager
def refusing_motion(found: Cell) -> Iterator[None]:
    """The arm's controller with its default for points that have a velocity."""
    controller = found.driver.arm_controller.controller
    assert isinstance(controller, JointTrajectoryController)
    configured = controller.settings
    controller.settings = replace(configured, allow_nonzero_velocity_at_trajectory_end=False)
    try:
        yield
    finally:
        controller.settings = configured
        controller.refusals.clear()


@robots("so101")
def test_a_controller_with_its_defaults_refuses_points_in_motion_and_the_gate_notices(found: Cell):
    found.arm()
    start = np.append(found.joints, found.opening)

    def is_noticed() -> bool:
        if found.operator.state == "holding":
            found.operator.begin(lambda t: start + np.append(np.full(found.n, found.ahead * t), 0), 1.2)
        return found.operator.state == "fault"

    with refusing_motion(found):
        wait_until(is_noticed, "fault")
        assert found.driver.refusals["velocity at the end"] > 5
    assert "does not follow" in found.operator.reason


@contextmanager
def moveit(found: Cell) -> Iterator[ActionClient]:
    """A client of the arm's controller, as MoveIt is one."""
    action = f"{found.driver.arm_controller.node.get_fully_qualified_name()}/follow_joint_trajectory"
    client = ActionClient(found.operator.node, FollowJointTrajectory, action)
    try:
        yield client
    finally:
        client.destroy()


def goal_of(found: Cell, positions: Floats, seconds: float) -> FollowJointTrajectory.Goal:
    goal = FollowJointTrajectory.Goal()
    goal.trajectory = trajectory(found.robot.joints.names, positions, np.zeros(found.n), seconds)
    return goal


@robots("franka_fr3")
def test_the_controller_s_action_moves_the_arm_while_the_gate_is_disarmed_and_it_does_not_arm_beside_it(found: Cell):
    found.disarm()
    start = found.joints.copy()
    with moveit(found) as client:
        assert client.wait_for_server(10)
        answer = found.operator.result(found.operator.goal(client, goal_of(found, start - 0.1, 0.3)))
        assert (answer.status, answer.result.error_code) == (GoalStatus.STATUS_SUCCEEDED, 0)
        assert np.abs(found.joints - start + 0.1).max() < 0.02
        wrong = goal_of(found, start, 0.3)
        wrong.trajectory.joint_names = ["elbow", *found.robot.joints.names[1:]]
        assert not found.operator.goal(client, wrong).accepted
        handle = found.operator.goal(client, goal_of(found, start, 10.0))
        found.operator.cancel(handle)
        assert found.operator.result(handle).status == GoalStatus.STATUS_CANCELED
        refused = found.operator.arm()
        assert not refused.success and "follow_joint_trajectory" in refused.message


@robots("franka_fr3")
def test_a_client_of_the_controller_s_action_that_comes_later_is_a_fault(found: Cell):
    found.arm()
    with moveit(found):
        wait_until(lambda: found.operator.state == "fault", "the rival to be noticed", 5)
    assert "follow_joint_trajectory" in found.operator.reason


@robots("ur5e", "so101")
def test_when_the_gate_is_killed_the_controller_holds_by_its_own_timeout(found: Cell):
    found.set_off()
    controller = found.driver.arm_controller.controller
    assert isinstance(controller, JointTrajectoryController)
    controller.holds.clear()
    found.gate.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    found.gate.wait(10)
    wait_until(lambda: controller.holds, "the controller to hold", 2)
    assert time.monotonic() - killed < CMD_TIMEOUT_S + 0.15
    time.sleep(0.2)
    after = found.driver.since(killed)[2][:, : found.n]
    assert controller.holds == ["command timeout"]
    assert np.abs(after[-1] - after[0]).max() < 0.1
    came_to_rest_without_reversal(found, after)


def test_bare_positions_go_in_the_controller_s_own_order_in_a_namespace_with_states_apart(tmp_path: Path):
    values = yaml.safe_load(find_deployment("so101").read_text())
    values |= {"kind": "positions", "command_topic": "forward_position_controller/commands"}
    values |= {"joint_states": "joint_states"}
    values["gripper"] |= {"topic": "gripper_controller/joint_trajectory", "joint_states": "gripper/joint_states"}
    robot_file = tmp_path / "left.yaml"
    robot_file.write_text(yaml.safe_dump(values))
    order = tuple(reversed(values["joints"]["names"]))
    settings = DriverSettings(namespace="left", order=order, gripper_states="gripper/joint_states")
    with cell(robot_file, tmp_path, settings) as found:
        found.arm()
        path = found.swing()
        way = np.append(np.linspace(0.2, 1.0, found.n), 1.0)  # of the whole motion, each joint another share
        found.operator.follow(lambda t: path(0) + way * (path(t) - path(0)), TURN_S + 0.1)
        wait_until(lambda: found.operator.state == "holding", "the last chunk's end")
        assert np.abs(found.joints - (path(0) + way * (path(TURN_S) - path(0)))[: found.n]).max() < 0.02
        wait_until(lambda: abs(found.opening - SHUT) < 0.03, "the gripper", 2)
        assert found.driver.refusals == {}
