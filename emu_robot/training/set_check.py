"""What a replay buffer must hold for a training, checked before any work. Knows no model."""

from collections.abc import Sequence

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, ShapeError
from emu_robot.training.holdout import completed_subtasks, held_out_episodes


def check_set(buffer: ReplayBuffer, cameras: Sequence[str], size: int | None = None, *holdouts: float) -> None:
    """Raise what would stop a training later.

    cameras: cameras that it sees; size: side of the pictures that its models take [px], None for any. holdouts: shares
    of episodes that it holds out. Raises `UnknownNameError` for a camera, `ShapeError` for pictures of another size,
    `DataError` without a completed subtask, without a moment before one among the training episodes, and for too few
    episodes.
    """
    completed = completed_subtasks(buffer.metadata)
    if not any(completed):
        raise DataError(f"{buffer.path}: no completed subtask in {buffer.n_episodes} episodes")
    for camera in cameras:
        shape = buffer.images(camera).shape[1:3]
        if shape != (size or shape[0], size or shape[1]):
            raise ShapeError(f"pictures of {camera} in {buffer.path}", shape, (size, size))
    for share in holdouts or (0.0,):
        held = held_out_episodes(completed, share)
        seen = [meta for meta, out in zip(buffer.metadata, held, strict=True) if not out]
        if not any(k > s for meta in seen for s, k in zip(meta["starts"], meta["keyframes"], strict=False)):
            raise DataError(f"{buffer.path}: every training episode starts at its keyframe, there is nothing to learn")
