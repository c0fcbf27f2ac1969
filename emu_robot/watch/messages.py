"""A thought as JSON, and its pictures by slot: a number that is at most 255."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from emu_robot.core import Image
from emu_robot.watch.board import MOST_STEPS
from emu_robot.watch.thought import Chunk, Delay, Gate, Pursued, Thought

FIRST_STEP, FIRST_TO_COME = 16, 200
"""Slots: cameras, then before, predicted, achieved of each subtask, then what is predicted of those to come."""
MOST_POINTS = 120
"""Most values of progress that are sent of a subtask, its newest."""
MOST_TO_COME = 32


def write_thought(thought: Thought) -> dict[str, Any]:
    """A thought as JSON values, without its pictures."""
    return {
        "source": thought.source,
        "task": thought.task,
        "number": thought.number,
        "seconds": round(thought.seconds, 1),
        "mind": thought.mind.value,
        "steps": [_step(step) for step in thought.steps],
        "to_come": [step.subtask for step in thought.to_come[:MOST_TO_COME]],
        "foresees": thought.foresees,
        "done": thought.done,
        "chunk": None if thought.chunk is None else _chunk(thought.chunk),
        "position": None if thought.position is None else _rounded(thought.position),
        "gate": _gate(thought.gate),
        "delays": [_delay(delay) for delay in thought.delays],
        "cameras": list(thought.pictures),
        "played": thought.played,
        "lines": [[round(at, 1), words] for at, words in thought.lines],
    }


def pictures(thought: Thought) -> Iterator[tuple[int, Image]]:
    """The pictures of a thought, each with its slot."""
    yield from list(enumerate(thought.pictures.values()))[:FIRST_STEP]
    for i, step in enumerate(thought.steps[-MOST_STEPS:]):
        for k, image in enumerate((step.before, step.predicted, step.achieved)):
            if image is not None:
                yield FIRST_STEP + 3 * i + k, image
    for i, step in enumerate(thought.to_come[:MOST_TO_COME]):
        if step.subgoal is not None:
            yield FIRST_TO_COME + i, step.subgoal


def _step(step: Pursued) -> dict[str, Any]:
    return {
        "words": step.words,
        "begun": round(step.begun_s, 1),
        "lasts": round(step.lasts_s, 1),
        "ending": step.ending.value if step.ending is not None else "",
        "progress": _rounded(np.array(step.progress[-MOST_POINTS:]), 3),
        "has": [image is not None for image in (step.before, step.predicted, step.achieved)],
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "names": list(chunk.names),
        "actions": [_rounded(action, 4) for action in chunk.actions],
        "dt": chunk.dt,
        "executed": chunk.executed,
    }


def _gate(gate: Gate) -> dict[str, Any]:
    return {"state": gate.state, "reason": gate.reason, "counts": dict(gate.counts or {})}


def _delay(delay: Delay) -> dict[str, Any]:
    return {
        "name": delay.name,
        "last_ms": round(1000 * delay.last_s, 1),
        "median_ms": round(1000 * delay.median_s, 1),
        "n": delay.n,
    }


def _rounded(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Numbers that JSON knows; None for those that are not finite."""
    return [round(float(value), digits) if math.isfinite(value) else None for value in values]
