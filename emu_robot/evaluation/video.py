"""H.264 clips of episodes: the planner's camera, the subgoal and another camera beside it, the words below."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from emu_robot.control.episode_loop import Ending, EpisodeResult, Subscriber
from emu_robot.core import ActionChunk, Floats32, Image, Observation, Transition
from emu_robot.environments.capabilities import Renders, with_images
from emu_robot.environments.contract import Environment
from emu_robot.shared.files import replacing

MAIN, SIDE, BAND = 256, 128, 44
INK, PAPER, MUTED, GOOD, BAD = (238, 240, 243), (24, 27, 32), (150, 157, 168), (74, 190, 120), (232, 108, 96)


class Clip:
    """Writes (H, W, 3) uint8 RGB frames of even, equal size into an H.264 MP4; the file appears at `close`."""

    def __init__(self, path: Path, *, fps: int, crf: int = 27) -> None:
        self._path, self._fps, self._crf = path, fps, crf
        self._unfinished = ExitStack()
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: Image) -> None:
        """Append one frame."""
        if self._container is None:
            partial = self._unfinished.enter_context(replacing(self._path))
            self._container = av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._container.add_stream("libx264", rate=Fraction(self._fps))
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": str(self._crf), "preset": "medium"}
            self._stream.thread_count = 1
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file. Without frames no file is written."""
        if self._container is None:
            return
        with self._unfinished:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
        self._container = None


class ClipRecorder(Subscriber):
    """Records an episode at half the control rate. Without `Renders` it shows the observations' own images."""

    def __init__(self, environment: Environment, path: Path, *, every: int = 2) -> None:
        self._environment, self._every = environment, every
        self._fps = max(1, environment.spec.control_hz // every)
        self._camera = environment.spec.planner_camera
        self._side = next((name for name in environment.spec.cameras if name != self._camera), None)
        self._clip = Clip(path, fps=self._fps)
        self._font = ImageFont.load_default(size=15)
        self._small = ImageFont.load_default(size=12)
        self._instruction, self._words = "", ""
        self._subgoal: Image | None = None
        self._last: Observation | None = None

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self._instruction, self._last = instruction, observation

    def on_instruct(self, tick: int, instruction: str) -> None:
        self._instruction = instruction or "hold still"

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        self._words = chunk.step.subtask if chunk.step else ""
        self._subgoal = chunk.step.subgoal if chunk.step else None
        if tick == 0:
            self._last = observation
            self._add()

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        if tick % self._every == 0:
            self._last = transition.observation
            self._add()

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        self._last = observation
        if result.ending is not Ending.QUIT:
            self._words = "done" if result.success else "failed"
            for _ in range(self._fps):
                self._add(GOOD if result.success else BAD)
        self._clip.close()

    def _add(self, ink: tuple[int, int, int] = INK) -> None:
        canvas = PillowImage.new("RGB", (MAIN + SIDE, MAIN + BAND), PAPER)
        _paste(canvas, self._view(self._camera, MAIN), (0, 0), MAIN)
        draw = ImageDraw.Draw(canvas)
        if self._subgoal is not None:
            _paste(canvas, self._subgoal, (MAIN, 0), SIDE)
            self._label(draw, (MAIN + 5, 3), "subgoal")
        else:
            draw.text((MAIN + 5, 3), "no subgoal", MUTED, self._small)
        if self._side is not None:
            _paste(canvas, self._view(self._side, SIDE), (MAIN, SIDE), SIDE)
            self._label(draw, (MAIN + 5, SIDE + 3), self._side)
        draw.text((8, MAIN + 5), fit_text(self._instruction, self._small), MUTED, self._small)
        draw.text((8, MAIN + 21), fit_text(self._words, self._font), ink, self._font)
        self._clip.add(np.asarray(canvas))

    def _view(self, camera: str, size: int) -> Image:
        """A camera's present view; `size` [px] high or wide if the environment offers `Renders`."""
        if isinstance(self._environment, Renders):
            return self._environment.render(camera, size)
        assert self._last is not None, "on_reset comes first"
        self._last = with_images(self._environment, self._last)
        return self._last.images[camera]

    def _label(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
        left, top, right, bottom = draw.textbbox(at, text, self._small)
        draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), PAPER)
        draw.text(at, text, INK, self._small)


def _paste(canvas: PillowImage.Image, image: Image, at: tuple[int, int], side: int) -> None:
    """Put the whole picture into the middle of a square of `side` [px]."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BICUBIC)
    canvas.paste(picture, (at[0] + (side - size[0]) // 2, at[1] + (side - size[1]) // 2))


def fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, shortened with an ellipsis if it is wider than the frame."""
    shown = text
    while shown and font.getlength(shown) > MAIN + SIDE - 16:
        shown = shown[:-2].rstrip() + "…" if shown.endswith("…") else shown[:-1].rstrip() + "…"
    return shown
