"""One recorded episode and its checks. Knows neither zarr, torch nor a simulator.

Suffix legend: T frames, M stored images, N subtasks, S state, A action, H W image, C channels.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Fact, Floats32
from emu_robot.errors import ConfigError, DataError, InvalidValueError, ShapeError
from emu_robot.shared.files import replacing
from emu_robot.shared.typed import build, first_line

META_KEYS = ("instruction", "family", "split", "seed", "success", "fps")


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """A demonstration at a fixed rate: frame t holds the state seen and the clean action wanted at tick t."""

    instruction: str
    """The task in words."""
    family: str
    """Family of the task."""
    split: str
    """Split of the task, such as seen or heldout."""
    seed: int
    """Seed that reproduces the episode."""
    success: bool
    """Whether the whole task was done at the end."""
    fps: int
    """Control ticks per second [Hz]."""
    subtasks: tuple[str, ...]
    """One sentence per subtask, in order."""
    keyframes: NDArray[np.int32]
    """(N,) first frame at which each subtask is complete; a failed episode may hold fewer."""
    starts: NDArray[np.int32]
    """(N,) first frame of each subtask, starts[0] == 0; a failed episode may hold fewer."""
    state: Floats32
    """(T, S)."""
    action: Floats32
    """(T, A)."""
    image_frames: NDArray[np.int32]
    """(M,) ascending frames with stored images; 0, all keyframes and all starts are among them."""
    images: Mapping[str, NDArray[np.uint8]]
    """Camera -> (M, H, W, 3)."""

    executed: bool = True
    """Whether the robot moved. If not, actions are 0 and mean nothing, frames are moments, and a subtask starts at the
    keyframe before."""
    needs_memory: bool = False
    """Whether the next subtask follows only from the pictures before."""
    attempts: tuple[int, ...] = ()
    """Frames at which the subtask pursued was tried in vain; only where the episode was laid out."""
    interventions: tuple[tuple[int, int], ...] = ()
    """Runs of frames in which a person corrected a policy that drove otherwise: first frame, frame after the last."""
    facts: tuple[Mapping[str, Fact], ...] = ()
    """(M,) for each stored image, name of a thing -> where it is; () if unknown."""

    def __len__(self) -> int:
        return len(self.state)

    @property
    def subtask_T(self) -> NDArray[np.int32]:
        """(T,) int32, the subtask pursued at each frame; the dwell after a keyframe belongs to its subtask."""
        return (np.searchsorted(self.starts, np.arange(len(self)), side="right") - 1).astype(np.int32)

    def thinned(self, image_every: int) -> "Episode":
        """The episode with images of every `image_every`-th frame, and of starts, keyframes and their dwells.

        One that was laid out keeps all of its moments.
        """
        if not self.executed:
            return self
        frames = self.image_frames
        done = np.searchsorted(self.keyframes, frames, side="right")
        dwells = done > np.searchsorted(self.starts, frames, side="right") - 1
        keep = (frames % image_every == 0) | dwells | np.isin(frames, self.starts)
        images = {camera: array[keep] for camera, array in self.images.items()}
        return replace(self, image_frames=frames[keep], images=images)

    def validate(self) -> None:
        """Raise `ShapeError` or `DataError` naming the first field that does not fit the others."""
        n_frames, n_images = len(self.state), len(self.image_frames)
        for name in ("state", "action"):
            array = getattr(self, name)
            if array.ndim != 2 or array.dtype != np.float32 or len(array) != n_frames:
                raise ShapeError(f"{self} {name}", f"{array.shape} {array.dtype}", f"({n_frames}, D) float32")
            if not np.isfinite(array).all():
                raise DataError(f"{self} {name}: holds values that are not finite")
        for camera, array in self.images.items():
            check_camera_name(str(self), camera)
            if array.ndim != 4 or array.dtype != np.uint8 or len(array) != n_images or array.shape[3] != 3:
                expected = f"({n_images}, H, W, 3) uint8"
                raise ShapeError(f"{self} images of camera {camera!r}", f"{array.shape} {array.dtype}", expected)
        self._validate_frames(n_frames)

    def _validate_frames(self, n_frames: int) -> None:
        n_starts, n_done, n_subtasks = len(self.starts), len(self.keyframes), len(self.subtasks)
        if n_frames == 0 or not n_done <= n_starts <= n_subtasks or n_starts == 0:
            given = f"{n_frames} frames, {n_starts} starts, {n_done} keyframes, {n_subtasks} subtasks"
            raise DataError(f"{self}: {given}; expected frames, and keyframes <= starts <= subtasks")
        if self.success and n_done != n_subtasks:
            raise DataError(f"{self}: a success with {n_done} of {n_subtasks} keyframes")
        if self.starts[0] != 0:
            raise DataError(f"{self}: starts[0] is {self.starts[0]}, expected 0")
        if (self.keyframes < self.starts[:n_done]).any() or (
            self.starts[1:] < self.keyframes[: n_starts - 1] + self.executed
        ).any():
            raise DataError(f"{self}: starts {self.starts} and keyframes {self.keyframes} do not alternate")
        if (np.diff(self.image_frames) <= 0).any():
            raise DataError(f"{self}: image_frames are not ascending")
        marked = np.concatenate([self.starts, self.keyframes])
        missing = np.setdiff1d(marked, self.image_frames)
        if missing.size:
            raise DataError(f"{self}: no image stored at start or keyframe {missing.tolist()}")
        if max(marked.max(), self.image_frames[-1]) >= n_frames:
            raise DataError(f"{self}: a start, keyframe or image lies beyond its {n_frames} frames")
        bounds = [bound for run in self.interventions for bound in run]
        if any(a >= b for a, b in pairwise([-1, *bounds])) or max(bounds, default=0) > n_frames:
            raise DataError(f"{self}: interventions {self.interventions} are no runs of {n_frames} frames, in order")

    def __str__(self) -> str:
        return f"episode with seed {self.seed}"

    def meta(self) -> dict[str, Any]:
        """Everything but the arrays per frame and image, as JSON values; `fields_from_meta` reverses it."""
        lists = {"subtasks": list(self.subtasks), "keyframes": self.keyframes.tolist(), "starts": self.starts.tolist()}
        meta = {name: getattr(self, name) for name in META_KEYS} | lists
        if self.needs_memory:
            meta["needs_memory"] = True
        if self.interventions:
            meta["interventions"] = [list(run) for run in self.interventions]
        if self.executed:
            return meta
        facts = json.dumps(self.facts, separators=(",", ":"))  # a text takes a tenth of the memory
        return meta | {"executed": False, "attempts": list(self.attempts), "facts": facts}

    def save(self, path: Path) -> None:
        """Write one uncompressed .npz atomically: after a kill, `path` is either absent or complete."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in ("state", "action", "image_frames")}
        arrays |= {f"image_{camera}": array for camera, array in self.images.items()}
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, meta=np.array(json.dumps(self.meta())), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Episode":
        """Read what `save` wrote. Raises `DataError` naming the file if it is missing or damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            fields = fields_from_meta(json.loads(str(arrays.pop("meta"))))
            names = [name for name in arrays if name.startswith("image_") and name != "image_frames"]
            images = {name.removeprefix("image_"): arrays.pop(name) for name in names}
            return cls(**fields, **arrays, images=images)
        except Exception as error:  # zipfile, numpy and json each raise their own kinds on damaged input
            raise DataError(f"{path}: not a readable episode file ({first_line(error)})") from error


def check_camera_name(what: str, name: str) -> None:
    """Raise `ConfigError` for a camera name that cannot name an array and a file."""
    if not is_camera_name(name):
        raise ConfigError(
            f"{what}: no camera can be called {name!r}; take letters, digits, _ and -, no frame, codes_..."
        )


def is_camera_name(name: str) -> bool:
    """Whether a camera of a replay buffer may have this name."""
    is_ours = name in ("frame", "frames") or name.startswith("codes_")
    return bool(re.fullmatch(r"[A-Za-z0-9_-]+", name)) and not is_ours


@dataclass(frozen=True, kw_only=True)
class _Meta:
    """The values that `Episode.meta` writes."""

    instruction: str
    family: str
    split: str
    seed: int
    success: bool
    fps: int
    subtasks: tuple[str, ...]
    keyframes: tuple[int, ...]
    starts: tuple[int, ...]
    executed: bool = True
    needs_memory: bool = False
    attempts: tuple[int, ...] = ()
    interventions: tuple[tuple[int, int], ...] = ()
    facts: str = "[]"

    def __post_init__(self) -> None:
        if self.fps < 1 or not all(0 <= t < 2**31 for t in (*self.keyframes, *self.starts, *self.attempts)):
            raise DataError("fps or a frame is out of range")


def check_meta(meta: Any) -> None:
    """Raise `InvalidValueError` naming the field that does not fit. Facts remain a text."""
    build(_Meta, meta, "metadata")


def fields_from_meta(meta: Any) -> dict[str, Any]:
    """The `Episode` fields that `Episode.meta` wrote. Raises `InvalidValueError` naming the one that does not fit."""
    fields = vars(build(_Meta, meta, "metadata"))
    frames = {name: np.asarray(fields[name], np.int32) for name in ("keyframes", "starts")}
    return fields | frames | {"facts": read_facts(fields["facts"])}


def read_facts(text: str) -> tuple[dict[str, Fact], ...]:
    """The `Episode.facts` of the metadata's text. Raises `InvalidValueError` if it cannot be read."""
    try:
        return tuple({name: _fact(*where) for name, where in of.items()} for of in json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidValueError(f"metadata: facts cannot be read ({first_line(error)})") from error


def _fact(place: str, u: float, v: float, is_visible: bool) -> Fact:
    return Fact(str(place), float(u), float(v), bool(is_visible))
