"""LeRobot's gamepad as the operator's device: its own classes, over a fake of the module `hid` below them."""

import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from fake_arm import FakeArm

from emu_robot.errors import ConfigError, SystemSetupError
from emu_robot.lerobot.leaders import ToolDevice, open_leader
from emu_robot.robots.arm import Arm
from emu_robot.teleop.desk import Desk, OrderKind, Sample

hid = pytest.importorskip("hid", reason="needs LeRobot's extra `gamepad`")
CENTRE, RB, LEFT_TRIGGER, SAVES = 128, 2, 4, 1 << 7


class FakePad:
    """A Logitech gamepad as `hid` shows it. report: what it sends now."""

    report: ClassVar[list[int]] = [0, CENTRE, CENTRE, CENTRE, CENTRE, 0, 0, 0]

    def open_path(self, path: bytes) -> None: ...
    def set_nonblocking(self, value: int) -> None: ...
    def close(self) -> None: ...
    def get_manufacturer_string(self) -> str:
        return "Logitech"

    def get_product_string(self) -> str:
        return "Logitech RumblePad 2"

    def read(self, length: int) -> list[int]:
        return list(self.report)


@pytest.fixture
def pad(monkeypatch: pytest.MonkeyPatch) -> type[FakePad]:
    from lerobot.teleoperators.gamepad import gamepad_utils

    monkeypatch.setattr(gamepad_utils, "hid", hid, raising=False)
    monkeypatch.setattr(hid, "enumerate", lambda *_: [{"path": b"1", "product_string": "Logitech RumblePad 2"}])
    monkeypatch.setattr(hid, "device", FakePad)
    monkeypatch.setattr(FakePad, "report", list(FakePad.report))
    return FakePad


def heard(desk: Desk, until: Callable[[Sample], bool]) -> Sample:
    ends = time.monotonic() + 20
    while True:
        for sample in desk.take()[0]:
            if until(sample):
                return sample
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_its_own_button_is_the_deadman_and_its_deltas_move_the_tool(pad: type[FakePad]) -> None:
    desk, arm = Desk(), FakeArm()
    device = open_leader("gamepad", {"hidapi_fallback": "true"}, desk, arm)
    assert isinstance(device, ToolDevice)
    pad.report[2] = 0  # the left stick
    time.sleep(0.3)
    assert desk.holder(time.monotonic()) is None
    pad.report[6] = RB
    sample = heard(desk, lambda sample: sample.pressed)
    np.testing.assert_allclose(sample.wish.linear, [1.0, 0.0, 0.0])
    pad.report[6] = RB | LEFT_TRIGGER
    assert heard(desk, lambda sample: sample.wish.grip != 0).wish.grip == -1.0
    pad.report[6] = 0
    assert not heard(desk, lambda sample: not sample.pressed).wish.linear.any()
    pad.report[5] = SAVES
    orders: list[Any] = []
    ends = time.monotonic() + 20
    while not orders and time.monotonic() < ends:
        orders += [order.kind for order in desk.take()[1]]
    time.sleep(0.3)
    assert [*orders, *(order.kind for order in desk.take()[1])] == [OrderKind.SUCCESS]
    device.close()


def test_it_needs_an_arm_with_kinematics(pad: type[FakePad]) -> None:
    arm = FakeArm()
    arm.kinematics = None
    with pytest.raises(ConfigError, match="gamepad moves the tool, and where that of portal is, is not known"):
        open_leader("gamepad", {"hidapi_fallback": "true"}, Desk(), arm)


def test_a_gamepad_that_is_not_there_is_said(pad: type[FakePad], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hid.enumerate", lambda *_: [])
    with pytest.raises(SystemSetupError, match="gamepad: none is connected"):
        open_leader("gamepad", {"hidapi_fallback": "true"}, Desk(), FakeArm())


def test_the_fake_arm_is_an_arm() -> None:
    assert isinstance(FakeArm(), Arm)
