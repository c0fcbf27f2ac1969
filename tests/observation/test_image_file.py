"""Photos from files: upright, in RGB, fitted to a square; what is no picture is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from test_image_encoding import scene

from emu_robot.errors import DataError, InvalidValueError
from emu_robot.observation.image_file import ORIENTATION, open_picture, read_picture
from emu_robot.observation.image_fit import ImageFit, fit_image


def saved(path: Path, image: np.ndarray, orientation: int = 1) -> Path:
    exif = PillowImage.Exif()
    exif[ORIENTATION] = orientation
    PillowImage.fromarray(image).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    """A camera that stores its picture turned says so; undoing every turn gives the same picture."""
    upright = scene(24, 36)
    turns = [
        *(upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1], upright.transpose(1, 0, 2)),
        *(np.rot90(upright), upright[::-1, ::-1].transpose(1, 0, 2), np.rot90(upright, -1)),
    ]
    file = open_picture(saved(tmp_path / "photo.png", np.ascontiguousarray(turns[orientation - 1]), orientation))
    assert np.array_equal(file.image, upright) and file.turned == (orientation > 1)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(mode: str, tmp_path: Path) -> None:
    PillowImage.fromarray(scene(20, 30)).convert(mode).save(tmp_path / "photo.tiff")
    image = read_picture(tmp_path / "photo.tiff")
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8 and image.flags.writeable


def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    whole = saved(tmp_path / "whole.png", scene(40, 60)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    PillowImage.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    for name, said in [
        ("words.png", "is not a picture that can be read"),
        ("empty.png", "is not a picture that can be read"),
        ("cut.png", "is not a picture that can be read"),
        ("none.png", "No such file or directory"),
        ("n" * 300, "File name too long"),
        ("", "not a regular file"),
        ("deep.png", "8 bits per value are needed"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("width", [40, 80])  # Pillow itself warns of the first and refuses the second
def test_a_huge_picture_is_refused_by_its_head(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="picture of more than 1000 pixels"):
        read_picture(saved(tmp_path / "photo.png", scene(30, width)))


def test_each_fit_keeps_what_it_says() -> None:
    tall = np.full((92, 66, 3), 200, np.uint8)
    tall[:13], tall[-13:] = 50, 50  # above and below the middle square
    padded, cropped, stretched = (fit_image(tall, 32, fit) for fit in ImageFit)
    assert padded.shape == cropped.shape == stretched.shape == (32, 32, 3)
    assert not padded[:, 0].any() and not padded[:, -1].any() and padded[0, 16, 0] == 50
    assert (cropped == 200).all()
    assert (stretched[0] == 50).all() and stretched.all()


def test_a_square_of_the_size_is_left_as_it_is_and_a_sliver_refused() -> None:
    square = scene(32, 32)
    assert all(fit_image(square, 32, fit) is square for fit in ImageFit)
    with pytest.raises(InvalidValueError, match="a picture of 10000 x 1 is too narrow"):
        fit_image(np.zeros((1, 10_000, 3), np.uint8), 128, ImageFit.pad)
