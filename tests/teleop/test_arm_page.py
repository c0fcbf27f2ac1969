"""The page of the arm in space, without a browser: real viser, real web server, a page that speaks their protocols."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import psutil
import pytest
from fake_arm import target_of, tool_of
from teleop_page import Served
from viser_page import ViserPage, viser_page
from walking_policy import WalkingPolicy

from emu_robot.control.safety import GateState
from emu_robot.teleop.episodes import Phase
from emu_robot.teleop.web.portless_viser import _is_taken

WATCHDOG_S = 0.3


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served(watchdog_s=WATCHDOG_S)
    yield one
    one.close()


@contextmanager
def dragging(served: Served, page: ViserPage) -> Iterator[None]:
    """A handle that is held, once the arm is driven. A machine without time for its pulses is asked again."""
    served.wait(lambda view: view.gate.is_armed)
    for _ in range(20):
        page.grab()
        begun = time.monotonic()
        while time.monotonic() - begun < 2.0:
            if served.view.is_driven:
                yield
                return
            time.sleep(0.01)
        page.let_go()
        time.sleep(0.3)
    raise AssertionError(f"the arm was never driven: {served.view.reason}")


def rests(served: Served, seconds: float = 0.4) -> bool:
    """Whether the arm does not move for a while."""
    before = served.arm.position
    time.sleep(seconds)
    return bool(np.abs(served.arm.position - before).max() < 1e-6)


def _last_place(page: ViserPage) -> tuple[float, ...]:
    """Where viser last told the page to show the handle."""
    told = [message for message in page.of_type("SetPositionMessage") if message["name"] == "/handle"]
    return told[-1]["position"] if told else (9.0, 9.0, 9.0)


def test_the_target_follows_the_handle_and_a_release_holds(served: Served) -> None:
    with viser_page(served.url) as page:
        began = tool_of(served.view).position
        page.drag(began + 0.2)
        assert rests(served), "a handle that is not held moved the arm"
        with dragging(served, page):
            place = began + np.array([0.06, -0.04, 0.05])
            for share in (0.2, 0.5, 1.0):
                page.drag(began + share * (place - began), (1.0, 0.0, 0.0, 0.0))
            served.wait(lambda view: np.abs(target_of(view).position - place).max() < 0.002, 20)
            served.wait(lambda view: np.abs(tool_of(view).position - place).max() < 0.002, 20)
            page.let_go()
        served.wait(lambda view: view.gate is GateState.HOLDING and not view.is_driven)
        assert rests(served)


def test_grabbing_a_handle_that_lies_elsewhere_moves_nothing(served: Served) -> None:
    with viser_page(served.url) as page:
        began = tool_of(served.view).position
        page.drag(began + 0.3, (1.0, 0.0, 0.0, 0.0))
        with dragging(served, page):
            time.sleep(0.5)
            assert np.abs(target_of(served.view).position - began).max() < 1e-3
            page.let_go()
        page.wait(lambda: np.abs(np.subtract(_last_place(page), began)).max() < 1e-3)  # it comes back to the arm


def test_a_silent_page_is_held_within_the_watchdog_and_must_let_go_first(served: Served) -> None:
    with viser_page(served.url) as page, dragging(served, page):
        page.silent = True
        took = served.wait(lambda view: not view.is_driven)
        assert took < WATCHDOG_S + 0.5
        page.silent = False
        time.sleep(0.5)
        page.drag(tool_of(served.view).position + 0.1, (1.0, 0.0, 0.0, 0.0))
        assert rests(served) and "release it first" in served.view.reason


def test_a_closed_tab_holds_and_frees_the_arm(served: Served) -> None:
    page = ViserPage(served.url)
    with dragging(served, page):
        page.close()
        served.wait(lambda view: view.gate is GateState.HOLDING and view.operator is None, 2.0)
        assert rests(served)


def test_a_second_page_is_refused_but_may_stop(served: Served) -> None:
    with viser_page(served.url) as first, viser_page(served.url) as second, dragging(served, first):
        holder, target = served.view.operator, target_of(served.view).position
        second.grab()
        second.drag(target + 0.2, (1.0, 0.0, 0.0, 0.0))
        second.wait(lambda: "has the arm" in second.status["refused"])
        assert served.view.operator == holder and np.abs(target_of(served.view).position - target).max() < 1e-3
        second.order("stop")
        served.wait(lambda view: view.gate is GateState.FAULT)
        first.wait(lambda: first.status["kind"] == "stopped")


def test_an_episode_is_recorded_with_the_panel(served: Served) -> None:
    with viser_page(served.url) as page:
        page.wait(lambda: served.view.task in str(page.messages))
        page.click("Task", "tidy <b>up</b>")
        page.click("", "Set")
        served.wait(lambda view: view.task == "tidy <b>up</b>")
        page.wait(lambda: "tidy &lt;b&gt;up" in str(page.messages))
        page.click("Episode", "Record")
        served.wait(lambda view: view.phase is Phase.RECORDING)
        with dragging(served, page):
            page.click("Words", "shut it")
            page.click("Mark", "Next subtask")
            served.wait(lambda view: view.subtasks == ("shut it",))
            page.click("Words", "the light changed")
            page.click("Mark", "Note")
            page.grips = True
            page.order("gripper")
            served.wait(lambda view: view.position[-1] < 0.1)
        page.click("Cause", "dropped")
        page.click("It ends", "Failure")
        served.wait(lambda view: view.committed == 1 and view.phase is Phase.IDLE)
    [(outcome, cause, frames)] = served.recorder.episodes
    assert (outcome, cause) == ("failure", "dropped") and len(frames) > 3
    said = {("start", "tidy <b>up</b>"), ("mark", "shut it"), ("flag", "the light changed")}
    assert said <= set(served.recorder.said)


def test_pictures_are_shown(served: Served) -> None:
    with viser_page(served.url) as page:
        page.wait(lambda: page.of_type("GuiImageMessage"))
        assert page.control("Cameras: front")
        sent = [m["updates"] for m in page.of_type("GuiUpdateMessage") if "_data" in m["updates"]]
        assert sent


def test_viser_listens_on_no_port_and_leaves_no_thread(served: Served) -> None:
    mine = psutil.Process()
    port = int(served.url.split(":")[2].strip("/"))
    listening = {one.laddr.port for one in mine.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert port in listening
    before = set(threading.enumerate())
    other = Served()
    with viser_page(other.url):
        now = {one.laddr.port for one in mine.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        assert now - listening == {int(other.url.split(":")[2].strip("/"))}
    other.close()
    assert [thread.name for thread in set(threading.enumerate()) - before if "ThreadPool" not in thread.name] == []


def test_only_what_a_page_needs_to_say_reaches_viser() -> None:
    def say(**message: object) -> bool:
        return _is_taken(msgspec.msgpack.encode(message))

    assert say(type="ViewerCameraMessage") and say(type="GuiUpdateMessage", uuid="x", updates={"value": "y"})
    assert not say(type="ShareUrlRequest") and not say(type="FileTransferStartUpload")
    assert not say(type="GuiUpdateMessage", uuid="x", updates={"update_cb": []})
    assert not say(type="GuiUpdateMessage", uuid="x", updates=3) and not say(kind="x")
    assert not _is_taken(b"\xc1") and not _is_taken(msgspec.msgpack.encode([1, 2]))


@pytest.mark.parametrize("text", ["[]", "{", '{"held": 1}', '{"order": "fly"}', '{"order": ["stop"]}', "x" * 4000])
def test_wrong_messages_are_refused_and_move_nothing(served: Served, text: str) -> None:
    with viser_page(served.url) as page:
        page._pulse.send(text)
        page.wait(lambda: page.status.get("refused"))
        page.drag((float("nan"), 0.0, 0.0))
        page.say({"type": "TransformControlsUpdateMessage", "name": 3})
        assert rests(served)


def test_a_policy_is_let_go_told_taken_over_and_corrected_from_the_panel() -> None:
    served = Served(policy=WalkingPolicy(lasts=1000))
    try:
        with viser_page(served.url) as page:
            page.wait(lambda: page.controls("Policy"))
            served.wait(lambda view: view.gate.is_armed)
            assert served.view.policy == "paused"
            page.click("Policy", "Pause / go on")
            served.wait(lambda view: view.policy == "autonomous")
            page.click("Words", "nudge the cube")
            page.click("", "Let the policy do it")
            served.wait(lambda view: view.coached == "nudge the cube")
            page.click("Policy", "Correct")
            served.wait(lambda view: view.policy == "correcting")
            page.click("Policy", "Take over")
            served.wait(lambda view: view.policy == "paused")
    finally:
        served.close()
