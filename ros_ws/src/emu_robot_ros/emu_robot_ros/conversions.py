"""Converts between messages and arrays."""

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from numpy.typing import NDArray
from rclpy.duration import Duration
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from emu_robot.core import Floats
from emu_robot.errors import ShapeError
from emu_robot.observation.camera_messages import decode_picture


def to_image(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """Picture (H, W, 3) uint8 RGB. Raises the errors of `decode_picture`."""
    return decode_picture(message)


def from_image(image: NDArray[np.uint8], stamp: TimeMessage, frame: str = "") -> Image:
    """An rgb8 message of (H, W, 3) uint8. Its data are an `array`: rclpy would check each element of an ndarray."""
    data = array.array("B")
    data.frombytes(image.tobytes())
    message = Image(height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1])
    message.header.stamp, message.header.frame_id, message.data = stamp, frame, data
    return message


def seconds(stamp: TimeMessage) -> float:
    """A stamp as seconds since the epoch [s]."""
    return stamp.sec + 1e-9 * stamp.nanosec


def positions(message: JointState) -> dict[str, float]:
    """Joint -> position [rad]; joints without a position are left out."""
    return dict(zip(message.name, message.position, strict=False))


def trajectory(names: tuple[str, ...], position: Floats, velocity: Floats, period: float) -> JointTrajectory:
    """A trajectory of one point, to be reached after `period` [s]. A controller fits a spline to both values."""
    point = JointTrajectoryPoint(positions=position.tolist(), velocities=velocity.tolist())
    point.time_from_start = Duration(seconds=period).to_msg()
    return JointTrajectory(joint_names=list(names), points=[point])


def from_actions(actions: NDArray[Any]) -> array.array:
    """Actions (T, A) as T * A numbers, row by row."""
    flat = array.array("d")
    flat.frombytes(np.asarray(actions, np.float64).tobytes())
    return flat


def to_actions(flat: Any, n_dimensions: int) -> Floats:
    """Actions (T, A) from numbers row by row. Raises `ShapeError` if they do not fill whole actions."""
    actions = np.frombuffer(flat, np.float64)
    if not n_dimensions or actions.size % n_dimensions:
        raise ShapeError("actions", f"{actions.size} numbers", f"a multiple of {n_dimensions}")
    return actions.reshape(-1, n_dimensions)


def stamp_of(time: float) -> TimeMessage:
    """A stamp of seconds since the epoch [s]."""
    nanoseconds = round(1e9 * time)
    return TimeMessage(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)
