"""Timings and a video of a recording of the graph. Needs no ROS."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from emu_robot.core import Image
from emu_robot.data.mcap_reading import McapFile, RecordedMessage
from emu_robot.data.recording_contract import Contract
from emu_robot.evaluation.video import BAND, INK, MAIN, MUTED, PAPER, SIDE, Clip, fit_text
from emu_robot.observation.camera_messages import decode_picture

FPS = 20


class Timing(NamedTuple):
    """Durations of something that happened n times."""

    name: str
    """What was timed."""
    n: int
    """How often it happened."""
    p50: float
    """Median [ms]."""
    p99: float
    """99th percentile [ms]."""

    def __str__(self) -> str:
        return f"{self.name:<38} n = {self.n:<5} p50 {self.p50:7.1f} ms   p99 {self.p99:7.1f} ms"


def timings(path: Path) -> list[Timing]:
    """Timings of plans, chunks and commands in an MCAP file of the recorder."""
    found: dict[str, list[float]] = defaultdict(list)
    file, last = McapFile(path), dict[str, float]()
    messages, _, role_of = _begin(file)
    for message in messages:
        now = 1e-9 * message.time_ns
        match role_of.get(message.topic):
            case "planner_status":
                content = file.decode(message)
                if content.planning and content.planning != last.get("planning"):
                    found["plan: words and subgoal image"].append(content.planning)
                last["planning"] = content.planning
            case "policy_status":
                content = file.decode(message)
                if content.chunks != last.get("chunks") and content.inference:
                    found["chunk: inference"].append(content.inference)
                last["chunks"] = content.chunks
            case "action_chunk":
                found["chunk: image taken -> chunk sent"].append(now - _seconds(file.decode(message).header.stamp))
            case "arm_command":
                if now - last.get("command", -np.inf) < 1.0:  # a longer gap means that the gate was disarmed
                    found["command: period"].append(now - last["command"])
                last["command"] = now
            case _:
                pass
    return [
        Timing(name, len(values), *(1000 * np.percentile(values, [50, 99])).round(1).tolist())
        for name, values in sorted(found.items())
    ]


def write_video(path: Path, out: Path, title: str) -> int:
    """Write a video in real time: the planner's camera, subgoal, other camera and words. Returns its frame count."""
    clip, fonts = Clip(out, fps=FPS), (ImageFont.load_default(size=12), ImageFont.load_default(size=15))
    frames = 0
    for view in _views(path):
        clip.add(_draw(view, title, fonts))
        frames += 1
    clip.close()
    return frames


class _View(NamedTuple):
    """Content of one frame; pictures are (H, W, 3) uint8 RGB."""

    front: Image
    """Picture of the planner's camera."""
    side: Image | None
    """Picture of another camera."""
    subgoal: Image | None
    """Subgoal image of the present step."""
    words: str
    """Subtask and state of the gate."""


def _begin(file: McapFile) -> tuple[Iterator[RecordedMessage], Contract, dict[str, str]]:
    """Messages of a recording, its contract, and topic -> role."""
    messages = file.messages()
    contract = Contract.from_json(file.decode(next(messages)).data, str(file.path))
    return messages, contract, {topic: role for role, topic in contract.topics.items()}


def _views(path: Path) -> Iterator[_View]:
    """One view for every frame of the video, with the last messages before it."""
    file, due = McapFile(path), 0
    messages, contract, role_of = _begin(file)
    robot = contract.deployment(str(path))
    others = [f"camera.{name}" for name in robot.cameras if name != robot.planner_camera]
    front = side = subgoal = None
    words, gate = "", ""
    for message in messages:
        role = role_of.get(message.topic)
        if role == f"camera.{robot.planner_camera}":
            front = decode_picture(file.decode(message))
        elif role in others[:1]:
            side = decode_picture(file.decode(message))
        elif role == "subgoal":
            content = file.decode(message)
            words = content.subtask or ("complete" if content.instruction else "")
            subgoal = decode_picture(content.image) if len(content.image.data) else subgoal if content.subtask else None
        elif role == "safety_state":
            gate = file.decode(message).state
        while front is not None and message.time_ns >= due:
            due = (due or message.time_ns) + 1_000_000_000 // FPS
            yield _View(front, side, subgoal, f"{words}   [{gate}]" if gate else words)


def _draw(view: _View, title: str, fonts: Sequence[Any]) -> Image:
    canvas, (small, large) = PillowImage.new("RGB", (MAIN + SIDE, MAIN + BAND), PAPER), fonts
    places = ((view.front, MAIN, (0, 0)), (view.subgoal, SIDE, (MAIN, 0)), (view.side, SIDE, (MAIN, SIDE)))
    for image, size, place in places:
        if image is not None:
            picture = PillowImage.fromarray(image).resize((size, size), PillowImage.Resampling.BICUBIC)
            canvas.paste(picture, place)
    draw = ImageDraw.Draw(canvas)
    if view.subgoal is None:
        draw.text((MAIN + 5, 3), "no subgoal", MUTED, small)
    draw.text((8, MAIN + 5), fit_text(title, small), MUTED, small)
    draw.text((8, MAIN + 21), fit_text(view.words, large), INK, large)
    return np.asarray(canvas)


def _seconds(stamp: Any) -> float:
    return stamp.sec + 1e-9 * stamp.nanosec
