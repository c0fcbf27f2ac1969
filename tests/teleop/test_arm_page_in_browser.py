"""The page of the arm in space as an operator has it: the simulated arm, Chromium, the mouse, a LeRobotDataset."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_arm import target_of, tool_of
from teleop_page import chromium, wait_page

from emu_robot.cli.teleop import TeleopVerbConfig, serving
from emu_robot.control.safety import GateState
from emu_robot.core import Floats
from emu_robot.teleop.episodes import Phase
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import SessionConfig
from emu_robot.teleop.view import View
from emu_robot.teleop.web.arm_scene import CAMERA_FOV, CAMERA_LOOK_AT, CAMERA_POSITION, HANDLE_M

pytestmark = pytest.mark.slow
PATIENCE_S = 600.0
"""For software that renders pixels on a machine with other work. Every wait ends as soon as it can."""
CANVAS = "document.querySelector('#root canvas').getBoundingClientRect()"
KNOWN = "Evaluating a string as JavaScript violates"
"""The policy of the page keeps a part of viser's client, which we do not use, from making code of strings."""


class Shown:
    """An open page over a running loop."""

    def __init__(self, page: Any, loop: Loop) -> None:
        self.page, self.loop = page, loop
        self.box = page.evaluate(f"(() => {{ const box = {CANVAS}; return [box.x, box.y, box.width, box.height]; }})()")

    @property
    def view(self) -> View:
        view = self.loop.view
        assert view is not None and self.loop.error is None
        return view

    def wait(self, until: Any, seconds: float = PATIENCE_S) -> bool:
        """Whether it becomes so."""
        begun = time.monotonic()
        while not until(self.view):
            if time.monotonic() - begun > seconds:
                return False
            self.page.wait_for_timeout(10)
        return True

    def press(self, label: str) -> None:
        """Press a button of the panel."""
        found = "[...document.querySelectorAll('button')].find((one) => one.textContent === label)"
        self.page.evaluate(f"(label) => {found}.click()", label)

    def pixel(self, point: Floats) -> Floats:
        """Where a point of space is on the page [px]."""
        depth, right, down = _camera()
        way, (x, y, width, height) = point - np.array(CAMERA_POSITION), self.box
        focal = height / 2 / np.tan(CAMERA_FOV / 2)
        u, v = focal * (way @ right) / (way @ depth), focal * (way @ down) / (way @ depth)
        return np.array([x + width / 2 + u, y + height / 2 + v])

    def along(self, line: Floats, way: Floats, pixel: Floats) -> float:
        """How far along a line [m] the point is that the pixel's ray comes closest to."""
        depth, right, down = _camera()
        x, y, width, height = self.box
        focal = height / 2 / np.tan(CAMERA_FOV / 2)
        ray = depth * focal + right * (pixel[0] - x - width / 2) + down * (pixel[1] - y - height / 2)
        ray, apart = ray / np.linalg.norm(ray), np.array(CAMERA_POSITION) - line
        b = way @ ray
        return float((way @ apart - b * (ray @ apart)) / (1 - b * b))


def _camera() -> tuple[Floats, Floats, Floats]:
    depth = np.subtract(CAMERA_LOOK_AT, CAMERA_POSITION).astype(np.float64)
    depth /= np.linalg.norm(depth)
    right = np.cross(depth, [0, 0, 1])
    right /= np.linalg.norm(right)
    return depth, right, np.cross(depth, right).astype(np.float64)


@contextmanager
def shown(loop: Loop, url: str, browser: Any) -> Iterator[Shown]:
    """The page, once it shows the arm."""
    context = browser.new_context(viewport={"width": 800, "height": 420})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    page.on("pageerror", lambda error: None if KNOWN in str(error) else pytest.fail(f"the page's script: {error}"))
    page.goto(url)
    wait_page(page, "teleop.status !== null && document.body.textContent.includes('Record')", PATIENCE_S)
    page.add_style_tag(content=".mantine-Notification-root { display: none }")  # says that pixels come from software
    page.wait_for_timeout(3000)
    yield Shown(page, loop)
    context.close()


def drag_up(one: Shown, seconds: float) -> tuple[Floats, Floats, Floats]:
    """Drag the handle upwards by its vertical arrow, and hold it. Returns the place before, and both ends [px]."""
    place, down = tool_of(one.view).position, tool_of(one.view).rotation[:, 2]
    begin, end = one.pixel(place + 0.8 * HANDLE_M * down), one.pixel(place + (0.8 * HANDLE_M - 0.05) * down)
    one.page.mouse.move(*begin)
    one.page.wait_for_timeout(1000)
    one.page.mouse.down()
    for share in (0.2, 0.4, 0.7, 1.0):
        one.page.mouse.move(*(begin + share * (end - begin)))
    one.wait(lambda view: view.is_driven, seconds)
    return place, begin, end


@contextmanager
def opened(out: Path | None) -> Iterator[Shown]:
    """The page of a session in a browser."""
    session = SessionConfig(countdown_s=0.0, watchdog_s=0.5, rate_hz=20)
    config = TeleopVerbConfig(out=out, port=0, image_size=64, session=session)
    with chromium() as browser, serving(config) as (loop, url), shown(loop, url, browser) as one:
        yield one


def dragged(one: Shown) -> tuple[Floats, Floats, Floats]:
    """Drag the handle upwards until the target is there; a page without CPU is held, and drags again."""
    begun = time.monotonic()
    while True:
        place, begin, end = drag_up(one, 10.0)
        goal = place + np.array([0.0, 0.0, 0.05])
        if one.wait(lambda view, goal=goal: np.abs(target_of(view).position - goal).max() < 0.002, 20.0):
            return place, begin, end
        one.page.mouse.up()
        one.page.wait_for_timeout(2000)
        assert time.monotonic() - begun < PATIENCE_S, one.view.reason


def test_the_target_is_where_the_handle_is_dragged_and_a_release_holds() -> None:
    with opened(None) as one:
        place, begin, end = dragged(one)
        moved, line = target_of(one.view).position - place, tool_of(one.view).rotation[:, 2]
        expected = one.along(place, line, end) - one.along(place, line, begin)  # by the rays of the mouse
        assert abs(moved @ line - expected) < 0.002 and np.abs(moved - (moved @ line) * line).max() < 0.002
        one.page.mouse.up()
        assert one.wait(lambda view: view.gate is GateState.HOLDING)
        rests = tool_of(one.view).position
        one.page.wait_for_timeout(1000)
        assert np.abs(tool_of(one.view).position - rests).max() < 0.005


def test_an_episode_recorded_with_the_panel_is_a_dataset(tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    with opened(tmp_path / "set") as one:
        begun = time.monotonic()
        while one.view.phase is not Phase.RECORDING:  # refused while the writer loads, or pictures are late
            assert time.monotonic() - begun < PATIENCE_S, one.view.said
            one.press("Record")
            one.wait(lambda view: view.phase is Phase.RECORDING, 2.0)
        dragged(one)
        one.page.mouse.up()
        one.press("Success")
        assert one.wait(lambda view: view.committed == 1 and view.pending == 0), one.view.said
    _check_episode(tmp_path / "set")


def _check_episode(folder: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/teleop", root=folder)
    frames: list[Any] = [dataset[i] for i in range(len(dataset))]
    actions = np.array([np.asarray(frame["action"]) for frame in frames])
    assert len(frames) > 20 and np.ptp(actions[:, :7], axis=0).max() > 0.02
    assert frames[0]["observation.images.front"].shape == (3, 64, 64)
