"""`emu-robot teleop` as a user has it: the simulated arm, the page in a browser, an episode on the disk."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teleop_page import chromium, wait_page

from emu_robot.cli.main import main
from emu_robot.cli.teleop import TeleopVerbConfig, serving
from emu_robot.teleop.session import SessionConfig


@pytest.mark.slow
def test_an_episode_recorded_through_the_page_is_a_dataset(tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    folder = tmp_path / "set"
    config = TeleopVerbConfig(out=folder, port=0, image_size=64, session=SessionConfig(countdown_s=0.0))
    with chromium() as browser, serving(config) as (loop, url):
        page = browser.new_page()
        page.goto(f"{url}pad")
        wait_page(page, "teleop.view && teleop.view.gate === 'holding'", 20)
        wait_page(page, "document.querySelectorAll('#cameras img[src^=blob]').length === 2", 10)
        before = page.evaluate("teleop.view.tool")
        page.keyboard.press("r")
        wait_page(page, "teleop.view.phase === 'recording'")
        begun = time.monotonic()
        while page.evaluate("teleop.view.tool[2]") > before[2] - 0.05:  # a page without CPU is held, and pressed again
            assert time.monotonic() - begun < 60
            page.keyboard.down("Space")
            page.keyboard.down("q")
            time.sleep(1.0)
            page.keyboard.up("Space")
            page.keyboard.up("q")
        page.keyboard.press("Enter")
        wait_page(page, "teleop.view.committed === 1 && teleop.view.pending === 0", 240)
        assert loop.error is None
    frames = _frames(folder)
    assert {int(frame["episode_index"]) for frame in frames} == {0}
    actions = np.array([np.asarray(frame["action"]) for frame in frames])
    states = np.array([np.asarray(frame["observation.state"]) for frame in frames])
    assert len(frames) > 30 and np.ptp(actions[:, :7], axis=0).max() > 0.05
    assert np.abs(actions - states)[:, :7].max() < 0.2
    assert frames[0]["observation.images.front"].shape == (3, 64, 64)


def _frames(folder: Path) -> list[Any]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/teleop", root=folder)
    return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("host=0.0.0.0", "other machines could drive the arm"),
        ("token=short", "must have 12 at least"),
        ("certificate=cert.pem", "certificate= and key= belong together"),
        ("env=nowhere", "nowhere"),
        ("image_size=65", "even"),
        ("session.hand.linear_speed=9", "hand.linear_speed"),
        ("session.autonomy.stall_s=1", "has no effect: no policy= drives"),
    ],
)
def test_wrong_settings_are_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teleop", "out=null", words]) == 1
    assert said in capsys.readouterr().err
