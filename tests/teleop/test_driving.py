"""When an operator's input moves the robot, and how: with a clock that the test moves, and the real gate."""

from typing import Any

import numpy as np
import pytest

from emu_robot.control.safety import ChunkMessage, GateState, SafetyConfig, SafetyGate
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits
from emu_robot.teleop.driving import BEFORE, CHUNK_DT, Motion, TeleopConfig, Teleoperation

STEP = 0.04


class Turning:
    """A source that turns one joint at 0.4 rad/s from where it was started; far: why it will not."""

    def __init__(self) -> None:
        self.far, self.at, self.starts = "", np.zeros(1), 0

    def start(self, measured: Floats) -> None:
        if self.far:
            raise InvalidValueError(self.far)
        self.at, self.starts = measured.copy(), self.starts + 1

    def step(self, measured: Floats, dt: float) -> Motion:
        self.at = self.at + 0.4 * dt
        return Motion(position=self.at.copy(), velocity=np.array([0.4]))


class Rig:
    """Everything that driving needs, each of which a test may take away."""

    def __init__(self, **settings: Any) -> None:
        self.source, self.now = Turning(), 50.0
        self.teleop = Teleoperation(self.source, TeleopConfig(**settings))
        self.pressed, self.device, self.sensed = False, True, True
        self.teleop.on_gate(GateState.HOLDING)
        self.run()

    def run(self, steps: int = 1) -> Motion | None:
        motion = None
        for _ in range(steps):
            self.now += STEP
            if self.device:
                self.teleop.on_deadman(self.pressed, self.now)
                self.teleop.on_input(self.now)
            if self.sensed:
                self.teleop.on_state(np.zeros(1), self.now)
            motion = self.teleop.step(self.now)
        return motion

    def driving(self) -> "Rig":
        self.pressed = True
        assert self.run() is not None and self.teleop.reason == ""
        return self


def test_it_drives_while_the_deadman_is_pressed():
    rig = Rig()
    assert rig.run(5) is None and rig.teleop.reason == "not pressed"
    rig.driving()
    assert rig.run(10) is not None and rig.source.starts == 1
    rig.pressed = False
    assert rig.run() is None
    rig.driving()
    assert rig.source.starts == 2


def test_a_switch_that_was_pressed_all_along_must_be_released_first():
    teleop = Teleoperation(Turning(), TeleopConfig())
    teleop.on_deadman(True, 1.0)
    assert not teleop.is_pressed(1.0)
    assert teleop.step(1.0) is None and "release it first" in teleop.reason
    teleop.on_deadman(False, 1.1)
    teleop.on_deadman(True, 1.2)
    assert teleop.is_pressed(1.2)


def test_a_device_that_was_silent_moves_nothing_until_its_switch_was_released():
    rig = Rig().driving()
    rig.device = False
    assert rig.run(6) is None  # 0.24 s
    rig.device = True
    assert rig.run(10) is None and "release it first" in rig.teleop.reason
    rig.pressed = False
    rig.run()
    rig.driving()


def test_silence_of_a_leader_or_of_the_robot_stops():
    rig = Rig().driving()
    for _ in range(6):
        rig.now += STEP
        rig.teleop.on_deadman(True, rig.now)
        rig.teleop.on_state(np.zeros(1), rig.now)
        last = rig.teleop.step(rig.now)
    assert last is None and rig.teleop.reason == "the device is silent"
    rig = Rig().driving()
    rig.sensed = False
    assert rig.run(6) is None and rig.teleop.reason == "joint states are stale"


@pytest.mark.parametrize("state", [GateState.DISARMED, GateState.FAULT, GateState.ESTOP])
def test_nothing_is_sent_to_a_gate_that_is_not_armed(state: GateState):
    rig = Rig().driving()
    rig.teleop.on_gate(state)
    assert rig.run() is None and state.value in rig.teleop.reason


def test_after_every_hold_of_the_gate_it_starts_where_the_robot_is():
    rig = Rig().driving()
    rig.teleop.on_gate(GateState.TRACKING)
    rig.run(10)
    assert rig.source.at[0] > 0.1
    rig.teleop.on_gate(GateState.HOLDING)
    motion = rig.run()
    assert motion is not None and motion.position[0] < 0.04


def test_a_source_that_would_leap_is_asked_again_until_it_would_not():
    rig = Rig()
    rig.source.far, rig.pressed = "too far", True
    assert rig.run(3) is None and rig.teleop.reason == "too far"
    rig.source.far = ""
    assert rig.run() is not None


def test_always_needs_no_switch():
    teleop = Teleoperation(Turning(), TeleopConfig(), always=True)
    assert teleop.is_pressed(0.0)


def test_settings_out_of_range_are_named():
    with pytest.raises(InvalidValueError, match="teleop.speed is 2.0"):
        TeleopConfig(speed=2.0)


@pytest.mark.parametrize("jitter", [0.0, 0.015])
def test_steady_sticks_move_the_robot_steadily_through_the_gate(jitter: float):
    rng = np.random.default_rng(0)
    one = np.ones(1)
    limits = MotionLimits(lower=-3 * one, upper=3 * one, velocity=2 * one, acceleration=10 * one)
    gate = SafetyGate(config=SafetyConfig(), limits=limits, joints=1)
    for now in (-0.3, -0.2, -0.1, 0.0):
        gate.on_state(np.zeros(1), now)
    gate.arm(0.0)
    source, velocities, measured, due, last = Turning(), [], np.zeros(1), 0.02, 0.0
    for sequence in range(1, 200):
        now = 0.02 * sequence
        gate.on_deadman(True, now)
        gate.on_state(measured, now)
        if now >= due:
            chunk = source.step(measured, now - last)
            last, due = now, now + STEP + rng.uniform(-jitter, jitter)
            gate.offer(
                ChunkMessage(
                    session=1, sequence=sequence, captured=now - BEFORE * CHUNK_DT, dt=CHUNK_DT,
                    actions=chunk.actions, source="teleop",
                ),
                now,
            )  # fmt: skip
        command = gate.tick(now)
        assert command is not None
        measured = command.position
        velocities.append(command.velocity[0])
    assert gate.counts["hold"] == 0
    assert np.ptp(velocities[50:]) < 1e-6 and velocities[-1] == pytest.approx(0.4)
