"""The safety gate as a node, the only one that commands the robot. Loads neither torch nor a simulator."""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("safety")

import time
from functools import partial
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from emu_robot_interfaces.msg import ActionChunk, PolicyStatus
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from emu_robot.control.safety import (
    SOURCES,
    ChunkMessage,
    ClockWatch,
    Command,
    EstopLatch,
    SafetyConfig,
    SafetyGate,
    certain_age,
)
from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.observation.freshness import Moment
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import Deployment, read_deployment
from emu_robot_ros import qos, topics
from emu_robot_ros.arm_commands import ArmCommands
from emu_robot_ros.conversions import seconds, to_actions
from emu_robot_ros.gate_reports import GateReports
from emu_robot_ros.gripper_commands import gripper_commands
from emu_robot_ros.node_clock import NodeClock
from emu_robot_ros.parameters import declare_settings, declare_text, read_settings, text
from emu_robot_ros.running import run_node

EARLY_S = 0.005
"""Least time between two commands [s]: a chunk that has just come may cause an extra one."""


class SafetyNode(LifecycleNode):
    """Chunks, joint states, heartbeats in; commands, state, diagnostics out. Serves arm, estop and reset_estop."""

    def __init__(self) -> None:
        super().__init__("safety")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        kept = "file that keeps an emergency stop over restarts; {robot} and {namespace} are filled in; empty: no file"
        declare_text(self, "estop_file", "", kept)
        bounds = [FloatingPointRange(from_value=0.0, to_value=500.0)]
        effort = "effort limit in a gripper's goals [N]; the gripper's driver defines what 0 means"
        descriptor = ParameterDescriptor(description=effort, floating_point_range=bounds, read_only=True)
        self.declare_parameter("gripper_effort", 20.0, descriptor)
        who = "sources that may send chunks; all but policy need the deadman switch"
        self.declare_parameter("sources", list(SOURCES), ParameterDescriptor(description=who, read_only=True))
        declare_settings(self, SafetyConfig)
        self._is_active = False

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._configure()
        except EmuRobotError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._open(self._robot)
        self._reports.tell()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        """Read the settings, and raise for wrong ones."""
        self._config = read_settings(self, SafetyConfig)
        self._period = 1.0 / self._config.control_hz
        self._part = self._period / max(int(self._period / EARLY_S + 1e-9), 1)
        self._ticked, self._fresh = float("-inf"), False
        self._robot: Deployment = read_deployment(text(self, "robot"))
        self.gate = SafetyGate(
            config=self._config,
            limits=self._robot.limits,
            joints=self._robot.n_joints,
            names=self._robot.dimension_names,
            latch=EstopLatch(self._estop_file()),
            sources=self.get_parameter("sources").get_parameter_value().string_array_value,
        )
        try:
            effort = self.get_parameter("gripper_effort").get_parameter_value().double_value
            self._gripper = gripper_commands(self, self._robot.gripper, period=self._period, effort=effort)
        except EmuRobotError:
            self.gate.close()
            raise
        simulated = bool(self.get_parameter("use_sim_time").value)
        self._node_clock = NodeClock(self)
        self._clock_watch = ClockWatch(self._config.clock_jump_s, simulated=simulated)
        self._reader = JointReader(self._robot)

    def _estop_file(self) -> Path | None:
        given = text(self, "estop_file")
        namespace = self.get_namespace().strip("/")
        made = given.replace("{robot}", self._robot.name).replace("{namespace}", namespace)
        return Path(made).expanduser() if made else None

    def _open(self, robot: Deployment) -> None:
        """Create publishers, subscriptions and services.

        Chunks have neither deadline nor liveliness: the heartbeat of the loop that computes them covers both. The
        middleware would assert liveliness for a loop that hangs, and its deadlines know writers, not sessions.
        """
        self._arm = ArmCommands(self, robot, period=self._period)
        self._reports = GateReports(self, self.gate, robot.name)
        self._inputs = [
            *(
                self.create_subscription(JointState, topic, self._on_joint_state, qos.JOINT_STATES_IN)
                for topic in robot.joint_state_topics
            ),
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
        self._is_active = True
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
        self._disarm()
        self._is_active = False
        for timer in self._loops:
            self.destroy_timer(timer)
        self._reports.tell()

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.gate.close()
        self._gripper.destroy()
        self._arm.destroy()
        self._node_clock.destroy()
        self._reports.destroy()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for service in self._servers:
            self.destroy_service(service)
        return super().on_cleanup(state)

    # -- in

    def _on_joint_state(self, message: JointState) -> None:
        now, age = time.monotonic(), 0.0
        if message.header.stamp.sec:  # some drivers do not stamp
            age = self._age(message.header.stamp)
        refused = self.gate.counts["bad joint state"]
        try:
            state = self._reader.read(message.name, message.position)
        except EmuRobotError as error:
            self.gate.measured.refuse(str(error), now)
        else:
            if state is not None:
                self.gate.on_state(state, now, age)
        if self.gate.counts["bad joint state"] != refused:
            what = f"joint state refused: {self.gate.measured.refusal}"
            self.get_logger().warning(what, throttle_duration_sec=1.0)

    def _on_chunk(self, message: ActionChunk) -> None:
        now = time.monotonic()
        try:
            actions = to_actions(message.actions, len(message.names))
        except EmuRobotError:
            actions = np.zeros((0, 0))  # the gate refuses it by its shape
        chunk = ChunkMessage(
            session=message.session,
            sequence=message.sequence,
            captured=now - self._age(message.header.stamp),
            dt=message.dt,
            actions=actions,
            source=message.source,
            names=tuple(message.names),
        )
        why = self.gate.offer(chunk, now)
        if why is None:
            self._fresh = True
            self._tick_early(now)
        else:
            self.get_logger().warning(f"chunk {message.sequence} refused: {why.value}", throttle_duration_sec=1.0)
        self._reports.tell()

    def _on_status(self, message: PolicyStatus) -> None:
        if message.instruction:
            self.gate.on_heartbeat(message.session, time.monotonic())
        else:
            self.gate.on_idle(message.session, time.monotonic())
            self._reports.tell()

    def _on_deadman(self, message: Bool) -> None:
        self.gate.on_deadman(message.data, time.monotonic())

    # -- out

    def _on_timer(self) -> None:
        """Tick if a tick is due; between ticks, tick early for a new chunk."""
        if not self._is_active:  # the events executor may call a destroyed timer that was due
            return
        now = time.monotonic()
        if now - self._ticked >= self._period - self._part / 2:
            self._watch_clock()
            self._tick()
            self._reports.tell()
        elif self._fresh:
            self._tick_early(now)

    def _tick_early(self, now: float) -> None:
        """Tick for a new chunk, unless the last or the next tick is near."""
        if self._part <= 2 * (now - self._ticked) <= 2 * self._period - self._part:
            self._tick()
            self._loops[0].reset()  # the next tick is one period from now

    def _tick(self) -> None:
        """Send a command, if there is one, and tell the gate when it went out."""
        now = time.monotonic()
        self._ticked, self._fresh = now, False
        command = self.gate.tick(now)
        if command is not None:
            self._publish(command)
            self._ticked = time.monotonic()
            self.gate.sent(self._ticked)

    def _publish(self, command: Command) -> None:
        n = self._robot.n_joints
        self._arm.send(command.position[:n], command.velocity[:n])
        gripper = self._robot.gripper
        if gripper is not None and command.moves_gripper:
            self._gripper.send(gripper.position(float(command.position[n])), time.monotonic())

    def _disarm(self) -> None:
        """Bring the arm to rest, then send no more. Blocks until then, and hears nothing meanwhile."""
        self.gate.disarm(time.monotonic())
        while self.gate.is_commanding:
            time.sleep(max(self._ticked + self._period - time.monotonic(), 0.0))
            self._tick()

    def _diagnose(self) -> None:
        if not self._is_active:
            return
        self._arm.ask()
        changed = self._arm.changed()
        if self.gate.state.is_armed and (others := self._rivals() or changed or self._arm.not_ready()):
            self.gate.fault(others)
        self._reports.diagnose()

    # -- services

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def act() -> None:
            if not request.data:
                return self._disarm()
            if not self._is_active:  # nothing ticks the gate
                raise InvalidValueError("cannot arm: the safety node is not active")
            if problem := self._rivals() or self._arm.not_ready():
                raise InvalidValueError(f"cannot arm: {problem}")
            self.gate.arm(time.monotonic())

        return self._answer(act, response)

    def _on_estop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(partial(self.gate.estop, "requested"), response)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(lambda: self.gate.reset(time.monotonic()), response)

    def _answer[R: (SetBool.Response, Trigger.Response)](self, act: object, response: R) -> R:
        try:
            act()  # pyright: ignore[reportCallIssue]
            response.success, response.message = True, f"{self.gate.state.value}: {self.gate.reason}"
        except InvalidValueError as error:
            response.success, response.message = False, str(error)
        self._reports.tell()
        return response

    # -- helpers

    def _rivals(self) -> str:
        """Other nodes that could command the robot, in words; empty if there are none."""
        return self._arm.rivals() or self._gripper.rivals()

    def _age(self, stamp: TimeMessage) -> float:
        """Certain age of a stamp [s]. Checks the clock for a jump first."""
        moment = self._watch_clock()
        return certain_age(moment.stamped - seconds(stamp), moment.step)

    def _watch_clock(self) -> Moment:
        """The present time. A jump of the clock is a fault: ages of chunks and joint states are meaningless then."""
        moment = self._node_clock.now()
        jump = self._clock_watch.look(moment.stamped, moment.steady, moment.step)
        if jump:
            self.gate.fault(f"the clock jumped by {jump:.3f} s")
        return moment


def main() -> None:
    run_node(SafetyNode)
