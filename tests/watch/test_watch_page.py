"""The page of a board in a real browser, and what its server lets in."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from teleop_page import chromium, wait_page
from watch_page import STEPS, painted, shown, told
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from emu_robot.core import PlanStep
from emu_robot.errors import ConfigError
from emu_robot.watch.board import Board
from emu_robot.watch.page import WatchPage
from emu_robot.watch.thought import Ending, Gate

TOKEN = "a-token-of-ours"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def board() -> Board:
    return told()


@pytest.fixture
def page(browser: Any, board: Board) -> Iterator[Any]:
    with shown(board) as url:
        one = browser.new_page()
        one.on("pageerror", lambda error: pytest.fail(f"the page's script: {error}"))
        one.goto(url, timeout=1000 * PATIENCE_S)
        wait(one, "watch.thought !== null && watch.pictures.size === 9")
        yield one
        one.close()


def wait(page: Any, expression: str) -> None:
    wait_page(page, expression, PATIENCE_S)


def colour(page: Any, image: str) -> list[int]:
    """The colour in the middle of a picture, as the browser decoded it."""
    wait(page, f"document.querySelector('{image}').naturalWidth === 128")
    return page.evaluate(f"""() => {{
        const image = document.querySelector('{image}'), canvas = document.createElement('canvas');
        canvas.width = canvas.height = 128;
        canvas.getContext('2d').drawImage(image, 0, 0);
        return [...canvas.getContext('2d').getImageData(64, 64, 1, 1).data].slice(0, 3);
    }}""")


def near(seen: list[int], painted_in: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(seen, painted_in, strict=True))


def test_the_plan_shows_what_is_done_pursued_and_to_come_with_its_pictures(page: Any) -> None:
    rows = page.locator("#plan li")
    assert [rows.nth(i).get_attribute("class") for i in range(rows.count())] == ["reached", "now", "later"]
    assert [rows.nth(i).locator(".words").inner_text() for i in range(3)] == list(STEPS)
    captions = rows.nth(1).locator("figcaption").all_inner_texts()
    assert captions == ["before", "predicted", "achieved so far"]
    assert "reached after 3.0 s" in rows.nth(0).inner_text()
    assert near(colour(page, "#plan li.reached figure:nth-child(1) img"), (200, 0, 0))
    assert near(colour(page, "#plan li.reached figure:nth-child(2) img"), (200, 200, 0))
    assert near(colour(page, "#plan li.reached figure:nth-child(3) img"), (0, 200, 0))
    assert near(colour(page, "#plan li.now figure:nth-child(2) img"), (0, 200, 200))
    assert near(colour(page, "#plan li.later img"), (200, 0, 200))
    assert "40 %" in page.inner_text("#meter")
    assert "1 of 3 done" in page.inner_text("#mind")


def test_chunk_gate_and_delays_are_shown(page: Any) -> None:
    assert page.inner_text("#executed") == "4 of 16 executed; red: measured"
    assert page.locator("#chunk svg").count() == 8
    lines = page.locator("#chunk figure:first-child polyline")
    assert [len(lines.nth(i).get_attribute("points").split()) for i in range(2)] == [16, 5]
    assert page.inner_text("#gate").lower() == "tracking"
    assert "19 ms" in page.inner_text("#delays")


def test_news_arrive_while_the_page_is_open(page: Any, board: Board) -> None:
    board.gate(Gate(state="fault", reason="the robot does not follow its commands"), 15.0)
    wait(page, "document.getElementById('reason').textContent === 'the robot does not follow its commands'")
    board.see({"front": painted(90, 90, 90)}, 15.0)
    board.end_step(Ending.OVERDUE, 15.5)
    board.plan(PlanStep(subtask="<b>open</b> & wait"), 16.0)
    third = "document.querySelector('#plan li:nth-child(3) .words')?.textContent"
    wait(page, f"document.querySelectorAll('#plan li').length === 3 && {third} === '<b>open</b> & wait'")
    rows = page.locator("#plan li")
    assert rows.nth(1).get_attribute("class") == "overdue"
    assert rows.nth(2).locator(".words").inner_text() == "<b>open</b> & wait"
    assert rows.nth(2).locator(".blank").inner_text() == "words alone"
    wait(page, "document.querySelector('#plan li.overdue figure:nth-child(3) img').naturalWidth === 128")
    assert near(colour(page, "#plan li.overdue figure:nth-child(3) img"), (90, 90, 90))


def test_another_task_shows_none_of_the_pictures_before(page: Any, board: Board) -> None:
    board.begin("open the drawer", 20.0)
    board.plan(PlanStep(subtask="open the drawer", subgoal=painted(10, 200, 90)), 20.0)
    wait(page, "document.getElementById('task').textContent === 'open the drawer'")
    wait(page, "document.querySelectorAll('#plan li').length === 1")
    assert near(colour(page, "#plan li.now figure:nth-child(1) img"), (0, 200, 0))  # sent again, though it is the same
    assert near(colour(page, "#plan li.now figure:nth-child(2) img"), (10, 200, 90))


def test_a_lost_connection_is_told_and_what_was_seen_stays(browser: Any, board: Board) -> None:
    with shown(board) as url:
        page = browser.new_page()
        page.goto(url, timeout=1000 * PATIENCE_S)
        wait(page, "watch.thought !== null")
    wait(page, "document.getElementById('about').textContent.startsWith('no connection')")
    assert page.locator("#plan li").count() == 3
    page.close()


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_window(browser: Any, board: Board, width: int) -> None:
    board.begin("put " + "the very long named thing " * 6 + "x" * 80, 20.0)
    board.plan(PlanStep(subtask="grasp-" * 30, subgoal=painted(1, 2, 3)), 20.0)
    with shown(board) as url:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(url, timeout=1000 * PATIENCE_S)
        wait(page, "document.querySelectorAll('#plan li').length === 1")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def opened(url: str, origin: str | None = None) -> ClientConnection:
    """The websocket of a page. origin: of another site."""
    base, _, query = url.partition("?")
    address = f"{base.replace('http', 'ws')}ws?{query}"
    return connect(address, origin=Origin(origin or base.rstrip("/")), max_size=None)


def test_a_page_can_send_nothing(board: Board) -> None:
    before = board.view
    with shown(board) as url:
        with opened(url) as page:
            page.recv(PATIENCE_S)
            page.send('{"order": "stop"}')
            with pytest.raises(ConnectionClosedError) as caught:
                while True:
                    page.recv(PATIENCE_S)
        assert caught.value.rcvd is not None and caught.value.rcvd.reason == "this page only listens"
        assert httpx.post(url, content="stop").status_code == 405
    assert board.view.lines == before.lines and board.view.mind is before.mind


def test_the_door_is_that_of_teleoperation(board: Board) -> None:
    with pytest.raises(ConfigError, match="other machines could see the cameras; give token=WORD, too"):
        WatchPage(board, host="0.0.0.0", port=0, token="")
    with shown(board, TOKEN) as url:
        base = url.partition("?")[0]
        assert httpx.get(base).status_code == 403 and httpx.get(url).status_code == 200
        assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403
        with opened(url) as page:
            assert page.recv(PATIENCE_S)
        with pytest.raises(InvalidStatus):
            opened(url, "http://evil.example")
        with pytest.raises(InvalidStatus):
            opened(base)
