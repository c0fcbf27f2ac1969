"""The page /pad in a real browser, over a session with a fake arm."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
from fake_arm import tool_of
from teleop_page import Fingers, Served, opened_pad, stands_still, wait_page
from walking_policy import WalkingPolicy

from emu_robot.control.safety import GateState
from emu_robot.teleop.episodes import Phase

FAKE_PAD = """
const buttons = Array.from({ length: 17 }, () => ({ pressed: false }));
window.fakePad = { connected: true, axes: [0, 0, 0, 0], buttons };
navigator.getGamepads = () => [window.fakePad];
"""


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(has_touch=True)
    yield opened_pad(context.new_page(), served)
    context.close()


def test_a_key_moves_the_arm_as_the_operator_sees_it_and_a_release_holds_at_once(page: Any, served: Served) -> None:
    page.keyboard.press("d")
    assert stands_still(served), "a key without the deadman moved the arm"
    delays = []
    for _ in range(5):
        page.keyboard.down("Space")
        page.keyboard.down("d")
        at = tool_of(served.view).position[1]
        served.wait(lambda view, at=at: view.is_driven and tool_of(view).position[1] > at + 0.005)
        page.keyboard.up("Space")
        delays.append(served.wait(lambda view: view.gate is GateState.HOLDING))
        page.keyboard.up("d")
        assert page.evaluate("teleop.view.mine")
    assert median(delays) <= 0.1 and stands_still(served)


def test_a_closed_tab_holds_and_frees_the_arm(page: Any, served: Served) -> None:
    page.keyboard.down("Space")
    page.keyboard.down("w")
    served.wait(lambda view: view.is_driven)
    page.close()
    served.wait(lambda view: view.gate is GateState.HOLDING and view.operator is None, 1.0)
    assert stands_still(served)


def test_a_tab_in_the_background_holds(page: Any, served: Served) -> None:
    page.keyboard.down("Space")
    page.keyboard.down("w")
    served.wait(lambda view: view.is_driven)
    page.evaluate("dispatchEvent(new Event('blur'))")
    served.wait(lambda view: not view.is_driven, 0.5)
    assert stands_still(served)


def test_a_frozen_page_is_held_by_the_watchdog(page: Any, served: Served) -> None:
    page.keyboard.down("Space")
    page.keyboard.down("w")
    served.wait(lambda view: view.is_driven)
    page.evaluate("setTimeout(() => { const end = Date.now() + 1500; while (Date.now() < end); }, 0)")
    served.wait(lambda view: not view.is_driven, 1.0)


def test_a_second_operator_is_refused_but_may_stop(browser: Any, page: Any, served: Served) -> None:
    page.keyboard.down("Space")
    served.wait(lambda view: view.is_driven)
    second = opened_pad(browser.new_page(), served)
    second.keyboard.down("Space")
    second.keyboard.down("d")
    wait_page(second, "(teleop.refused || '').includes('page 1 has the arm')")
    assert served.view.operator == "page 1" and stands_still(served)
    second.click("#stop")
    served.wait(lambda view: view.gate is GateState.FAULT, 1.0)
    wait_page(page, "document.querySelector('#state').textContent.includes('stopped by an operator')")
    second.close()


def test_text_in_a_box_moves_nothing_and_a_box_lets_go(page: Any, served: Served) -> None:
    page.click("#words")
    page.keyboard.down("Space")
    page.keyboard.type("wasd rgnfx")
    assert stands_still(served) and served.view.phase is Phase.IDLE and served.view.operator is None
    assert "wasd rgnfx" in page.input_value("#words")
    page.keyboard.up("Space")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.down("Space")
    page.keyboard.down("d")
    served.wait(lambda view: view.is_driven)
    page.focus("#task")
    served.wait(lambda view: not view.is_driven, 0.5)
    assert stands_still(served)


def test_a_pad_drives_while_its_button_is_held(browser: Any, served: Served) -> None:
    page = opened_pad(browser.new_page(), served, FAKE_PAD)
    page.evaluate("fakePad.axes = [0, 0, 0, -1]")
    assert stands_still(served)
    page.evaluate("fakePad.buttons[5].pressed = fakePad.buttons[0].pressed = true")
    served.wait(lambda view: tool_of(view).position[2] > 0.02 and view.position[-1] < 0.1)
    page.evaluate("fakePad.buttons[5].pressed = false")
    served.wait(lambda view: view.gate is GateState.HOLDING, 0.5)
    page.close()


def test_a_finger_drives_while_it_touches(page: Any, served: Served) -> None:
    fingers = Fingers(page)
    x, y = fingers.on("#stick")
    fingers.down((x, y))
    served.wait(lambda view: view.is_driven)
    fingers.move((x, y - 60))
    served.wait(lambda view: tool_of(view).position[0] < -0.02)  # away from an operator who faces the arm
    fingers.up()
    served.wait(lambda view: view.gate is GateState.HOLDING, 0.5)


def test_an_episode_is_recorded_with_keys(page: Any, served: Served) -> None:
    page.keyboard.press("r")
    served.wait(lambda view: view.phase is Phase.RECORDING)
    page.keyboard.down("Space")
    page.keyboard.down("d")
    served.wait(lambda view: view.seconds > 0.5)
    page.keyboard.press("g")
    served.wait(lambda view: view.position[-1] < 0.1)
    page.keyboard.press("n")
    served.wait(lambda view: view.step == 1)
    page.keyboard.up("Space")
    page.keyboard.up("d")
    page.select_option("#cause", "dropped")
    page.keyboard.press("f")
    served.wait(lambda view: view.committed == 1 and view.phase is Phase.IDLE)
    [(outcome, cause, frames)] = served.recorder.episodes
    assert (outcome, cause) == ("failure", "dropped") and len(frames) > 15
    assert ("mark", "close it") in served.recorder.said
    wait_page(page, "document.querySelector('#counts').textContent.includes('1 kept')")


def test_escape_stops_also_from_a_box_and_resume_needs_a_release(page: Any, served: Served) -> None:
    page.keyboard.down("Space")
    page.keyboard.down("d")
    served.wait(lambda view: view.is_driven)
    page.keyboard.press("Escape")
    served.wait(lambda view: view.gate is GateState.FAULT, 0.5)
    page.click("text=Resume after a stop")
    served.wait(lambda view: view.gate is GateState.HOLDING)
    assert stands_still(served)
    page.click("#task")
    page.keyboard.press("Escape")
    served.wait(lambda view: view.gate is GateState.FAULT, 0.5)


def test_a_policy_is_let_go_paused_told_and_corrected_from_the_page(browser: Any) -> None:
    served = Served(policy=WalkingPolicy(lasts=1000))
    page = opened_pad(browser.new_page(), served)
    try:
        wait_page(page, "document.getElementById('policy').textContent === 'paused'", 20)
        assert not page.evaluate("document.getElementById('autonomy').hidden")
        page.keyboard.press("p")
        served.wait(lambda view: view.policy == "autonomous" and tool_of(view).position[0] > 0.03, 20)
        wait_page(page, "document.getElementById('wanted').textContent === 'open it'")
        wait_page(page, "document.getElementById('state').textContent === 'the policy drives'")
        page.fill("#coach", "nudge the cube")
        page.keyboard.press("Enter")
        served.wait(lambda view: view.coached == "nudge the cube")
        wait_page(page, "document.getElementById('wanted').textContent === 'nudge the cube (as you said)'")
        page.click("#unsay")
        served.wait(lambda view: view.coached == "")
        page.keyboard.press("c")
        wait_page(page, "document.getElementById('policy').className === 'correcting'")
        at, begun = tool_of(served.view).position[1], time.monotonic()
        while tool_of(served.view).position[1] < at + 0.01:  # a page without CPU is held, and pressed again
            assert time.monotonic() - begun < 60
            page.keyboard.down("Space")
            page.keyboard.down("d")
            time.sleep(0.5)
            page.keyboard.up("d")
            page.keyboard.up("Space")
        assert served.view.policy == "correcting"
        page.click("[data-order=pause]")
        served.wait(lambda view: view.policy == "autonomous")
        page.click("[data-order=take]")
        served.wait(lambda view: view.policy == "paused")
    finally:
        page.close()
        served.close()


def test_without_a_policy_the_page_shows_none(page: Any) -> None:
    assert not page.is_visible("#policy") and not page.is_visible("#autonomy")
