"""A fine-tuning in short: every stage makes a few real steps on a few episodes of the set, and is timed.

An error that would stop a stage at its end, such as weights that cannot be written, stops it here.
"""

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emu_robot.data.prepare import RECORD
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import SystemSetupError
from emu_robot.shared.interrupts import Interrupted
from emu_robot.shared.memory import peak_bytes, reset_peak
from emu_robot.training import dida, finetune_report, goal_choice, head, planner, tokenizer, tokenizer_choice
from emu_robot.training.drawn_subgoals import BLOCK
from emu_robot.training.finetune import FinetuneConfig
from emu_robot.training.tracking import TrackerName

STEPS = 5
"""Steps of each stage; the first one, which is slower, is not counted."""
EPISODES = 4
"""Episodes of the sample, besides those with the longest words."""

STAGES: dict[str, Callable[[Any], Any]] = {
    "choose-tokenizer": tokenizer_choice.choose_tokenizer,
    "encode": tokenizer.encode,
    "train-planner": planner.train,
    "train-dida": dida.train,
    "train-head": head.train,
    "choose-goal": goal_choice.choose_goal,
    "report": finetune_report.write_report,
}
"""Verbs that are rehearsed."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One stage's rehearsal."""

    seconds: float
    """Duration of all of it [s]."""
    memory: int
    """Most memory of the process [bytes]."""
    gpu_memory: int
    """Most memory that torch held on the GPU [bytes]; 0 without one."""


def shortened(config: FinetuneConfig, folder: Path) -> FinetuneConfig:
    """The same fine-tuning in `folder` with a few steps, and as few drawn images as go together."""

    def few(stage: Any, **changes: Any) -> Any:
        loop = replace(
            stage.loop, steps=min(STEPS, stage.loop.steps), log_every=1, save_every=STEPS, eval_every=0, compile=False,
            track=TrackerName.none,
        )  # fmt: skip
        return replace(stage, loop=loop, **changes)

    return replace(
        config,
        out=folder,
        track=TrackerName.none,
        tokenizer=replace(config.tokenizer, measured=BLOCK),
        planner=few(config.planner, eval_queries=min(BLOCK, config.planner.eval_queries)),
        dida=few(config.dida, drawn_images=min(BLOCK, config.dida.drawn_images)),
        head=few(config.head, generated_goals=min(BLOCK, config.head.generated_goals)),
    )


def take_sample(buffer: ReplayBuffer, path: Path) -> ReplayBuffer:
    """A new buffer with the shortest episodes that have a completed subtask, and those with the longest words."""
    usable = [i for i, meta in enumerate(buffer.metadata) if meta["keyframes"]]
    length = buffer.load("episodes/end")
    shortest = sorted(usable, key=lambda i: length[i] - (length[i - 1] if i else 0))[:EPISODES]
    wordiest = [max(usable, key=lambda i: longest(buffer.metadata[i])) for longest in (_instruction, _subtask)]
    sample = ReplayBuffer.create(path, buffer.layout)
    for i in sorted({*shortest, *wordiest}):
        sample.extend(buffer.episodes(i, i + 1))
    if (buffer.path / RECORD).exists():
        shutil.copyfile(buffer.path / RECORD, path / RECORD)
    sample.close()
    return sample


def rehearse(runs: Mapping[tuple[str, str], Any]) -> dict[str, Measured]:
    """Run the verbs of `STAGES` among these in silence. Returns verb -> what it took.

    Raises the error of a stage, `SystemSetupError` if the GPU's memory is too small.
    """
    measured = {}
    for (verb, _name), config in runs.items():
        if verb not in STAGES:
            continue
        _reset_memory()
        begun = time.monotonic()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                STAGES[verb](config)
        except torch.cuda.OutOfMemoryError as error:
            raise SystemSetupError(f"{verb} needs more memory than the GPU has; lower its loop.batch_size") from error
        except Interrupted as stop:
            raise Interrupted(stop.number, "stopped while estimating; the same command starts it again") from stop
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        measured[verb] = Measured(seconds=time.monotonic() - begun, memory=peak_bytes(), gpu_memory=gpu)
    return measured


def step_seconds(metrics: Path) -> float:
    """Duration of a step by the lines of metrics.jsonl, without the first one [s]."""
    times = [line["seconds"] for line in lines_of(metrics) if "lr" in line]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else times[0]


def evaluation_seconds(metrics: Path) -> float:
    """Duration of the evaluation after the last step [s]; 0 if there was none."""
    *_, last, evaluated = [{"seconds": 0.0, "lr": 0.0}, *lines_of(metrics)]
    return 0.0 if "lr" in evaluated else evaluated["seconds"] - last["seconds"]


def lines_of(path: Path) -> Sequence[dict[str, float]]:
    """The lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _instruction(meta: Mapping[str, Any]) -> int:
    return len(meta["instruction"])


def _subtask(meta: Mapping[str, Any]) -> int:
    return max(map(len, meta["subtasks"]))


def _reset_memory() -> None:
    reset_peak()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
