"""Imagined chains against the real tabletop, with a planner that imagines no change: what moves is lost."""

import json

import numpy as np
import pytest
from PIL import Image as PillowImage

from emu_robot.cli import main as cli
from emu_robot.evaluation.imagination import ImagineConfig, Sighting, imagination, summarise


class Still:
    """Imagines the present view, a little brighter."""

    def __init__(self, config=None):
        pass

    def imagine(self, observation, subtasks, *, seed):
        for _ in subtasks:
            yield np.minimum(observation.images["front"], 254) + np.uint8(1)


def test_what_moves_is_lost_and_the_rest_stays(tmp_path):
    config = ImagineConfig(n=1, workers=0, pictures=1, out=tmp_path)
    summary = imagination(config, Still)
    rows = {row["depth"]: row for row in summary["depths"]}
    assert set(rows) == {1, 2, 3, 4, 5, 6}
    assert rows[1]["found"]["n"] == 3
    assert rows[1]["found"]["n_success"] == 2
    assert rows[6]["found"]["n_success"] < 2
    assert all(row["still"] == row["found"] for row in rows.values())
    assert json.loads((tmp_path / "imagination.json").read_text())["config"]["n"] == 1
    assert PillowImage.open(tmp_path / "000.png").width == 7 * 192
    assert (tmp_path / "000.mp4").stat().st_size > 1000


def test_figures_per_depth():
    errors = [(1, 1.0, 16.0), (1, 16.0, 16.0), (2, 4.0, 3.0)]
    summary = summarise([Sighting(depth=depth, error=error, still=still) for depth, error, still in errors])
    assert [row["found"]["n_success"] for row in summary["depths"]] == [1, 1]
    assert [row["still"]["n_success"] for row in summary["depths"]] == [0, 1]
    assert summary["depths"][0]["median_px"] == pytest.approx(8.5)


def test_bad_settings_are_one_line(capsys):
    assert cli.main(["imagine", "pictures=-1"]) == 1
    assert "pictures is -1, must be at least 0" in capsys.readouterr().err
