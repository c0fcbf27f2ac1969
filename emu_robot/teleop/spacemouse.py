"""A SpaceMouse as an operator's device: its cap moves the tool while the left button is held. Needs pyspacemouse."""

import time
from typing import Any

import numpy as np

from emu_robot.core import Floats
from emu_robot.errors import SystemSetupError
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import HandConfig, Wish
from emu_robot.teleop.keys import to_base
from emu_robot.teleop.polling import Polling, one_line

HZ = 200.0
"""Reads per second: the device sends its axes and turns in reports of their own, about 60 times each [Hz]."""
STEP_M, STEP_RAD = 0.002, 0.005
"""Motion of the tool per tick at full deflection [m], [rad]."""
DEAD_ZONE = 0.08
"""Share of the deflection below which the cap counts as centred."""
SAMPLE_S = 0.03
"""Time between two samples for the desk [s]."""
REPORTS_AT_ONCE = 16
"""Reports that are read before the cap's place counts."""
HELD, GRIPS = 0, 1
"""Buttons: the left one is the deadman, the right one opens and closes the gripper."""


class SpaceMouse:
    """Reads a SpaceMouse in a thread, and leaves what it says at the desk."""

    name = operator = "the SpaceMouse"

    def __init__(self, desk: Desk, hand: HandConfig, *, rate_hz: float, faces_arm: bool) -> None:
        """hand: speeds of the hand that it moves. rate_hz: ticks per second of the session.

        Raises `SystemSetupError` without a SpaceMouse, or without the library.
        """
        self._desk, self._faces_arm = desk, faces_arm
        self._linear = min(STEP_M * rate_hz / hand.linear_speed, 1.0)
        self._angular = min(STEP_RAD * rate_hz / hand.angular_speed, 1.0)
        self._sampled_at, self._gripped, self._was_held = -np.inf, False, False
        self._mouse = _open()
        self._polling = Polling(self.name, self._read, hz=HZ)
        self._polling.start()

    @property
    def trouble(self) -> str:
        """Why it does not answer; empty while it does."""
        return self._polling.trouble

    def close(self) -> None:
        """Let go of it."""
        self._polling.close()
        self._mouse.close()
        self._desk.leave(self.operator, time.monotonic())

    def _read(self) -> None:
        state = self._mouse.read()
        for _ in range(REPORTS_AT_ONCE):
            heard_at = state.t
            state = self._mouse.read()
            if state.t == heard_at:
                break
        now = time.monotonic()
        held, grips = bool(state.buttons[HELD]), bool(state.buttons[GRIPS])
        if grips and not self._gripped and held:
            self._desk.order(self.operator, Order(kind=OrderKind.GRIPPER), now)
        self._gripped = grips
        if held == self._was_held and now - self._sampled_at < SAMPLE_S:
            return
        self._was_held, self._sampled_at = held, now
        moved = _centred(np.array([state.x, state.y, state.z], np.float64))
        turned = _centred(np.array([state.roll, state.pitch, state.yaw], np.float64))
        wish = Wish(
            linear=self._linear * to_base(moved, faces_arm=self._faces_arm),
            angular=self._angular * to_base(turned, faces_arm=self._faces_arm),
        )
        self._desk.drive(self.operator, Sample(at=now, pressed=held, wish=wish if held else Wish()))


def _centred(shares: Floats) -> Floats:
    """Deflections (3,) without the dead zone, in [-1, 1]."""
    return np.sign(shares) * np.clip((np.abs(shares) - DEAD_ZONE) / (1 - DEAD_ZONE), 0.0, 1.0)


def _open() -> Any:
    """The first SpaceMouse; its axes are right, away, up."""
    try:
        import pyspacemouse  # pyright: ignore[reportMissingImports] - an optional extra
    except ImportError as error:
        raise SystemSetupError(
            "a SpaceMouse needs pyspacemouse; in the checkout: pip install -e '.[spacemouse]'"
        ) from error
    try:
        found = pyspacemouse.get_connected_devices()
        if found:
            return pyspacemouse.open(device=found[0], axis_convention=pyspacemouse.AxisConvention.HID_Z_UP)
        others = ", ".join(sorted({name for name, *_ in pyspacemouse.get_all_hid_devices()}))
    except RuntimeError as error:
        raise SystemSetupError(
            f"the SpaceMouse cannot be opened ({one_line(error)}): it needs the library hidapi (apt-get install "
            "libhidapi-hidraw0) and the right to read /dev/hidraw*"
        ) from error
    raise SystemSetupError(f"no SpaceMouse is connected; HID devices here: {others or 'none'}")
