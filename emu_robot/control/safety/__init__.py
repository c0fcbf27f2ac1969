"""The safety gate between action chunks and a robot. Numpy only; it knows no middleware.

`SafetyGate` takes chunks, joint states and heartbeats and gives commands. It is not safety-rated: hardware limits and
the vendor's emergency stop have the last word.
"""

from emu_robot.control.safety.chunks import SOURCES, ChunkMessage, Rejection
from emu_robot.control.safety.clock import ClockWatch, certain_age
from emu_robot.control.safety.config import SafetyConfig
from emu_robot.control.safety.gate import SafetyGate
from emu_robot.control.safety.latch import EstopLatch
from emu_robot.control.safety.measured import MeasuredJoints
from emu_robot.control.safety.states import Command, GateState

__all__ = [
    "SOURCES",
    "ChunkMessage",
    "ClockWatch",
    "Command",
    "EstopLatch",
    "GateState",
    "MeasuredJoints",
    "Rejection",
    "SafetyConfig",
    "SafetyGate",
    "certain_age",
]
