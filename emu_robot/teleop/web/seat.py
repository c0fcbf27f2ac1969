"""One open page in space: its operator, its clutch, and what it was refused."""

import time
from typing import Any

from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.robots.pose import Pose
from emu_robot.teleop.clutch import Clutch, Pulse
from emu_robot.teleop.desk import Desk, OrderKind, read_order
from emu_robot.teleop.view import View
from emu_robot.teleop.web.messages import read_message, read_number

SHOWN_S = 4.0
"""How long a refusal is shown [s]."""


class Seat:
    """Gives a page's drags, pulses and orders to the desk. Two threads use it."""

    def __init__(self, desk: Desk, operator: str) -> None:
        self._desk, self.operator, self.clutch = desk, operator, Clutch()
        self.texts: dict[OrderKind, str] = {}
        """Words in the page's boxes, for orders that need some."""
        self.sockets = 0
        """Websockets of the page that are open."""
        self._refused, self._refused_at = "", -SHOWN_S

    def hear(self, text: str) -> None:
        """Take a message of the page's own script: a pulse, or an order."""
        try:
            message = read_message(text)
            if "order" in message:
                self.order(message["order"], None)
            else:
                self.clutch.hear(_read_pulse(message), time.monotonic())
                self._drive()
        except EmuRobotError as error:
            self._refuse(str(error))

    def grab(self, handle: Pose, target: Pose) -> None:
        """A drag of the handle begins."""
        self._follow(lambda: self.clutch.grab(handle, target))

    def drag(self, handle: Pose) -> None:
        """It goes on."""
        self._follow(lambda: self.clutch.drag(handle))

    def let_go(self) -> None:
        """It ends."""
        self._follow(self.clutch.let_go)

    def order(self, kind: object, text: str | None) -> None:
        """Pass on an order. text: None for the words in the page's boxes."""
        now = time.monotonic()
        try:
            order = read_order(kind, text or "")
            if text is None:
                order = read_order(kind, self.texts.get(order.kind, ""))
            self._refuse(self._desk.order(self.operator, order, now))
        except EmuRobotError as error:
            self._refuse(str(error))

    def leave(self) -> None:
        """The page is gone, or silent."""
        now = time.monotonic()
        self.clutch.hear(Pulse(held=False), now)
        self.clutch.let_go()
        self._desk.leave(self.operator, now)

    def status(self, view: View) -> dict[str, Any]:
        """What the page's bar shows."""
        stopped = view.gate.value in ("fault", "estop")
        mine = view.operator in (None, self.operator)
        reason = "drag the handle to drive" if view.reason == "not pressed" else view.reason
        words = f"stopped: {reason}" if stopped else "driving" if view.is_driven else f"holding: {reason}"
        refused = self._refused if time.monotonic() - self._refused_at < SHOWN_S else ""
        return {
            "kind": "stopped" if stopped else "driven" if view.is_driven and mine else "",
            "words": words if mine else f"{words}; {view.operator} has the arm",
            "refused": refused,
            "n": view.number if view.operator == self.operator else 0,
        }

    def _follow(self, change: Any) -> None:
        try:
            change()
            self._drive()
        except EmuRobotError as error:
            self._refuse(str(error))

    def _drive(self) -> None:
        self._refuse(self._desk.drive(self.operator, self.clutch.sample()))

    def _refuse(self, why: str) -> None:
        if why:
            self._refused, self._refused_at = why, time.monotonic()


def _read_pulse(message: dict[str, Any]) -> Pulse:
    if not isinstance(message.get("held"), bool):
        raise InvalidValueError(f"a pulse must say whether it is held, it has {', '.join(message)[:60]}")
    return Pulse(
        held=message["held"],
        goes_home=message.get("home") is True,
        grips=message.get("grips") is True,
        number=read_number(message),
    )
