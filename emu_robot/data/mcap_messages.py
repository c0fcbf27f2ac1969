"""Makes ROS messages without ROS: those of Jazzy, and ours from the definitions in the checkout."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from emu_robot.core import Image
from emu_robot.data.mcap_writing import Topic
from emu_robot.errors import SystemSetupError, UnknownNameError

INTERFACES = Path(__file__).resolve().parents[2] / "ros_ws/src/emu_robot_interfaces/msg"


@cache
def types() -> Typestore:
    """Types of Jazzy and of ours. Raises `SystemSetupError` outside a checkout, where the definitions of ours lack."""
    definitions = sorted(INTERFACES.glob("*.msg"))
    if not definitions:
        raise SystemSetupError(f"no message definitions in {INTERFACES}: they are part of the checkout alone")
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in definitions:
        store.register(get_types_from_msg(path.read_text(), f"emu_robot_interfaces/msg/{path.stem}"))
    return store


def message(kind: str, /, **fields: Any) -> Any:
    """A message of type "package/Name", of the given fields, else of zeros. Raises `UnknownNameError` for a field."""
    store, full = types(), kind.replace("/", "/msg/")
    known = [field for field, _ in store.fielddefs[full][1]]
    for field in fields:
        if field not in known:
            raise UnknownNameError(f"field of {kind}", field, known)
    values = {field: fields.get(field, _empty(inner)) for field, inner in store.fielddefs[full][1]}
    return store.types[full](**values)


def stamped(time_ns: int, frame: str = "") -> Any:
    """A header of this time [ns]."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    stamp = message("builtin_interfaces/Time", sec=seconds, nanosec=rest)
    return message("std_msgs/Header", stamp=stamp, frame_id=frame)


def image_message(picture: Image, time_ns: int, frame: str = "") -> Any:
    """A raw sensor_msgs/Image of a picture (H, W, 3)."""
    height, width = picture.shape[:2]
    return message(
        "sensor_msgs/Image", header=stamped(time_ns, frame), height=height, width=width, encoding="rgb8",
        step=3 * width, data=picture.ravel(),
    )  # fmt: skip


def topic_of(name: str, kind: str, *, is_latched: bool = False) -> Topic:
    """A topic to write. kind: "package/msg/Name"."""
    store = types()
    text, digest = store.generate_msgdef(kind, ros_version=2)[0], store.hash_rihs01(kind)
    return Topic(name, kind, text, digest, is_latched=is_latched)


def serialized(content: Any, kind: str) -> bytes:
    """A message in CDR."""
    return bytes(types().serialize_cdr(content, kind))


def _empty(kind: Any) -> Any:
    node, inner = kind
    if node.name == "NAME":
        return message(inner.replace("/msg/", "/"))
    if node.name == "BASE":
        return "" if inner[0] == "string" else inner[0] == "bool" and False
    element = inner[0]
    is_number = element[0].name == "BASE" and element[1][0] != "string"
    return np.zeros(0, element[1][0]) if is_number else []
