"""Action chunks as they arrive, and the rules that each must obey on its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.safety.config import SafetyConfig

SOURCES = ("policy", "teleop")
"""Senders that may command a robot. All but the policy move it only while their deadman is pressed."""
GRIPPER_REACH = 1.0
"""How far outside [0, 1] a chunk may command a gripper; the command is clipped."""


class Rejection(StrEnum):
    """Why a chunk was not taken.

    The first group is only counted, and motion goes on. The second group means that the sender is wrong: the robot
    holds, and several in a row are a fault.
    """

    NOT_ARMED = "not armed"
    NO_STATE = "joint states are stale"
    SOURCE = "its source may not command"
    OTHER_SESSION = "another session holds the robot"
    STALE = "too old"
    REORDERED = "not newer than one before"
    BEFORE_RESET = "captured before the last stop"

    NAMES = "other names of dimensions, or in another order"
    SHAPE = "wrong number of dimensions or actions"
    NOT_FINITE = "not finite"
    RANGE = "out of the gripper's range"
    FUTURE = "captured in the future"
    TIMING = "wrong time between actions"
    JUMP = "jumps"
    NO_DEADMAN = "teleoperation without its deadman"

    @property
    def is_harmless(self) -> bool:
        """Whether the chunk is only counted."""
        return self in _HARMLESS


_HARMLESS = frozenset(
    {
        Rejection.NOT_ARMED,
        Rejection.NO_STATE,
        Rejection.SOURCE,
        Rejection.OTHER_SESSION,
        Rejection.STALE,
        Rejection.REORDERED,
        Rejection.BEFORE_RESET,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkMessage:
    """A chunk as it arrives."""

    session: int
    """Session of the sender, new at every start."""
    sequence: int
    """Number that rises within the session."""
    captured: float
    """Capture time of the observation [s]. The first action is meant for this time, the others for every dt after."""
    dt: float
    """Time between actions [s], in [0.001, 1]."""
    actions: NDArray[np.floating[Any]]
    """(T, A), all dimensions in physical units."""
    source: str = "policy"
    """One of `SOURCES`."""
    names: tuple[str, ...] | None = None
    """Names of the dimensions; None: the sender gives none."""


def judge_content(
    chunk: ChunkMessage, config: SafetyConfig, *, names: Sequence[str], joints: int, now: float
) -> Rejection | None:
    """The first rule that the content of a chunk breaks. names: those of the A dimensions. joints: how many are joints.

    Names are compared in order: the same names in another order would move other joints.
    """
    if chunk.names is not None and chunk.names != tuple(names):
        return Rejection.NAMES
    actions = chunk.actions
    if actions.ndim != 2 or actions.shape[1] != len(names) or not 1 <= len(actions) <= config.max_chunk_actions:
        return Rejection.SHAPE
    if not (np.isfinite(actions).all() and np.isfinite([chunk.captured, chunk.dt]).all()):
        return Rejection.NOT_FINITE
    if not 0.001 <= chunk.dt <= 1.0:
        return Rejection.TIMING
    if chunk.captured > now + config.future_tolerance_s:
        return Rejection.FUTURE
    grippers = actions[:, joints:]
    if grippers.min(initial=0.0) < -GRIPPER_REACH or grippers.max(initial=1.0) > 1.0 + GRIPPER_REACH:
        return Rejection.RANGE
    if np.abs(np.diff(actions[:, :joints].astype(np.float64), axis=0)).max(initial=0.0) > config.max_jump:
        return Rejection.JUMP
    return None
