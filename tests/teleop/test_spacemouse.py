"""A SpaceMouse by pyspacemouse's own code, over a fake of the C library below it."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from emu_robot.errors import SystemSetupError
from emu_robot.teleop.desk import Desk, OrderKind, Sample
from emu_robot.teleop.hand import HandConfig
from emu_robot.teleop.spacemouse import SpaceMouse

easyhid = pytest.importorskip("easyhid.easyhid", reason="needs the extra `spacemouse`")
pytest.importorskip("pyspacemouse", reason="needs the extra `spacemouse`")
from fake_hid import FakeHidapi  # noqa: E402

FULL = 350


@pytest.fixture
def hid(monkeypatch: pytest.MonkeyPatch) -> FakeHidapi:
    fake = FakeHidapi(easyhid.ffi)
    monkeypatch.setattr(easyhid, "hidapi", fake)
    return fake


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def mouse(hid: FakeHidapi, desk: Desk) -> Iterator[SpaceMouse]:
    one = SpaceMouse(desk, HandConfig(linear_speed=0.1, angular_speed=0.5), rate_hz=30, faces_arm=False)
    yield one
    one.close()


def sample(desk: Desk, until: Callable[[Sample], bool]) -> Sample:
    """Wait for a sample at the desk."""
    ends = time.monotonic() + 20
    while True:
        for found in desk.take()[0]:
            if until(found):
                return found
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_the_cap_moves_2_mm_and_turns_5_mrad_per_tick_while_the_left_button_is_held(
    hid: FakeHidapi, desk: Desk, mouse: SpaceMouse
) -> None:
    hid.move(y=-FULL, rz=-FULL)  # pushed away, turned to the left
    hid.press(left=True)
    found = sample(desk, lambda one: one.pressed and bool(one.wish.linear.any()))
    assert desk.holder(time.monotonic()) == "the SpaceMouse"
    np.testing.assert_allclose(found.wish.linear * 0.1 / 30, [0.002, 0, 0], atol=1e-9)  # seen from behind: +x is away
    np.testing.assert_allclose(found.wish.angular * 0.5 / 30, [0, 0, 0.005], atol=1e-9)
    hid.move(z=-FULL // 2)
    found = sample(desk, lambda one: one.wish.linear[2] > 0)
    assert 0.2 < found.wish.linear[2] / 0.6 < 0.5 and not found.wish.linear[:2].any()
    hid.press()
    assert not sample(desk, lambda one: not one.pressed).wish.linear.any()


def test_a_cap_that_is_touched_lightly_or_without_the_button_moves_nothing(
    hid: FakeHidapi, desk: Desk, mouse: SpaceMouse
) -> None:
    hid.move(x=FULL)
    time.sleep(0.3)
    assert desk.holder(time.monotonic()) is None
    hid.move(x=20)
    hid.press(left=True)
    assert not sample(desk, lambda one: one.pressed).wish.linear.any()


def test_the_right_button_moves_the_gripper_once_per_press(hid: FakeHidapi, desk: Desk, mouse: SpaceMouse) -> None:
    hid.press(left=True)
    sample(desk, lambda one: one.pressed)
    hid.press(left=True, right=True)
    orders, ends = [], time.monotonic() + 20
    while not orders and time.monotonic() < ends:
        orders += [order.kind for order in desk.take()[1]]
        time.sleep(0.01)
    time.sleep(0.3)
    assert orders + [order.kind for order in desk.take()[1]] == [OrderKind.GRIPPER]


def test_an_unplugged_mouse_says_nothing_more_and_is_told(hid: FakeHidapi, desk: Desk, mouse: SpaceMouse) -> None:
    hid.press(left=True)
    sample(desk, lambda one: one.pressed)
    hid.present = False
    ends = time.monotonic() + 20
    while not mouse.trouble and time.monotonic() < ends:
        time.sleep(0.05)
    assert "the SpaceMouse does not answer: Failed to read from HID device" in mouse.trouble
    desk.take()
    time.sleep(0.3)
    assert desk.take()[0] == []


def test_without_a_mouse_it_says_what_is_there(hid: FakeHidapi, desk: Desk) -> None:
    hid.present = False
    with pytest.raises(SystemSetupError, match="no SpaceMouse is connected; HID devices here: none"):
        SpaceMouse(desk, HandConfig(), rate_hz=30, faces_arm=True)
