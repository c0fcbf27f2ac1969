"""Decides when an operator's input moves the robot, and makes chunks of it. Numpy only; knows no middleware."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emu_robot.control.safety import GateState
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.shared.settings import check_ranges, number

CHUNK_DT = 0.05
"""Time between the actions of a chunk [s]."""
BEFORE, AFTER = 2, 3
"""Actions of a chunk before and after now. With two before, the spline through them has its full speed now. With three
after, the usual scheduling delays of a desktop computer do not end the motion, but a lost sender does: the robot would
coast for 0.2 s, and the gate holds it before.
"""


@dataclass(kw_only=True)
class TeleopConfig:
    """Settings of teleoperation."""

    rate_hz: float = number(25.0, 20.0, 30.0)
    """Chunks and deadman messages per second [Hz]."""
    input_timeout_s: float = number(0.2, 0.05, 1.0)
    """Silence of the operator's device that stops the robot [s]."""
    state_timeout_s: float = number(0.2, 0.02, 1.0)
    """Age of the joint states that stops the robot [s]."""
    max_jump: float = number(0.3, 0.01, 1.0)
    """Largest distance of a leader's joint from the robot's [rad]."""
    catch_up: float = number(0.5, 0.05, 2.0)
    """Speed of joints that catch up with the leader's at the start [rad/s]."""
    speed: float = number(0.2, 0.01, 1.0)
    """Speed at full stick, as a share of the joints' limits."""
    dead_zone: float = number(0.1, 0.0, 0.9)
    """Deflection of a stick below which it counts as centred."""
    leash: float = number(0.3, 0.01, 1.0)
    """Largest distance of a jogged target from the measured joint [rad]."""
    deadman_button: int = number(5, 0, 63)
    """Button that must be held while driving."""
    group_button: int = number(4, 0, 63)
    """Button that selects the next group of joints."""
    open_button: int = number(3, 0, 63)
    """Button that opens the gripper while it is held."""
    close_button: int = number(0, 0, 63)
    """Button that closes the gripper while it is held."""

    def __post_init__(self) -> None:
        check_ranges(self, "teleop")


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The wanted motion of the robot."""

    position: Floats
    """(A,) wanted position now."""
    velocity: Floats
    """(A,) wanted velocity from there [1/s]."""

    @property
    def actions(self) -> Floats:
        """Actions (T, A) for the middles of their intervals; the first interval began CHUNK_DT * BEFORE ago."""
        times = CHUNK_DT * (np.arange(-BEFORE, AFTER + 1) + 0.5)
        return self.position + times[:, None] * self.velocity


class Source(Protocol):
    """The part of an operator's device that gives the wanted motion."""

    def start(self, measured: Floats) -> None:
        """Begin to drive a robot at `measured` (A,). Raises `InvalidValueError` if it would leap."""
        ...

    def step(self, measured: Floats, dt: float) -> Motion:
        """The wanted motion, `dt` seconds after the last step. Raises `InvalidValueError` if it cannot go on."""
        ...


class Teleoperation:
    """Lets the source drive while the deadman, fresh input, fresh joint states and an armed gate are all present.

    After one of them was missing, and after the gate has held, the source starts again from where the robot is.
    """

    def __init__(self, source: Source, config: TeleopConfig, *, always: bool = False) -> None:
        """always: whether no deadman is needed, for simulated robots."""
        self._source, self._config, self._always = source, config, always
        self._measured: Floats | None = None
        self._measured_at = self._input_at = self._deadman_at = self._stepped_at = -np.inf
        self._pressed, self._must_release = False, not always
        self._gate: GateState | None = None
        self._driving = False
        self.reason = "nothing heard yet"
        """Why nothing moves; empty while the source drives."""

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The switch sent its state. If pressed at the start or after a silence, it must first be released."""
        if pressed and self._pressed and not self.is_pressed(now):
            self._must_release = True
        if not pressed:
            self._must_release = False
        self._pressed, self._deadman_at = pressed, now

    def on_input(self, now: float) -> None:
        """The device sent something."""
        self._input_at = now

    def on_state(self, measured: Floats, now: float) -> None:
        """Take a joint state (A,)."""
        self._measured, self._measured_at = measured, now

    def on_gate(self, state: GateState) -> None:
        """Take the gate's state; to be called at every change."""
        self._gate = state
        if state is not GateState.TRACKING:
            self._driving = False

    def is_pressed(self, now: float) -> bool:
        """Whether the operator holds the deadman switch."""
        heard = now - self._deadman_at <= self._config.input_timeout_s
        return self._always or (self._pressed and heard and not self._must_release)

    def step(self, now: float) -> Motion | None:
        """The wanted motion now; None if the robot must not move, for `reason`."""
        dt = min(now - self._stepped_at, 2.0 / self._config.rate_hz)
        self._stepped_at = now
        self.reason = self._why_not(now)
        if self.reason or self._measured is None:
            self._driving = False
            return None
        try:
            if not self._driving:
                self._source.start(self._measured)
            motion = self._source.step(self._measured, dt)
        except InvalidValueError as error:
            self.reason, self._driving = str(error), False
            return None
        self._driving = True
        return motion

    def _why_not(self, now: float) -> str:
        config = self._config
        if not self.is_pressed(now):
            return "the deadman switch was pressed all along: release it first" if self._held(now) else "not pressed"
        if now - self._input_at > config.input_timeout_s:
            return "the device is silent"
        if self._measured is None or now - self._measured_at > config.state_timeout_s:
            return "joint states are stale"
        if self._gate is None:
            return "no safety gate is heard of"
        return "" if self._gate.is_armed else f"the safety gate is not armed: {self._gate.value}"

    def _held(self, now: float) -> bool:
        return self._pressed and self._must_release and now - self._deadman_at <= self._config.input_timeout_s
