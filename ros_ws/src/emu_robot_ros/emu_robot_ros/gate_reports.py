"""Publishes the safety gate's state and diagnostics. Commands nothing."""

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from emu_robot_interfaces.msg import SafetyState
from rclpy.node import Node

from emu_robot.control.safety import GateState, SafetyGate
from emu_robot.robots.ros_names import node_label
from emu_robot_ros import qos, topics

STATE_PERIOD_S = 0.5
"""Time between two messages of an unchanged state [s]."""
LEVELS = {GateState.FAULT: DiagnosticStatus.ERROR, GateState.ESTOP: DiagnosticStatus.ERROR}


class GateReports:
    """The publishers of a gate's state and diagnostics."""

    def __init__(self, node: Node, gate: SafetyGate, robot: str) -> None:
        """robot: name of the gate's robot."""
        self._node, self._gate = node, gate
        self._arm = node_label(robot, node.get_namespace())
        self._states = node.create_publisher(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self._diagnostics = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        self._said: tuple[GateState, str] | None = None
        self._said_at = float("-inf")

    def tell(self) -> None:
        """Publish the state if it changed, else every `STATE_PERIOD_S` as a sign of life."""
        said, now = (self._gate.state, self._gate.reason), time.monotonic()
        if said == self._said and now - self._said_at <= STATE_PERIOD_S:
            return
        message = SafetyState(state=self._gate.state.value, reason=self._gate.reason)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._states.publish(message)
        if said != self._said:
            self._node.get_logger().info(f"{self._gate.state.value}: {self._gate.reason}")
        self._said, self._said_at = said, now

    def diagnose(self) -> None:
        """Publish state, ages and counts as a diagnostic message."""
        found = self._gate.diagnostics(time.monotonic())
        status = DiagnosticStatus(
            level=LEVELS.get(self._gate.state, DiagnosticStatus.OK),
            name=f"{self._arm}: safety gate",
            message=f"{self._gate.state.value}: {self._gate.reason}",
            hardware_id=self._arm,
            values=[KeyValue(key=key, value=value) for key, value in found.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in (self._states, self._diagnostics):
            self._node.destroy_publisher(publisher)
