"""Converts a zarr replay buffer of diffusion_policy to a LeRobotDataset v3 for `emu-robot data prepare`.

    python datasets/from_diffusion_policy_zarr.py pusht_cchi_v7_replay.zarr data/pusht --fps 10 \\
      --task "push the T onto its outline" --camera top=img --state-names x,y,block_x,block_y,block_angle \\
      --action-names x,y --license mit

Expects data/<image arrays> (N, H, W, 3), uint8 or float in [0, 255] or [0, 1]; data/<state> and data/<action> (N, D);
meta/episode_ends (E,), ascending: the frame after each episode's last. Takes a folder or its .zip, zarr format 2 or 3.
To convert another format, imitate this file: `create_set`, `add_frame` for each frame, `save_episode`, `finalize`.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from zarr.storage import ZipStore

from emu_robot.core import Floats32
from emu_robot.data.dataset_card import UNKNOWN, Origin, write_card
from emu_robot.data.lerobot_export import create_set, quiet
from emu_robot.data.lerobot_features import usual_features
from emu_robot.errors import DataError, EmuRobotError, InvalidValueError, ShapeError, UnknownNameError
from emu_robot.shared.progress import progress

ENDS = "meta/episode_ends"


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the zarr folder or .zip")
    parser.add_argument("out", type=Path, help="the new dataset's folder")
    parser.add_argument("--fps", type=int, required=True, help="frames per second [Hz]; the zarr does not say")
    parser.add_argument("--task", required=True, help="the instruction of every episode")
    parser.add_argument("--camera", action="append", help="name=array, repeatable; default front=img")
    parser.add_argument("--state", default="state", help="array of data/ that is the state")
    parser.add_argument("--action", default="action", help="array of data/ that is the action")
    parser.add_argument("--state-names", default="", help="of its dimensions, by commas; a gripper's holds 'gripper'")
    parser.add_argument("--action-names", default="", help="of its dimensions, by commas")
    parser.add_argument("--robot", default="unknown", help="name of the robot")
    parser.add_argument("--license", default=UNKNOWN, help="of the data, as the hub calls it")
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Recording:
    """The contents of a replay buffer."""

    ends: list[int]
    """(E,) frame after each episode's last."""
    images: dict[str, Any]
    """Camera -> (N, H, W, 3), read when indexed."""
    state: Floats32
    """(N, D) state of each frame."""
    action: Floats32
    """(N, D) action of each frame."""

    @classmethod
    def read(cls, settings: argparse.Namespace) -> Self:
        source = settings.source
        root = open_zarr(source)
        ends = episode_ends(root, source)
        cameras = dict(camera_and_array(given) for given in settings.camera or ["front=img"])
        images = {name: pictures(root, source, f"data/{key}", ends[-1]) for name, key in cameras.items()}
        state, action = (numbers(root, source, f"data/{key}", ends[-1]) for key in (settings.state, settings.action))
        return cls(ends, images, state, action)


