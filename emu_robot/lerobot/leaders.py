"""Any teleoperator of LeRobot's as the operator's device in a session: leader arms, and devices that move the tool."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.teleoperators.utils import TeleopEvents

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, InvalidValueError, SystemSetupError
from emu_robot.lerobot.devices import LEADER, connect, make_device, read_settings
from emu_robot.robots.arm import Arm, HasOwnUnits
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import Wish
from emu_robot.teleop.polling import Polling, one_line

READ_HZ = 60.0
"""Reads per second [Hz]."""
DELTAS = ("delta_x", "delta_y", "delta_z")
"""Actions of a device that moves the tool, as shares along the axes of the arm's base."""
GRIPS = {0: -1.0, 1: 0.0, 2: 1.0}
"""LeRobot's numbers of closing, keeping and opening a gripper."""
ENDS = {
    TeleopEvents.SUCCESS: OrderKind.SUCCESS,
    TeleopEvents.RERECORD_EPISODE: OrderKind.DISCARD,
    TeleopEvents.TERMINATE_EPISODE: OrderKind.FAILURE,
}
"""Events of a device that end an episode. The first that is there counts."""


def open_leader(type_name: str, words: Mapping[str, str], desk: Desk, arm: Arm) -> "LeaderArmReader | ToolDevice":
    """A connected teleoperator that fits the arm. words: its settings by dotted key.

    Raises `EmuRobotError`, with nothing left connected.
    """
    device = make_device(LEADER, type_name, read_settings(words))
    names, ours = _action_names(device), arm.layout.action_names
    moves_tool = set(DELTAS) <= set(names)
    if not moves_tool and set(names) != set(ours):
        raise ConfigError(f"{type_name} gives {', '.join(names) or 'nothing'}; {arm.name} takes {', '.join(ours)}")
    if moves_tool and arm.kinematics is None:
        raise ConfigError(f"{type_name} moves the tool, and where that of {arm.name} is, is not known: give arm.urdf")
    if not moves_tool:
        _check_unit(device, arm, type_name)
    connect(LEADER, device, type_name)
    if getattr(getattr(device, "gamepad", None), "running", True) is False:  # LeRobot only logs it
        raise SystemSetupError(f"{type_name}: none is connected, or it may not be read")
    return ToolDevice(device, desk) if moves_tool else LeaderArmReader(device, arm)


class LeaderArmReader:
    """A leader arm, read in a thread of its own."""

    def __init__(self, device: Any, arm: Arm) -> None:
        """device: a connected teleoperator of LeRobot's with the arm's actions."""
        self._device, self._arm, self.name = device, arm, str(device.name)
        self._newest: tuple[Floats, float] | None = None
        self._polling = Polling(f"the leader {self.name}", self._read, hz=READ_HZ)
        self._polling.start()

    @property
    def trouble(self) -> str:
        """Why it does not answer; empty while it does."""
        return self._polling.trouble

    def newest(self) -> tuple[Floats, float] | None:
        """Its last position (A,) in the arm's numbers, and when it was read [s]; None before the first."""
        return self._newest

    def close(self) -> None:
        """Let go of it."""
        _close(self._polling, self._device)

    def _read(self) -> None:
        at = time.monotonic()
        action = self._device.get_action()
        values = np.array([float(action[name]) for name in self._arm.layout.action_names])
        if not np.isfinite(values).all():
            raise InvalidValueError("a position is not finite")
        self._newest = (self._arm.from_own(values) if isinstance(self._arm, HasOwnUnits) else values, at)


class ToolDevice:
    """A gamepad, keyboard or the like that moves the tool, read in a thread of its own; it writes to the desk.

    Its own word for "I intervene" is the deadman. Without one, a deflection is.
    """

    def __init__(self, device: Any, desk: Desk) -> None:
        """device: a connected teleoperator of LeRobot's that gives deltas."""
        self._device, self._desk, self.name = device, desk, str(device.name)
        self._ended: OrderKind | None = None
        self._polling = Polling(self.name, self._read, hz=READ_HZ / 2)
        self._polling.start()

    @property
    def trouble(self) -> str:
        """Why it does not answer; empty while it does."""
        return self._polling.trouble

    def close(self) -> None:
        """Let go of it."""
        _close(self._polling, self._device)
        self._desk.leave(self.name, time.monotonic())

    def _read(self) -> None:
        action = self._device.get_action()
        events = self._device.get_teleop_events() if hasattr(self._device, "get_teleop_events") else {}
        shares = np.array([float(action[name]) for name in DELTAS])
        if not np.isfinite(shares).all():
            raise InvalidValueError("a delta is not finite")
        grip = GRIPS.get(round(float(action.get("gripper", 1))), 0.0)
        pressed = bool(events.get(TeleopEvents.IS_INTERVENTION, bool(shares.any()) or grip != 0.0))
        wish = Wish(linear=np.clip(shares, -1.0, 1.0), grip=grip) if pressed else Wish()
        now = time.monotonic()
        self._desk.drive(self.name, Sample(at=now, pressed=pressed, wish=wish))
        ended = next((kind for event, kind in ENDS.items() if events.get(event)), None)
        if ended is not None and ended is not self._ended:
            self._desk.order(self.name, Order(kind=ended), now)
        self._ended = ended


def _action_names(device: Any) -> list[str]:
    """Names of a teleoperator's actions. LeRobot has two forms of them."""
    features = device.action_features
    return list(features["names"]) if "names" in features else list(features)


def _check_unit(device: Any, arm: Arm, type_name: str) -> None:
    """Raise `ConfigError` if leader and arm count differently."""
    theirs = getattr(device.config, "use_degrees", None)
    units = set(arm.layout.action_units[: len(arm.home)])
    if theirs is not None and theirs != (units == {"deg"}):
        ours = "degrees" if units == {"deg"} else "other numbers"
        raise ConfigError(
            f"{type_name} gives {'degrees' if theirs else 'percent'} and {arm.name} takes {ours}: "
            "give both the same leader.use_degrees and arm.use_degrees"
        )


def _close(polling: Polling, device: Any) -> None:
    polling.close()
    try:
        device.disconnect()
    except Exception as error:  # a device that is gone cannot be told
        print(f"{device.name} could not be let go properly: {one_line(error)}", flush=True)
