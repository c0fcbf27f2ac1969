"""`emu-robot teleop arm=ros:panda_sim` as a user has it: the simulated arm and the gate as nodes, a browser."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import running, wait_until
from teleop_page import chromium, wait_page

from emu_robot.cli.teleop import TeleopVerbConfig, serving
from emu_robot.control.safety import GateState
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import SessionConfig
from emu_robot.teleop.view import View

PATIENCE_S = 120.0


def becomes(loop: Loop, until: Callable[[View], bool], seconds: float) -> bool:
    begun = time.monotonic()
    while not (loop.view and until(loop.view)):
        assert loop.error is None
        if time.monotonic() - begun > seconds:
            return False
        time.sleep(0.01)
    return True


def test_keys_on_the_page_move_the_simulated_arm_of_the_graph_and_a_release_holds(tmp_path: Path) -> None:
    config = TeleopVerbConfig(arm="ros:panda_sim", out=None, port=0, session=SessionConfig(watchdog_s=0.5))
    log = tmp_path / "sim.log"
    with (
        running("emu_robot_ros.safety_node"),
        running("emu_robot_ros.sim_bridge_node", log=log),
        chromium() as browser,
        serving(config) as (loop, url),
    ):
        page = browser.new_page()
        page.goto(f"{url}pad")
        wait_page(page, "window.teleop && teleop.view && teleop.view.joints.length === 7", PATIENCE_S)
        wait_page(page, "document.querySelectorAll('#cameras img[src^=blob]').length === 2", PATIENCE_S)
        wait_page(page, "document.getElementById('state').textContent.includes('disarmed')", PATIENCE_S)
        begun = time.monotonic()
        while not becomes(loop, lambda view: view.gate is GateState.HOLDING, 1.0):
            assert time.monotonic() - begun < PATIENCE_S, loop.view
            page.keyboard.press("u")
        assert loop.view is not None
        at = loop.view.position.copy()
        page.keyboard.press("2")
        moved, begun = False, time.monotonic()
        while not moved:  # a page without CPU is held, and pressed again
            assert time.monotonic() - begun < PATIENCE_S, loop.view.reason
            page.keyboard.down("Space")
            page.keyboard.down("w")
            moved = becomes(loop, lambda view: view.position[1] > at[1] + 0.05, 2.0)
            page.keyboard.up("w")
            page.keyboard.up("Space")
        wait_until(lambda: loop.view is not None and loop.view.gate is GateState.HOLDING, "hold", 3.0)
        time.sleep(0.7)
        rests = loop.view.position.copy()
        time.sleep(0.5)
        assert np.abs(loop.view.position - rests).max() < 2e-3
        assert np.abs(np.delete(rests[:7] - at[:7], 1)).max() < 0.02
        page.close()
