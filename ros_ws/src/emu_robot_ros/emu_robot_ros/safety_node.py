"""The safety gate as a process of its own, the only one that commands the robot. Loads no torch and no simulator."""

if __name__ == "__main__":  # ahead of the imports: it may be told to end meanwhile
    from emu_robot_ros.starting import start

    start("safety")

import time
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus, SafetyState
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from emu_robot.deployment import Deployment, read_deployment
from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.joint_states import JointReader
from emu_robot.safety import ChunkMessage, Command, EstopLatch, GateState, SafetyConfig, SafetyGate
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import seconds, to_actions, trajectory
from emu_robot_ros.gripper_commands import gripper_commands
from emu_robot_ros.parameters import declare_settings, declare_text, read_settings
from emu_robot_ros.rivals import rivals
from emu_robot_ros.running import run_node

STATE_PERIOD_S = 0.5
"""Between two words of an unchanged state."""
EARLY_S = 0.005
"""How soon after a command there may be another one, for a chunk that has just come."""
LEVELS = {GateState.FAULT: DiagnosticStatus.ERROR, GateState.ESTOP: DiagnosticStatus.ERROR}


class SafetyNode(LifecycleNode):
    """Chunks, joint states, heartbeats in; commands, state, diagnostics out; serves arm, estop and reset_estop."""

    def __init__(self) -> None:
        super().__init__("safety")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "estop_file", "", "where an emergency stop is kept over restarts; empty: not at all")
        bounds = [FloatingPointRange(from_value=0.0, to_value=500.0)]
        effort = "limit of a gripper that takes goals with one [N]; 0: whatever its driver makes of that"
        descriptor = ParameterDescriptor(description=effort, floating_point_range=bounds, read_only=True)
        self.declare_parameter("gripper_effort", 20.0, descriptor)
        declare_settings(self, SafetyConfig)

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._configure()
        except EmuRobotError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._open(self._robot)
        self._tell()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        """Everything that may be set wrong."""
        self._config = read_settings(self, SafetyConfig)
        self._period = 1.0 / self._config.control_hz
        self._part = self._period / max(int(self._period / EARLY_S + 1e-9), 1)
        self._ticked, self._fresh = float("-inf"), False
        self._robot: Deployment = read_deployment(str(self.get_parameter("robot").value))
        kept = str(self.get_parameter("estop_file").value)
        self.gate = SafetyGate(
            config=self._config,
            limits=self._robot.limits,
            joints=len(self._robot.joints.names),
            latch=EstopLatch(Path(kept).expanduser() if kept else None),
        )
        effort = self.get_parameter("gripper_effort").get_parameter_value().double_value
        self._gripper = gripper_commands(self, self._robot.gripper, period=self._period, effort=effort)
        self._reader = JointReader(self._robot)
        self._said: tuple[GateState, str] | None = None
        self._said_at = float("-inf")
        self._clock_offset: float | None = None

    def _open(self, robot: Deployment) -> None:
        """Everything that the graph sees of this node but the gripper.

        No deadline nor liveliness on chunks: the heartbeat comes from the loop that computes them and covers both. The
        middleware goes on asserting liveliness for a loop that hangs, and its deadlines know writers, not sessions.
        """
        kind = JointTrajectory if robot.kind == "trajectory" else Float64MultiArray
        self._arm_commands = self.create_publisher(kind, robot.command_topic, qos.COMMANDS)
        self._states = self.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        self._inputs = [
            self.create_subscription(JointState, robot.joint_states, self._on_joint_state, qos.JOINT_STATES_IN),
            self.create_subscription(ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.CHUNKS),
            self.create_subscription(PolicyStatus, topics.POLICY_STATUS, self._on_status, qos.STATUS),
            self.create_subscription(Bool, topics.DEADMAN, self._on_deadman, qos.DEADMAN),
        ]
        self._servers = [
            self.create_service(SetBool, topics.ARM, self._on_arm),
            self.create_service(Trigger, topics.ESTOP, self._on_estop),
            self.create_service(Trigger, topics.RESET_ESTOP, self._on_reset),
        ]

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._loops = [
            self.create_timer(self._part, self._on_timer, clock=steady),
            self.create_timer(1.0, self._diagnose, clock=steady),
        ]
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._rest()
        return super().on_shutdown(state)

    def _rest(self) -> None:
        self.gate.disarm()
        for timer in self._loops:
            self.destroy_timer(timer)
        self._tell()

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._gripper.destroy()
        for publisher in (self._arm_commands, self._states, self._diagnostics):
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for service in self._servers:
            self.destroy_service(service)
        return super().on_cleanup(state)

    # -- in

    def _on_joint_state(self, message: JointState) -> None:
        now, age = time.monotonic(), 0.0
        if message.header.stamp.sec:  # some drivers stamp nothing
            age = self._age(message.header.stamp, now)
        try:
            state = self._reader.read(message.name, message.position)
        except EmuRobotError as error:
            self.gate.counts["bad joint state"] += 1
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if state is not None and not self.gate.on_state(state, now, age):
            what = f"joint state from {-age:.3f} s in the future; do the machines' clocks agree?"
            self.get_logger().warning(what, throttle_duration_sec=1.0)

    def _on_chunk(self, message: ActionChunk) -> None:
        now, names = time.monotonic(), self._robot.dimension_names
        try:
            actions = to_actions(message.actions, len(message.names))
        except EmuRobotError:
            actions = np.zeros((0, 0))
        if tuple(message.names) != names:
            actions = np.zeros((0, 0))  # the gate refuses it by its shape
        age = self._age(message.header.stamp, now)
        chunk = ChunkMessage(
            session=message.session,
            sequence=message.sequence,
            captured=now - age,
            dt=message.dt,
            actions=actions,
            source=message.source,
        )
        why = self.gate.offer(chunk, now)
        if why is None:
            self._fresh = True
            self._tick_early(now)
        else:
            self.get_logger().warning(f"chunk {message.sequence} refused: {why.value}", throttle_duration_sec=1.0)
        self._tell()

    def _on_status(self, message: PolicyStatus) -> None:
        if message.instruction:
            self.gate.on_heartbeat(message.session, time.monotonic())
        else:
            self.gate.on_idle(message.session, time.monotonic())
            self._tell()

    def _on_deadman(self, message: Bool) -> None:
        self.gate.on_deadman(message.data, time.monotonic())

    # -- out

    def _on_timer(self) -> None:
        """A tick where one is due; several times between two, whether a chunk has come that needs none."""
        now = time.monotonic()
        if now - self._ticked < self._period - self._part / 2:
            if self._fresh:
                self._tick_early(now)
            return
        self._ticked, self._fresh = max(self._ticked + self._period, now - self._part / 2), False
        self._watch_clock(now)
        command = self.gate.tick(now)
        if command is not None:
            self._publish(command)
        self._tell()

    def _tick_early(self, now: float) -> None:
        """The command of a chunk that has just been taken, unless the last or the next one is about now."""
        after = now - self._ticked
        if not 0.9 * self._part <= after <= self._period - self._part / 2:
            return
        command = self.gate.tick_early(now, after)
        if command is not None:
            self._ticked, self._fresh = now, False
            self._loops[0].reset()  # the next tick is a whole one from now
            self._publish(command)

    def _publish(self, command: Command) -> None:
        robot = self._robot
        n = len(robot.joints.names)
        self._arm_commands.publish(
            trajectory(robot.joints.names, command.position[:n], command.velocity[:n], self._period)
            if robot.kind == "trajectory"
            else Float64MultiArray(data=command.position[:n].tolist())
        )
        self._gripper.send(robot.gripper.position(float(command.position[n])), time.monotonic())

    def _tell(self) -> None:
        """The state, when it has changed, and now and then as a sign of life."""
        said, now = (self.gate.state, self.gate.reason), time.monotonic()
        if said != self._said or now - self._said_at > STATE_PERIOD_S:
            message = SafetyState(state=self.gate.state.value, reason=self.gate.reason)
            message.header.stamp = self.get_clock().now().to_msg()
            self._states.publish(message)
            if said != self._said:
                self.get_logger().info(f"{self.gate.state.value}: {self.gate.reason}")
            self._said, self._said_at = said, now

    def _diagnose(self) -> None:
        others = self._rivals()
        if others and self.gate.state.is_armed:
            self.gate.fault(others)
        found = self.gate.diagnostics(time.monotonic())
        status = DiagnosticStatus(
            level=LEVELS.get(self.gate.state, DiagnosticStatus.OK),
            name="safety: gate",
            message=f"{self.gate.state.value}: {self.gate.reason}",
            hardware_id=self._robot.name,
            values=[KeyValue(key=key, value=value) for key, value in found.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    # -- services

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def act() -> None:
            if not request.data:
                return self.gate.disarm()
            if others := self._rivals():
                raise InvalidValueError(f"cannot arm: {others}")
            self.gate.arm(time.monotonic())

        return self._answer(act, response)

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(lambda: self.gate.estop("requested"), response)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(lambda: self.gate.reset(time.monotonic()), response)

    def _answer[R: (SetBool.Response, Trigger.Response)](self, act: object, response: R) -> R:
        try:
            act()  # pyright: ignore[reportCallIssue]
            response.success, response.message = True, f"{self.gate.state.value}: {self.gate.reason}"
        except InvalidValueError as error:
            response.success, response.message = False, str(error)
        self._tell()
        return response

    # -- helpers

    def _rivals(self) -> str:
        """Who else could command the robot, in words; empty if nobody."""
        return rivals(self, self._robot.command_topic) or self._gripper.rivals()

    def _ros_now(self) -> float:
        return 1e-9 * self.get_clock().now().nanoseconds

    def _age(self, stamp: TimeMessage, now: float) -> float:
        """Of a stamp [s], by a clock that has not jumped since it was looked at last."""
        self._watch_clock(now)
        return self._ros_now() - seconds(stamp)

    def _watch_clock(self, now: float) -> None:
        """A wall clock that jumps makes ages of chunks meaningless."""
        offset = self._ros_now() - now
        if self._clock_offset is not None and abs(offset - self._clock_offset) > self._config.clock_jump_s:
            self.gate.fault(f"the clock jumped by {offset - self._clock_offset:.3f} s")
        self._clock_offset = offset


def main() -> None:
    run_node(SafetyNode)
