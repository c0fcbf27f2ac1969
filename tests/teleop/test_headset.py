"""A headset's controller on the page /pad, in a real browser with a WebXR device that the test plays."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_arm import tool_of
from PIL import Image
from teleop_page import Served, opened_pad, stands_still, wait_page

from emu_robot.control.safety import GateState
from emu_robot.core import Floats
from emu_robot.robots.pose import Pose
from emu_robot.teleop.episodes import Phase
from emu_robot.teleop.view import View

PATIENCE = 20
"""Tries on a machine with other work."""
HEADSET = (Path(__file__).parents[1] / "helpers/fake_headset.js").read_text()
STATE, SENSORS = "document.getElementById('headset').ariaPressed", "document.getElementById('sensors').textContent"


class Worn:
    """A page whose headset is worn."""

    def __init__(self, browser: Any, served: Served) -> None:
        self.page, self._served = opened_pad(browser.new_page(), served, HEADSET), served
        self.page.click("#headset")
        wait_page(self.page, f"{STATE} === 'true'")

    def do(self, call: str) -> None:
        """Do something with the headset, such as "squeeze(true)"."""
        self.page.evaluate(f"fakeHeadset.{call}")

    def squeeze(self) -> None:
        """Begin to hold the arm; a page without CPU is held, and squeezed again."""
        for _ in range(PATIENCE):
            self.do("squeeze(true)")
            if self._becomes(lambda: self._served.view.is_driven, 2.0):
                return
            self.let_go()
        pytest.fail(f"never driven: {self._served.view.reason}")

    def goes(self, right: float, up: float, back: float, turn: float = 0.0) -> None:
        """Move and turn the controller within 0.3 s."""
        self.do(f"goes([{right}, {up}, {back}], {turn}, 300)")
        time.sleep(0.5)

    def carry(self, right: float, up: float, back: float, turn: float = 0.0) -> tuple[Floats, Floats]:
        """Squeeze, move, wait. Returns the step and the turn of the tool."""
        for _ in range(PATIENCE):
            self.squeeze()
            before, gaps = tool_of(self._served.view), []
            tick = partial(self._note, gaps)
            self._served.loop.watch(tick)
            self.goes(right, up, back, turn)
            after = self._settled()
            self._served.loop.unwatch(tick)
            if not gaps:
                return before.way_to(after)
            self.let_go()
            self.do("goes([0, 0, 0], 0, 1)")
        pytest.fail("the page never had CPU for a whole motion")

    def pull(self, trigger: float, until: Callable[[View], bool]) -> None:
        """Squeeze, and bring the trigger there, until the gripper has moved."""
        for _ in range(PATIENCE):
            self.squeeze()
            self.do(f"trigger({trigger})")
            if self._becomes(lambda: until(self._served.view), 2.0):
                return
            self.let_go()
            self.do(f"trigger({1 - trigger})")
        pytest.fail("the gripper never moved")

    def let_go(self) -> None:
        """Stop holding."""
        self.do("squeeze(false)")
        self._served.wait(lambda view: view.gate is GateState.HOLDING, 2.0)

    def _note(self, gaps: list[float]) -> None:
        if not self._served.view.is_driven:
            gaps.append(self._served.view.now)

    def _settled(self) -> Pose:
        """Where the tool comes to rest."""
        while True:
            before = tool_of(self._served.view)
            time.sleep(0.4)
            step, turn = before.way_to(tool_of(self._served.view))
            if np.abs(step).max() < 1e-4 and np.abs(turn).max() < 1e-3:
                return tool_of(self._served.view)

    def _becomes(self, until: Callable[[], bool], seconds: float) -> bool:
        begun = time.monotonic()
        while not until():
            if time.monotonic() - begun > seconds:
                return False
            time.sleep(0.005)
        return True


@pytest.fixture
def worn(browser: Any, served: Served) -> Iterator[Worn]:
    one = Worn(browser, served)
    yield one
    one.page.close()


def test_the_gripper_goes_as_far_as_the_squeezed_hand_and_only_then(worn: Worn, served: Served) -> None:
    worn.goes(0.1, 0.1, 0.1)
    assert stands_still(served), "a controller that is not squeezed moved the arm"
    worn.squeeze()
    assert stands_still(served), "the arm moved although the hand did not"
    worn.let_go()
    step, turn = worn.carry(0.1, 0.05, -0.08)
    np.testing.assert_allclose(step, [-0.08, 0.1, 0.05], atol=0.002)  # right is +y for who faces the arm
    assert np.abs(turn).max() < 1e-3
    worn.let_go()
    worn.goes(-0.3, 0.0, 0.2)
    assert stands_still(served)
    worn.squeeze()
    assert stands_still(served), "squeezing elsewhere moved the arm"
    worn.let_go()
    np.testing.assert_allclose(worn.carry(0.0, 0.0, 0.08)[0], [0.08, 0.0, 0.0], atol=0.002)


def test_the_gripper_turns_as_the_hand_does(worn: Worn) -> None:
    step, turn = worn.carry(0.0, 0.0, 0.0, turn=0.4)
    np.testing.assert_allclose(turn, [0.0, 0.0, 0.4], atol=0.01)
    assert np.abs(step).max() < 1e-3


def test_the_trigger_closes_and_opens_and_what_is_held_stays_held(worn: Worn, served: Served) -> None:
    worn.pull(1, lambda view: view.position[-1] < 0.02)
    worn.let_go()
    worn.do("trigger(0)")
    worn.squeeze()
    time.sleep(0.5)
    assert served.view.position[-1] < 0.02, "squeezing again opened the gripper"
    worn.let_go()
    worn.do("trigger(1)")
    worn.pull(0, lambda view: view.position[-1] > 0.98)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        ("tracked = false", "out of its sight"),
        ("emulated = true", "out of its sight"),
        ("freezes = true", ""),
        ("hide(true)", ""),
        ("recentre()", "its place was reset"),
        ("unplug()", "the controller is gone"),
    ],
)
def test_a_controller_out_of_sight_holds_and_must_be_squeezed_again(
    worn: Worn, served: Served, happens: str, said: str
) -> None:
    worn.squeeze()
    worn.goes(0.05, 0.0, 0.0)
    worn.do(happens)
    served.wait(lambda view: view.gate is GateState.HOLDING, 2.0)
    wait_page(worn.page, f"{SENSORS}.includes('{said}')")
    for back in ("tracked = true", "emulated = false", "freezes = false", "hide(false)"):
        worn.do(back)
    worn.goes(0.1, 0.1, 0.0)
    assert stands_still(served), "it drove on without a new squeeze"
    worn.let_go()
    np.testing.assert_allclose(worn.carry(0.05, 0.0, 0.0)[0], [0.0, 0.05, 0.0], atol=0.002)


def test_the_end_of_the_session_holds_and_the_page_goes_on(worn: Worn, served: Served) -> None:
    worn.squeeze()
    worn.do("session.end()")
    served.wait(lambda view: view.gate is GateState.HOLDING, 2.0)
    wait_page(worn.page, f"{STATE} === 'false'")
    worn.page.keyboard.down("Space")
    served.wait(lambda view: view.is_driven)
    worn.page.keyboard.up("Space")
    worn.page.click("#headset")
    wait_page(worn.page, f"{STATE} === 'true'")


def test_what_the_hand_did_while_another_had_the_arm_does_not_count(browser: Any, worn: Worn, served: Served) -> None:
    other = opened_pad(browser.new_page(), served)
    other.keyboard.down("Space")
    served.wait(lambda view: view.is_driven)
    worn.do("squeeze(true)")
    worn.goes(0.3, 0.0, 0.0)
    wait_page(worn.page, "(teleop.refused || '').includes('has the arm')")
    other.close()
    served.wait(lambda view: view.is_driven)
    assert stands_still(served)


def test_an_episode_is_recorded_with_the_controller(worn: Worn, served: Served) -> None:
    for button, phase in ((4, Phase.RECORDING), (5, Phase.IDLE), (4, Phase.RECORDING), (4, Phase.IDLE)):
        worn.do(f"press({button}, true)")
        served.wait(lambda view, phase=phase: view.phase is phase)
        time.sleep(0.1)
        worn.do(f"press({button}, false)")
        time.sleep(0.1)
    assert [(outcome, cause) for outcome, cause, _ in served.recorder.episodes] == [("success", "")]
    assert ("discard",) in served.recorder.said


def test_the_cameras_are_seen_in_the_headset(worn: Worn) -> None:
    wait_page(worn.page, "document.getElementById('state').textContent.includes('grip button')")
    time.sleep(0.5)
    worn.do("wantsPicture = true")
    wait_page(worn.page, "fakeHeadset.seen !== null")
    seen = worn.page.evaluate("fakeHeadset.seen").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(seen))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (80, 160, 3)
    for eye in (pixels[:, :80], pixels[:, 80:]):
        np.testing.assert_allclose(eye[40, 40], 99, atol=3)  # the grey of the fake camera
        assert (np.abs(eye[2, 2] - [20, 23, 28]) < 3).all()
        assert ((eye[:, :, 0] > 100) & (eye[:, :, 2] < 40)).sum() > 3  # words in the colour of "holding"


@pytest.mark.parametrize(
    ("script", "said"),
    [("", "finds none"), ("Object.defineProperty(navigator, 'xr', { value: undefined });", "has no WebXR")],
)
def test_a_browser_without_a_headset_says_so(browser: Any, served: Served, script: str, said: str) -> None:
    page = opened_pad(browser.new_page(), served, script)
    page.click("#headset")
    wait_page(page, f"{SENSORS}.includes('{said}')", 15)
    assert page.evaluate(STATE) == "false"
    page.close()


def test_plain_http_from_another_machine_has_no_headset(browser: Any) -> None:
    served = Served("a-token-of-ours", host="0.0.0.0")
    page = opened_pad(browser.new_page(), served, HEADSET)
    page.click("#headset")
    wait_page(page, f"{SENSORS}.includes('plain http')")
    page.close()
    served.close()
