import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu_robot.core import Image
from emu_robot.errors import EmuRobotError
from emu_robot.observation.image_encoding import BAYER, CHANNELS, ENCODINGS, decode_image

SIZE = (48, 64)


def scene(height: int = SIZE[0], width: int = SIZE[1]) -> Image:
    """Colours that change slowly over the picture, each in another direction."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = 40 + 150 * x / width, 40 + 150 * y / height, 190 - 75 * (x / width + y / height)
    return np.stack([red, green, blue], -1).astype(np.uint8)


def to_yuv(image: Image) -> np.ndarray:
    """(H, W, 3) of BT.601 in video range, by its definition."""
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
    return np.round(image / 255.0 @ matrix.T + [16, 128, 128]).astype(np.uint8)


def encode(image: Image, encoding: str) -> np.ndarray:
    """(rows, bytes) as a driver would send it."""
    height, width = image.shape[:2]
    if encoding in CHANNELS:
        rgba = np.dstack([image, np.full((height, width), 7, np.uint8)])
        order = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 3], "bgra8": [2, 1, 0, 3], "mono8": [1]}
        return rgba[..., order[encoding]].reshape(height, -1)
    if encoding in BAYER:
        rows = np.zeros((height, width), np.uint8)
        for k, colour in enumerate(encoding[6:10]):
            where = (slice(k // 2, None, 2), slice(k % 2, None, 2))
            rows[where] = image[(*where, "rgb".index(colour))]
        return rows
    y, u, v = np.moveaxis(to_yuv(image), -1, 0)
    if encoding.startswith("nv"):
        colours = [u[::2, ::2], v[::2, ::2]][:: 1 if encoding == "nv12" else -1]
        return np.concatenate([y, np.stack(colours, -1).reshape(height // 2, width)])
    pairs = np.stack([y[:, ::2], u[:, ::2], y[:, 1::2], v[:, ::2]], -1)
    return pairs[..., [1, 0, 3, 2] if encoding in ("uyvy", "yuv422") else slice(None)].reshape(height, -1)


def decode(rows: np.ndarray, encoding: str, height: int = SIZE[0], width: int = SIZE[1]) -> Image:
    return decode_image(rows.ravel(), encoding=encoding, height=height, width=width, step=rows.shape[1])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_shows_the_colours_that_were_there(encoding: str):
    image = scene()
    seen = decode(encode(image, encoding), encoding)
    expected = image[..., [1, 1, 1]] if encoding == "mono8" else image
    difference = np.abs(seen.astype(int) - expected)
    exact = encoding in CHANNELS
    assert seen.shape == image.shape and seen.dtype == np.uint8 and seen.flags.c_contiguous
    assert difference.mean() < (0.01 if exact else 3.0) and difference.max() < (1 if exact else 16)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_may_be_filled_up_and_names_be_in_any_case(encoding: str):
    rows = encode(scene(), encoding)
    padded = np.pad(rows, ((0, 0), (0, 5)), constant_values=255)
    assert np.array_equal(decode(padded, encoding.upper()), decode(rows, encoding))


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "mono16", "rgb16", "bayer_rggb16", "8UC3", "8UC1", "nv24", ""])
def test_what_is_no_picture_of_eight_bits_in_known_colours_is_refused(encoding: str):
    with pytest.raises(EmuRobotError, match=f"image encoding '{encoding}'; known: rgb8, bgr8, .*bayer_grbg8$"):
        decode(encode(scene(), "rgb8"), encoding)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 5}, "2 rows of 5 >= 4 x 3"),
        ({"height": 3}, "24 bytes, expected 3 rows of 12"),
        ({"height": 0, "data": np.zeros(0, np.uint8)}, "0 bytes"),
        ({"width": 0}, "2 rows of 12 >= 0 x 3"),
        ({"encoding": "mono8"}, "rows of 12 bytes, 3 per pixel, expected 1, by its encoding"),
        ({"encoding": "yuyv"}, "rows of 12 bytes, 3 per pixel, expected 2, by its encoding"),
        ({"encoding": "nv12"}, "24 bytes, expected 3 rows of 12"),
        ({"encoding": "uyvy", "width": 3}, "uyvy image: got 3 x 2, expected an even width and height"),
        ({"encoding": "bayer_gbrg8", "height": 1}, "bayer_gbrg8 image: got 4 x 1"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict, said: str):
    given = {"data": np.zeros(24, np.uint8), "encoding": "rgb8", "height": 2, "width": 4, "step": 12} | changes
    with pytest.raises(EmuRobotError, match=said):
        decode_image(given.pop("data"), **given)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([*ENCODINGS, "8UC3", "x"]),
    st.integers(0, 2**32 - 1) | st.integers(0, 9), st.integers(0, 2**32 - 1) | st.integers(0, 9),
    st.integers(0, 2**32 - 1) | st.integers(0, 30),
)  # fmt: skip
def test_any_message_is_a_picture_or_a_typed_error(data: bytes, encoding: str, height: int, width: int, step: int):
    try:
        image = decode_image(np.frombuffer(data, np.uint8), encoding=encoding, height=height, width=width, step=step)
    except EmuRobotError:
        return
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
