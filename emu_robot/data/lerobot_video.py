"""Read pictures of a LeRobotDataset from videos and from cells of its tables. Knows no episodes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image as PillowImage

from emu_robot.core import Image
from emu_robot.errors import DataError
from emu_robot.shared.typed import first_line

NO_COLOUR = re.compile(r"I.*|F")
"""Pillow's modes with one number of more than 8 bits per pixel."""
DEEP_GREY = re.compile(r"gray(f|\d).*")
"""FFmpeg's pixel formats with one number of more than 8 bits per pixel."""


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """The part of a video with an episode's frames of one camera."""

    file: Path
    begin_s: float
    """Time of the first frame in the file [s]."""
    end_s: float
    """Time in the file at which the next episode begins, or infinity [s]."""


def decode_frames(file: Path, seconds: Sequence[float], fps: float) -> Iterator[Image]:
    """(H, W, 3) uint8, the frames of a video at ascending times [s]. Raises `DataError` if one is missing."""
    wanted = iter(seconds)
    target = next(wanted, None)
    if target is None:
        return
    with _video(file) as (container, stream):
        if not stream.codec_context:
            raise DataError(f"{file}: no codec that FFmpeg knows")
        stream.thread_type = "AUTO"
        assert stream.time_base is not None
        container.seek(int(target / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            while target is not None and abs(float(frame.time or 0.0) - target) < 0.5 / fps:
                yield cast(Image, frame.to_ndarray(format="rgb24"))
                target = next(wanted, None)
            if target is None:
                return
    raise DataError(f"{file}: no frame at {target:.3f} s")


def read_picture(where: str, source: bytes | Path) -> Image:
    """(H, W, 3) uint8 of a picture's bytes or file. Raises `DataError` if it is damaged or has no colours."""
    picture = _opened(where, source)
    if NO_COLOUR.fullmatch(picture.mode):
        raise DataError(f"{where}: holds numbers of more than 8 bits ({picture.mode}), as depth does, no colours")
    try:
        return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{where}: no readable picture ({first_line(error)})") from error
    finally:
        picture.close()


def mode_of_picture(where: str, source: bytes | Path) -> str:
    """Pillow's mode of a picture. Raises `DataError` if it is damaged."""
    picture = _opened(where, source)
    picture.close()
    return picture.mode


def mode_of_video(file: Path) -> str:
    """FFmpeg's pixel format of a video; "" if it cannot be opened."""
    try:
        with _video(file) as (_, stream):
            codec = stream.codec_context  # None for a codec that FFmpeg does not know
            return (codec.pix_fmt if codec else "") or ""
    except DataError:
        return ""


@contextmanager
def _video(file: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its first video. Words in it need not be UTF-8. Raises `DataError` for all else that fails."""
    try:
        with av.open(str(file), metadata_errors="replace") as container:
            yield container, container.streams.video[0]
    except DataError:
        raise
    except Exception as error:  # FFmpeg's errors, and those of Python that PyAV raises for what it reads
        raise DataError(f"{file}: cannot be decoded ({first_line(error)})") from error


def _opened(where: str, source: bytes | Path) -> PillowImage.Image:
    try:
        return PillowImage.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise DataError(f"{where}: no readable picture ({first_line(error)})") from error
