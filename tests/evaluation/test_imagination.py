"""Imagined chains against the real tabletop, with a planner that imagines nothing: what moves is lost."""

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from emu_robot.cli import main as cli
from emu_robot.core import Plan, PlanStep
from emu_robot.evaluation.imagination import ImagineConfig, Imagined, Sighting, imagination, imagine, summarise


class Still:
    """Repeats the instruction and the present view; holds "close the drawer" complete."""

    def __init__(self, config=None):
        self.views = []

    def plan(self, observation, instruction, max_steps=None):
        self.views.append(observation.images["front"])
        brighter = np.minimum(observation.images["front"], 254) + np.uint8(1)
        steps = (PlanStep(subtask=instruction, subgoal=brighter),)
        return Plan(instruction=instruction, steps=() if instruction == "close the drawer" else steps)


def test_each_step_starts_from_the_image_before():
    planner, view = Still(), np.zeros((4, 4, 3), np.uint8)
    steps = imagine(planner, view, np.zeros(8, np.float32), ["a", "close the drawer", "b"])
    assert [text for text, _image in steps] == ["a", "", "b"]
    assert [int(image[0, 0, 0]) for _text, image in steps] == [1, 1, 2]
    assert [int(view[0, 0, 0]) for view in planner.views] == [0, 1, 1]


def test_what_moves_is_lost_and_the_rest_stays(tmp_path):
    config = ImagineConfig(n=1, workers=0, pictures=1, out=tmp_path)
    summary = imagination(config, Still)
    rows = {row["depth"]: row for row in summary["depths"]}
    assert set(rows) == {1, 2, 3, 4, 5, 6}
    assert rows[1]["found"]["n"] == 3
    assert rows[1]["found"]["n_success"] == 2
    assert rows[6]["found"]["n_success"] < 2
    assert summary["named"]["text"].endswith("(5/6)")
    assert json.loads((tmp_path / "imagination.json").read_text())["config"]["n"] == 1
    assert PillowImage.open(tmp_path / "000.png").width == 7 * 192
    assert (tmp_path / "000.mp4").stat().st_size > 1000


def test_figures_per_depth():
    sightings = (Sighting(depth=1, error=1.0), Sighting(depth=1, error=16.0), Sighting(depth=2, error=4.0))
    scene = Imagined(index=0, subtasks=("a", "b"), named=(True, False), sightings=sightings)
    summary = summarise([scene])
    assert summary["named"]["n_success"] == 1
    assert [row["found"]["n_success"] for row in summary["depths"]] == [1, 1]
    assert summary["depths"][0]["median_px"] == pytest.approx(8.5)


def test_bad_settings_are_one_line(capsys):
    assert cli.main(["imagine", "pictures=-1"]) == 1
    assert "pictures must not be negative" in capsys.readouterr().err