def convert(settings: argparse.Namespace) -> Path:
    """Write the dataset, whole or not at all. Returns its folder; raises `EmuRobotError` for bad input."""
    out = settings.out
    if settings.fps < 1:
        raise InvalidValueError(f"--fps is {settings.fps}, must be at least 1")
    if out.exists():
        raise DataError(f"{out}: exists; name a new folder")
    recording = Recording.read(settings)
    features = usual_features(
        dimension_names("state", settings.state_names, recording.state.shape[1]),
        dimension_names("action", settings.action_names, recording.action.shape[1]),
        {name: pixels.shape[1:] for name, pixels in recording.images.items()},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet():
        dataset = create_set(partial, f"local/{out.name}", fps=settings.fps, features=features, robot=settings.robot)
        add_episodes(dataset, recording, settings.task)
        dataset.finalize()
    told = Origin(
        summary=f'{len(recording.ends)} episodes of "{settings.task}".',
        license=settings.license,
        provenance=f"Converted from `{settings.source.name}` (the layout of diffusion_policy) by emu_robot's "
        "`datasets/from_diffusion_policy_zarr.py`; numbers as they were, pictures as H.264.",
    )
    write_card(partial, told, out.name)
    return partial.replace(out)


def add_episodes(dataset: LeRobotDataset, recording: Recording, task: str) -> None:
    first = recording.ends[0]
    factors = {name: factor_to_255(pixels[:first]) for name, pixels in recording.images.items()}
    with progress("converting", len(recording.ends)) as report:
        for begin, end in pairwise([0, *recording.ends]):
            shown = {name: as_uint8(pixels[begin:end], factors[name]) for name, pixels in recording.images.items()}
            for t in range(begin, end):
                views = {f"observation.images.{name}": pixels[t - begin] for name, pixels in shown.items()}
                numbers = {"observation.state": recording.state[t], "action": recording.action[t]}
                dataset.add_frame({"task": task, **numbers, **views})
            dataset.save_episode()
            report("")


def open_zarr(source: Path) -> zarr.Group:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    try:
        return zarr.open_group(ZipStore(source, mode="r") if source.suffix == ".zip" else source, mode="r")
    except Exception as error:  # zarr, zipfile and json raise errors of their own
        raise DataError(f"{source}: not a readable zarr group ({error})") from error


def array(root: zarr.Group, source: Path, path: str, n_frames: int) -> Any:
    """The array at `path`. Raises `EmuRobotError` unless it has a row for every frame."""
    folder, _, _ = path.partition("/")
    group = root.get(folder)
    known = sorted(group.array_keys()) if isinstance(group, zarr.Group) else []
    found = root.get(path)
    if not isinstance(found, zarr.Array):
        raise UnknownNameError(f"array of {source}", path, [f"{folder}/{key}" for key in known])
    if not found.shape or found.shape[0] < n_frames:
        raise DataError(f"{source}/{path}: {found.shape[0] if found.shape else 0} rows, {ENDS} ends at {n_frames}")
    return found


def episode_ends(root: zarr.Group, source: Path) -> list[int]:
    ends = np.asarray(array(root, source, ENDS, 1)[:])
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer) or not (np.diff(ends, prepend=0) > 0).all():
        raise DataError(f"{source}/{ENDS}: {ends.dtype} {ends[:8].tolist()}, expected ascending frame numbers above 0")
    return ends.tolist()


def numbers(root: zarr.Group, source: Path, path: str, n_frames: int) -> Floats32:
    """The array at `path` as (N, D) float32."""
    found = array(root, source, path, n_frames)
    if found.ndim != 2:
        raise ShapeError(f"{source}/{path}", found.shape, "(N, D)")
    values = np.asarray(found[:n_frames], np.float32)
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise DataError(f"{source}/{path}: frame {frame} holds values that are not finite")
    return values


def pictures(root: zarr.Group, source: Path, path: str, n_frames: int) -> Any:
    """The images (N, H, W, 3), not yet read. Video halves the resolution of colours: height and width must be even."""
    found = array(root, source, path, n_frames)
    shape = found.shape
    if len(shape) != 4 or shape[3] != 3 or shape[1] % 2 or shape[2] % 2:
        raise ShapeError(f"{source}/{path}", shape, "(N, H, W, 3), H and W even")
    if found.dtype != np.uint8 and not np.issubdtype(found.dtype, np.floating):
        raise ShapeError(f"{source}/{path}", found.dtype, "uint8 or float")
    return found


def factor_to_255(pixels: NDArray[Any]) -> float:
    """The factor that scales these pictures to [0, 255]."""
    return 255.0 if np.issubdtype(pixels.dtype, np.floating) and pixels.max() <= 1 else 1.0


def as_uint8(pixels: NDArray[Any], factor: float) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    values = np.rint(pixels * factor)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
        raise InvalidValueError(f"pictures hold values {pixels.min()} .. {pixels.max()}, expected 0 .. {255 / factor}")
    return values.astype(np.uint8)


def camera_and_array(given: str) -> tuple[str, str]:
    name, _, key = given.partition("=")
    if not name or not key:
        raise InvalidValueError(f"--camera is {given!r}, expected name=array, as top=img")
    return name, key


def dimension_names(kind: str, given: str, width: int) -> list[str]:
    names = [name.strip() for name in given.split(",")] if given else [f"{kind}_{i}" for i in range(width)]
    if len(names) != width or len(set(names)) != width:
        raise InvalidValueError(f"--{kind}-names gives {len(set(names))} names ({given}), the array has {width}")
    return names


if __name__ == "__main__":
    try:
        print(convert(parsed(None)))
    except EmuRobotError as error:
        sys.exit(f"error: {error}")
