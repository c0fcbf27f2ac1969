"""`emu-robot plan image=...`: a photo of any shape is fitted, and the output says how."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from tiny_weights import SIZE, write_weights

from emu_robot.cli import main as cli
from emu_robot.cli.plan import HEIGHT, MARGIN
from emu_robot.observation.image_file import ORIENTATION


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A tall photo, 666 x 920, stored lying on its side as phones do; its upper half is bright."""
    image = np.zeros((666, 920, 3), np.uint8)
    image[:, :460] = 255
    exif = PillowImage.Exif()
    exif[ORIENTATION] = 6
    PillowImage.fromarray(image).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_tall_photo_is_turned_and_fitted(
    weights: Path, photo: Path, fit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["instruction=move", f"image={photo}", f"weights={weights}", "max_steps=1", f"out={tmp_path / 'plan.png'}"]
    assert cli.main(["plan", *words, *([] if fit == "pad" else [f"fit={fit}"])]) == 0
    said = capsys.readouterr().out.splitlines()
    how = {"pad": "with black borders", "crop": "from its middle", "stretch": "by stretching"}[fit]
    assert said[0] == f"picture: {photo}, 666 x 920, turned as its EXIF data say"
    assert said[1] == f"fitted: 666 x 920 made {SIZE} x {SIZE} {how} (fit={fit})"
    with PillowImage.open(tmp_path / "plan.png") as strip:
        now = np.asarray(strip)[-MARGIN - HEIGHT : -MARGIN, MARGIN : MARGIN + HEIGHT]
    assert now[8, HEIGHT // 2].min() > 200 and now[-8, HEIGHT // 2].max() < 50
    assert (now[8, 4].max() < 50) == (fit == "pad")


def test_a_file_that_is_no_picture_is_one_line_and_nothing_is_written(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    words = [
        "instruction=move",
        f"image={tmp_path / 'notes.txt'}",
        f"weights={weights}",
        f"out={tmp_path / 'plan.png'}",
    ]
    assert cli.main(["plan", *words]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'notes.txt'} is not a picture that can be read\n"
    assert not (tmp_path / "plan.png").exists()


def test_fit_is_refused_where_it_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "weights=BAAI/Emu3.5", "image=a.png", "instruction=move", "fit=crop"]) == 1
    assert "fit=crop changes nothing" in capsys.readouterr().err
