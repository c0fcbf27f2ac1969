"""Measures a session of teleoperation: rate of the control loop with two cameras, recording and an open page; delays.

    python benchmarks/teleop.py [seconds]

A headless Chromium holds keys. Needs the extras dev, teleop and train, and Chromium.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from emu_robot.cli.teleop import TeleopVerbConfig, serving
from emu_robot.teleop.session import SessionConfig


def main(seconds: float) -> None:
    """Drive to and fro for `seconds` while an episode is recorded; print the figures."""
    folder = Path(tempfile.mkdtemp())
    config = TeleopVerbConfig(out=folder / "set", port=0, session=SessionConfig(countdown_s=0.0))
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, serving(config) as (loop, url):
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(url)
        time.sleep(2)
        page.keyboard.press("r")
        page.keyboard.down("Space")
        loop.forget_periods()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for key in ("w", "s"):
                page.keyboard.down(key)
                time.sleep(0.6)
                page.keyboard.up(key)
        periods, delays = loop.periods(), page.evaluate("teleop.delays")
        page.keyboard.up("Space")
        view = loop.view
        page.keyboard.press("Enter")
        time.sleep(0.5)
        browser.close()
    assert view is not None
    load = os.getloadavg()[0]
    print(f"{len(periods)} ticks, load of the machine {load:.1f}, {view.seconds:.1f} s recorded")
    print(f"rate: median {1 / np.median(periods):.2f} Hz; period p99 {1e3 * np.percentile(periods, 99):.1f} ms")
    middle, late = np.percentile(delays, [50, 95])
    print(f"key to command and back to the page: median {middle:.0f} ms, p95 {late:.0f} ms")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 18.0)
