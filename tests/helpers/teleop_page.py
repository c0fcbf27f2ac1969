"""A session with a fake arm behind the real web server, and a headless Chromium."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fake_arm import FakeArm, MemoryRecorder
from walking_policy import PicturedArm, WalkingPolicy

from emu_robot.teleop.desk import Desk
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import ThinkingThread
from emu_robot.teleop.view import View
from emu_robot.teleop.web.messages import write_view
from emu_robot.teleop.web.server import Pages
from emu_robot.teleop.web.tls import Tls

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's. Skips the test, and says why, where there is none."""
    if CHROMIUM is None:
        pytest.skip("missing: chromium. Get it: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


PATIENT_S = 0.5
"""Watchdog of a session whose page shares the cores with other tests [s]."""


class Served:
    """A running session. arm, recorder, policy: fakes; desk, loop, pages: real."""

    def __init__(
        self,
        token: str = "",
        policy: WalkingPolicy | None = None,
        watchdog_s: float = PATIENT_S,
        arm: FakeArm | None = None,
        tls: Tls | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.arm, self.recorder, self.desk = arm or (PicturedArm() if policy else FakeArm()), MemoryRecorder(), Desk()
        thinking = ThinkingThread(policy) if policy else None
        config = SessionConfig(countdown_s=0.0, watchdog_s=watchdog_s)
        session = Session(self.arm, self.desk, config, recorder=self.recorder, policy=thinking)
        session.lay_scene(0, time.monotonic())
        self.loop = Loop(session, 30)
        self.pages = Pages(self.desk, self.loop, host=host, port=0, token=token, faces_arm=True, tls=tls)
        self.loop.start()
        self.pages.start()

    @property
    def url(self) -> str:
        """Address of the main page."""
        return self.pages.url

    @property
    def pad(self) -> str:
        """Address of the page /pad."""
        return self.pages.url.replace("/?", "/pad?") if "?" in self.pages.url else f"{self.pages.url}pad"

    @property
    def view(self) -> View:
        view = self.loop.view
        assert view is not None and self.loop.is_running
        return view

    def wait(self, until: Callable[[View], bool], seconds: float = 5.0) -> float:
        """Wait for a view; returns the time that it took [s]."""
        begun = time.monotonic()
        while not until(self.view):
            assert time.monotonic() - begun < seconds, write_view(self.view, "")
            time.sleep(0.002)
        return time.monotonic() - begun

    def close(self) -> None:
        self.pages.stop()
        self.loop.stop()


def wait_page(page: Any, expression: str, seconds: float = 5.0) -> None:
    """Wait until an expression holds in the page. Playwright's own function for it needs a laxer page."""
    begun = time.monotonic()
    while not page.evaluate(expression):
        assert time.monotonic() - begun < seconds, expression
        time.sleep(0.02)


def opened_pad(page: Any, served: Served, script: str = "", address: str = "") -> Any:
    """The page /pad, once it shows the arm. A script's error fails the test.

    script: runs before the page's own. address: another one than `served.pad`.
    """
    page.on("pageerror", lambda error: pytest.fail(f"the page's script: {error}"))
    if script:
        page.add_init_script(script)
    page.goto(address or served.pad)
    wait_page(page, "window.teleop && teleop.view !== null")
    served.wait(lambda view: view.gate.is_armed)
    return page


def stands_still(served: Served, seconds: float = 0.4) -> bool:
    """Whether the arm does not move for a while."""
    before = served.arm.position
    time.sleep(seconds)
    return bool(np.abs(served.arm.position - before).max() < 1e-6)


class Fingers:
    """Real touches of a page with a touch screen."""

    def __init__(self, page: Any) -> None:
        self._page, self._devtools = page, page.context.new_cdp_session(page)

    def on(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is."""
        box = self._page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def down(self, *points: tuple[float, float]) -> None:
        """These places are touched; the last one is new."""
        self._send("touchStart", points)

    def move(self, *points: tuple[float, float]) -> None:
        """The fingers are elsewhere."""
        self._send("touchMove", points)

    def up(self, *points: tuple[float, float]) -> None:
        """Only these places are still touched."""
        self._send("touchEnd", points)

    def _send(self, kind: str, points: tuple[tuple[float, float], ...]) -> None:
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self._devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
