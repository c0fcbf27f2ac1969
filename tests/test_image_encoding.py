import numpy as np
import pytest

from emu_robot.errors import EmuRobotError
from emu_robot.image_encoding import CHANNELS, decode_image


@pytest.mark.parametrize("encoding", CHANNELS)
def test_every_encoding_becomes_rgb(encoding: str):
    rgba = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    sent = {"rgb8": rgba[..., :3], "bgr8": rgba[..., 2::-1], "rgba8": rgba, "bgra8": rgba[..., [2, 1, 0, 3]]}
    pixels = sent.get(encoding, rgba[..., :1]).reshape(2, -1)
    padded = np.pad(pixels, ((0, 0), (0, 5)))
    seen = decode_image(padded.ravel(), encoding=encoding, height=2, width=3, step=padded.shape[1])
    expected = rgba[..., [0, 0, 0]] if encoding == "mono8" else rgba[..., :3]
    assert np.array_equal(seen, expected) and seen.flags.c_contiguous


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoding": "bayer_rggb8"}, "'bayer_rggb8'; known: rgb8, bgr8"),
        ({"step": 5}, "2 rows of 5 >= 3 x 3"),
        ({"height": 3}, "18 bytes, expected 3 rows of 9"),
        ({"height": 0, "data": np.zeros(0, np.uint8)}, "0 bytes"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict, said: str):
    given = {"data": np.zeros(18, np.uint8), "encoding": "rgb8", "height": 2, "width": 3, "step": 9} | changes
    with pytest.raises(EmuRobotError, match=said):
        decode_image(given.pop("data"), **given)
