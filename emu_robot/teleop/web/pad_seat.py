"""One open page /pad: what its messages mean for the desk."""

import time
from typing import Any

from emu_robot.errors import EmuRobotError, InvalidValueError
from emu_robot.robots.pose import Pose
from emu_robot.teleop import keys
from emu_robot.teleop.controller import Controller, read_pose
from emu_robot.teleop.desk import Desk, Sample, read_order
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.web.messages import read_message, read_number

NO_TOOL = "a controller moves the tool, and where this arm's is, is not known; use keys or fields, or give arm.urdf"


class PadSeat:
    """Gives a page's messages to the desk."""

    def __init__(self, desk: Desk, loop: Loop, operator: str, *, faces_arm: bool) -> None:
        """faces_arm: whether the operator looks at the arm from its front."""
        self._desk, self._loop, self.operator, self._faces_arm = desk, loop, operator, faces_arm
        self._controller = Controller()

    def hear(self, text: str) -> str:
        """Take a message. Returns why it is refused, "" if it is taken."""
        now = time.monotonic()
        try:
            message = read_message(text)
            if "order" in message:
                return self._desk.order(self.operator, read_order(message["order"], message.get("text", "")), now)
            drive = message.get("drive")
            if not isinstance(drive, dict):
                raise InvalidValueError(f"a message must have drive or order, it has {', '.join(message)[:60]}")
            refused = self._desk.drive(self.operator, self._sample(drive, read_number(message), now))
        except EmuRobotError as error:
            return str(error)
        if refused:  # the arm goes nowhere: what the hand does meanwhile must not count later
            self._controller.let_go(now)
        return refused

    def leave(self) -> None:
        """The page is gone."""
        self._desk.leave(self.operator, time.monotonic())

    def _sample(self, drive: dict[str, Any], number: int, now: float) -> Sample:
        wish = keys.read_wish(drive, faces_arm=self._faces_arm)
        pose, pressed = read_pose(drive, faces_arm=self._faces_arm), drive.get("pressed") is True
        if pose is None or not pressed:
            self._controller.let_go(now)
            return Sample(at=now, pressed=pressed, wish=wish, number=number)
        return self._controller.hold(pose, self._target(), now, grip=wish.grip, number=number)

    def _target(self) -> Pose:
        """Where the arm is wanted now. Raises `InvalidValueError` if that is not known."""
        view = self._loop.view
        if view is None or view.target is None:
            raise InvalidValueError(NO_TOOL)
        return view.target
