import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from test_image_encoding import scene

from emu_robot.errors import EmuRobotError
from emu_robot.observation.camera_messages import decode_picture, describe, is_compressed, message_type
from emu_robot.observation.image_compression import decode_compressed


def packed(image: np.ndarray, codec: str = "JPEG", **more: object) -> bytes:
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, codec, **({"quality": 95} if codec == "JPEG" else {}), **more)  # pyright: ignore
    return out.getvalue()


def decode(data: bytes, format: str) -> np.ndarray:
    return decode_compressed(np.frombuffer(data, np.uint8), format=format)


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """By hand, of any size and depth."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("jpeg", "JPEG"), ("JPEG", "JPEG"), ("jpg", "JPEG"), ("png", "PNG"), ("rgb8; jpeg compressed bgr8", "JPEG"),
        ("bgr8; jpeg compressed bgr8", "JPEG"), ("bgr8; png compressed bgr8", "PNG"), ("rgb8;jpeg", "JPEG"),
        ("bayer_rggb8; jpeg compressed bgr8", "JPEG"),
    ],
)  # fmt: skip
def test_colours_come_out_as_they_went_in(format: str, codec: str):
    image = scene()
    seen = decode(packed(image, codec), format)
    difference = np.abs(seen.astype(int) - image)
    assert seen.shape == image.shape and seen.dtype == np.uint8
    assert difference.mean() < 1.5 and difference.max() < 20 and (codec == "JPEG" or not difference.any())


@pytest.mark.parametrize(
    ("format", "codec"), [("mono8; jpeg compressed ", "JPEG"), ("mono8; png compressed mono8", "PNG")]
)
def test_grey_becomes_rgb(format: str, codec: str):
    image = scene()[..., 0]
    seen = decode(packed(image, codec), format)
    assert np.abs(seen.astype(int) - image[..., None]).mean() < 1.5


def test_transparency_and_palettes_become_rgb():
    image = scene()
    assert np.array_equal(decode(packed(np.dstack([image, image[..., :1] // 2]), "PNG"), "png"), image)
    out = io.BytesIO()
    PillowImage.fromarray(image).quantize(16).save(out, "PNG")
    assert np.abs(decode(out.getvalue(), "png").astype(int) - image).mean() < 25


def test_exif_does_not_turn_it():
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    assert decode(packed(scene(), exif=exif), "jpeg").shape == scene().shape


@pytest.mark.parametrize(
    "format",
    [
        "16UC1; compressedDepth png",
        "32FC1; compressedDepth",
        "h264",
        "webp",
        "",
        "jpegs",
        "rgb8",
        "jpeg; rgb8",
        "bgr8;",
    ],
)
def test_other_formats_are_named(format: str):
    with pytest.raises(EmuRobotError, match="compressed image format .*; known: 'jpeg', 'png', or as"):
        decode(packed(scene()), format)


@pytest.mark.parametrize("source", ["16UC1", "mono16", "8UC3"])
def test_what_was_no_picture_of_eight_bits_is_refused(source: str):
    with pytest.raises(EmuRobotError, match=f"compressed image of encoding '{source.lower()}'; known: rgb8"):
        decode(packed(scene(), "PNG"), f"{source}; png compressed ")


@pytest.mark.parametrize(
    ("data", "format", "said"),
    [
        (png(2, 2, 16, 0, bytes(2 * 5)), "png", "PNG picture of mode I.*; known: 8 bits per value"),
        (png(2, 2, 16, 2, bytes(2 * 13)), "png", "PNG picture of mode RGB; known: 8 bits per value"),
        (png(60_000, 1000, 8, 0, b""), "png", "PNG picture of 60000 x 1000, more than 16777216 pixels"),
        (png(60_000, 60_000, 8, 0, b""), "png", "PNG picture of more than 16777216 pixels"),
        (packed(scene()), "png", "PNG picture that is damaged, cut off, or none"),
        (packed(scene(), "PNG"), "jpeg", "JPEG picture that is damaged, cut off, or none"),
        (b"", "jpeg", "JPEG picture that is damaged, cut off, or none"),
        (b"\xff\xd8\xff", "jpeg", "JPEG picture that is damaged, cut off, or none"),
        (packed(scene()), "rgb8; jpeg compressed rgb8", "in colours of unknown order"),
        (packed(scene()), "rgb8; jpeg compressed", "in colours of unknown order"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_in_one_line(data: bytes, format: str, said: str):
    with pytest.raises(EmuRobotError, match=said) as raised:
        decode(data, format)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200


def test_four_inks_are_refused():
    out = io.BytesIO()
    PillowImage.fromarray(scene()).convert("CMYK").save(out, "JPEG")
    with pytest.raises(EmuRobotError, match="JPEG picture of mode CMYK"):
        decode(out.getvalue(), "jpeg")


@pytest.mark.parametrize("codec", ["JPEG", "PNG"])
def test_every_picture_that_was_cut_off_is_refused(codec: str):
    noisy = scene() ^ np.random.default_rng(0).integers(0, 32, (48, 64, 3), dtype=np.uint8)
    data = packed(noisy, codec)
    missing = 16 if codec == "PNG" else 1  # a PNG's last bytes hold no pixels
    for length in range(0, len(data) - missing, 37):
        with pytest.raises(EmuRobotError, match="damaged, cut off, or none"):
            decode(data[:length], codec.lower())


def test_a_bomb_takes_neither_time_nor_memory():
    bomb = png(100_000, 100_000, 1, 0, bytes(100_000))
    code = (
        "import resource, sys, numpy as np\n"
        "from emu_robot.observation.image_compression import decode_compressed\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode_compressed(np.frombuffer(sys.stdin.buffer.read(), np.uint8), format='png')\n"
        "except Exception as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, check=True)
    said, grown = answer.stdout.decode().splitlines()
    assert said == "PNG picture of more than 16777216 pixels" and int(grown) < 50_000 and not answer.stderr


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["JPEG", "PNG"]), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
def test_damaged_data_are_a_picture_or_a_typed_error(codec: str, damage: list[tuple[int, int]]):
    data = bytearray(packed(scene(), codec))
    for place, value in damage:
        data[place % len(data)] = value
    try:
        image = decode(bytes(data), codec.lower())
    except EmuRobotError:
        return
    assert image.dtype == np.uint8 and image.shape[2] == 3


class Message:
    """As rclpy and rosbags make them, by duck typing."""

    def __init__(self, **fields: object) -> None:
        self.__dict__ |= fields


def test_messages_of_both_kinds_are_read():
    image = scene()
    raw = Message(data=image.tobytes(), encoding="rgb8", height=48, width=64, step=192)
    compressed = Message(data=np.frombuffer(packed(image, "PNG"), np.uint8), format="rgb8; png compressed bgr8")
    assert np.array_equal(decode_picture(raw), image) and np.array_equal(decode_picture(compressed), image)
    assert describe(raw) == "64 x 48 rgb8" and describe(compressed) == "rgb8; png compressed bgr8"
    assert describe(compressed, image) == "64 x 48 rgb8; png compressed bgr8"
    assert is_compressed("front/image_raw/compressed") and not is_compressed("/compressed/image_raw")
    assert message_type("/a/compressed").endswith("CompressedImage") and message_type("/a").endswith("/Image")
