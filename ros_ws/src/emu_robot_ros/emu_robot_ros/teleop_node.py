"""An operator drives the robot through the safety gate: a gamepad jogs joints, or a leader arm is followed."""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("teleop")

import math
import time
from functools import partial
from typing import Any

from emu_robot_interfaces.msg import ActionChunk, PolicyStatus, SafetyState
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool

from emu_robot.control.safety import GateState
from emu_robot.errors import ConfigError, EmuRobotError, UnknownNameError
from emu_robot.observation.joint_states import JointReader
from emu_robot.robots.deployment import read_deployment
from emu_robot.teleop.driving import BEFORE, CHUNK_DT, Motion, TeleopConfig, Teleoperation
from emu_robot.teleop.jog import Jogger, default_groups, read_groups
from emu_robot.teleop.leader import LeaderArm
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, seconds
from emu_robot_ros.parameters import declare_settings, declare_text, read_settings
from emu_robot_ros.running import run_node

SOURCES, DEADMEN = ("joy", "leader"), ("joy", "topic", "always")
INSTRUCTION = "teleoperation"
SAY_EVERY_S = 0.5


class TeleopNode(LifecycleNode):
    """Joy or a leader's joint states, and the states of robot and gate in; chunks, deadman and heartbeat out."""

    def __init__(self) -> None:
        super().__init__("teleop")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "source", "joy", f"the operator's device: {' or '.join(SOURCES)}")
        declare_text(
            self, "deadman", "joy", "the deadman switch: a button of joy, a Bool on a topic, or always (simulation)"
        )
        declare_text(self, "joy_topic", "joy", "sensor_msgs/Joy, repeated at least every input_timeout_s")
        declare_text(self, "leader_topic", "leader/joint_states", "sensor_msgs/JointState of the leader arm")
        declare_text(self, "deadman_topic", "deadman_switch", "std_msgs/Bool, repeated at least every input_timeout_s")
        self._declare("jog", [""], "groups of joints and their axes, each as joint1=0 joint2=-1; empty: four at a time")
        self._declare("leader_joints", [""], "the leader's joints in the order of the robot's; empty: the same names")
        self._declare("leader_scale", [1.0], "scale of the leader's positions, one for all joints or one each")
        self._declare("leader_offset", [0.0], "offset of the scaled positions [rad], one for all joints or one each")
        declare_settings(self, TeleopConfig)
        self._is_active = False

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._configure()
        except EmuRobotError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._open()
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        """Read the settings, and raise for wrong ones."""
        self._config, self._robot = read_settings(self, TeleopConfig), read_deployment(self._value("robot"))
        source, self._switch = self._one_of("source", SOURCES), self._one_of("deadman", DEADMEN)
        if self._switch == "always" and not self._robot.name.endswith("_sim"):
            raise ConfigError(f"deadman always is for simulated robots (named *_sim), this one is {self._robot.name}")
        if self.resolve_topic_name(self._value("deadman_topic")) == self.resolve_topic_name(topics.DEADMAN):
            raise ConfigError(f"deadman_topic cannot be {topics.DEADMAN}: that is what this node says to the gate")
        self._reader = JointReader(self._robot)
        self._jogger = self._make_jogger() if source == "joy" else None
        self._leader = self._make_leader() if source == "leader" else None
        driver = self._jogger or self._leader
        assert driver is not None
        self._teleop = Teleoperation(driver, self._config, always=self._switch == "always")
        self._session, self._sequence = time.time_ns(), 0
        self._was_pressed, self._was_driving = False, False
        self._said, self._said_at = "", -math.inf

    def _make_jogger(self) -> Jogger:
        names, texts = self._robot.joints.names, [text for text in self._value("jog") if text.strip()]
        groups = read_groups(texts, names) if texts else default_groups(names)
        return Jogger(self._robot.limits, len(names), groups, self._config)

    def _make_leader(self) -> LeaderArm:
        names = [name for name in self._value("leader_joints") if name]
        theirs = self.resolve_topic_name(self._value("leader_topic"))
        own = [topic for topic in self._robot.joint_state_topics if self.resolve_topic_name(topic) == theirs]
        if own and not names:
            raise ConfigError(f"leader_topic and leader_joints are the robot's own ({own[0]}): it would follow itself")
        return LeaderArm(
            self._robot,
            self._config,
            names=names,
            scale=self._value("leader_scale"),
            offset=self._value("leader_offset"),
        )

    def _open(self) -> None:
        """Create publishers and subscriptions."""
        self._chunks = self.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._statuses = self.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self._deadman = self.create_publisher(Bool, topics.DEADMAN, qos.DEADMAN)
        # Drivers of joysticks and leaders offer different qualities of service; best effort fits all of them.
        newest = qos.JOINT_STATES_IN
        self._inputs = [
            self.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_gate, qos.LATCHED),
        ]
        for topic in self._robot.joint_state_topics:
            take = partial(self._on_joint_state, topic)
            self._inputs.append(self.create_subscription(JointState, topic, take, newest))
        if self._jogger or self._switch == "joy":
            self._inputs.append(self.create_subscription(Joy, self._value("joy_topic"), self._on_joy, newest))
        if self._leader:
            topic = self._value("leader_topic")
            self._inputs.append(self.create_subscription(JointState, topic, self._on_leader, newest))
        if self._switch == "topic":
            self._inputs.append(self.create_subscription(Bool, self._value("deadman_topic"), self._on_switch, newest))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = True
        self._loop = self.create_timer(
            1.0 / self._config.rate_hz, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._rest()
        return super().on_shutdown(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        for publisher in (self._chunks, self._statuses, self._deadman):
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        return super().on_cleanup(state)

    def _rest(self) -> None:
        self._is_active = False
        self.destroy_timer(self._loop)
        self._say_deadman(False)
        self._say_idle()

    # -- in

    def _on_joint_state(self, topic: str, message: JointState) -> None:
        try:
            state = self._reader.read(message.name, message.position)
        except EmuRobotError as error:
            self._warn(f"{topic}: {error}")
            return
        if state is not None:
            self._teleop.on_state(state, self._taken(message))

    def _on_gate(self, message: SafetyState) -> None:
        self._teleop.on_gate(GateState(message.state))

    def _on_joy(self, message: Joy) -> None:
        now, button = time.monotonic(), self._config.deadman_button
        if self._jogger:
            before = self._jogger.group
            try:
                self._jogger.on_pad(message.axes, message.buttons)
            except EmuRobotError as error:
                self._warn(str(error))
                return
            self._teleop.on_input(now)
            if self._jogger.group != before:
                self.get_logger().info(f"group {self._jogger.group} of joints")
        if self._switch == "joy":
            self._teleop.on_deadman(button < len(message.buttons) and bool(message.buttons[button]), now)

    def _on_leader(self, message: JointState) -> None:
        assert self._leader is not None
        try:
            if self._leader.on_leader(message.name, message.position):
                self._teleop.on_input(self._taken(message))
        except EmuRobotError as error:
            self._warn(f"leader: {error}")

    def _on_switch(self, message: Bool) -> None:
        self._teleop.on_deadman(message.data, time.monotonic())

    # -- out

    def _step(self) -> None:
        if not self._is_active:  # the events executor may call a destroyed timer that was due
            return
        now = time.monotonic()
        motion = self._teleop.step(now)
        self._say_deadman(self._teleop.is_pressed(now))
        if motion is not None:
            self._drive(motion)
        else:
            self._say_idle()
        self._tell(now)

    def _drive(self, motion: Motion) -> None:
        self._was_driving = True
        self._sequence += 1
        chunk = ActionChunk(
            session=self._session,
            sequence=self._sequence,
            source="teleop",
            dt=CHUNK_DT,
            names=list(self._robot.dimension_names),
            actions=from_actions(motion.actions),
        )
        chunk.header.stamp = (self.get_clock().now() - Duration(seconds=BEFORE * CHUNK_DT)).to_msg()
        self._chunks.publish(chunk)
        self._say(INSTRUCTION)

    def _say_deadman(self, pressed: bool) -> None:
        """Publish the switch at every step while it is pressed, and once when it is released."""
        if pressed or self._was_pressed:
            self._deadman.publish(Bool(data=pressed))
        self._was_pressed = pressed

    def _say_idle(self) -> None:
        """Publish that nothing is driven, once after driving: later messages would disturb a policy."""
        if self._was_driving:
            self._say("")
        self._was_driving = False

    def _say(self, instruction: str) -> None:
        status = PolicyStatus(session=self._session, instruction=instruction, progress=math.nan, chunks=self._sequence)
        status.header.stamp = self.get_clock().now().to_msg()
        self._statuses.publish(status)

    def _tell(self, now: float) -> None:
        """Log why nothing moves if that changed, at most every `SAY_EVERY_S`."""
        if self._teleop.reason != self._said and now - self._said_at > SAY_EVERY_S:
            self._said, self._said_at = self._teleop.reason, now
            self.get_logger().info(self._said or "driving")

    # -- helpers

    def _taken(self, message: JointState) -> float:
        """When the state was measured, on the steady clock [s]; now, if its driver does not stamp."""
        now, stamp = time.monotonic(), message.header.stamp
        return now - max(1e-9 * self.get_clock().now().nanoseconds - seconds(stamp), 0.0) if stamp.sec else now

    def _declare(self, name: str, default: list[Any], description: str) -> None:
        self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _one_of(self, name: str, known: tuple[str, ...]) -> str:
        value = self._value(name)
        if value not in known:
            raise UnknownNameError(name, value, known)
        return value

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=1.0)


def main() -> None:
    run_node(TeleopNode)
