"""Time, memory and disk space that a fine-tuning will take, told before it begins."""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.prepare import PrepareConfig, choose, chosen, locate
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import SystemSetupError
from emu_robot.evaluation.records import read_json
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.weights import resolve_weights, stage_config
from emu_robot.observation.image_fit import fit_image
from emu_robot.shared.durations import duration, size
from emu_robot.shared.files import replace_json, require_disk_space
from emu_robot.shared.memory import machine_bytes, peak_bytes
from emu_robot.tokenizers.image import ImageTokenizer
from emu_robot.training.clusters import CELLS_OF_A_CODE, COPIES, expected_seconds, few_cells_fit
from emu_robot.training.drawn_subgoals import BLOCK
from emu_robot.training.finetune import FinetuneConfig, verb_runs
from emu_robot.training.holdout import completed_subtasks, held_out_episodes
from emu_robot.training.loop import LoopConfig, select_device
from emu_robot.training.progress import METRICS
from emu_robot.training.rehearsal import (
    Measured,
    evaluation_seconds,
    lines_of,
    rehearse,
    shortened,
    step_seconds,
    take_sample,
)
from emu_robot.training.set_check import check_set
from emu_robot.training.tokenizer_choice import CLUSTERS, START, cluster_sizes
from emu_robot.training.tokenizer_choice import RECORD as CHOICE

RECORD = "estimate.json"
TIMED_FRAMES = 50
"""Pictures of each camera that are decoded to estimate the preparation."""
NEARLY = 0.8
"""Share of the free memory or disk space above which a warning is printed."""


@dataclass(frozen=True, kw_only=True)
class _More:
    """What a stage takes besides what its rehearsal took."""

    seconds: float = 0.0
    memory: int = 0
    disk: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Estimate of one step."""

    name: str
    """Verb and name of the run, as `run_verbs` prints them."""
    seconds: float
    """Duration [s]."""
    memory: int
    """Most memory of the process [bytes]."""
    gpu_memory: int
    """Most memory on the GPU [bytes]; 0 without one."""
    disk: int
    """Files that stay [bytes]."""
    note: str = ""
    """How it is composed."""


def estimate_preparation(config: PrepareConfig) -> None:
    """Print how long the preparation will take, by the decoding of some pictures, and its size on the disk.

    Raises `SystemSetupError` if the disk is too full.
    """
    files = LeRobotFiles(locate(config.dataset))
    conversion, episodes = choose(files, config), chosen(files, config)
    begun, first = time.monotonic(), episodes[0]
    rows = files.rows(first)
    reading_s, shown = time.monotonic() - begun, range(min(TIMED_FRAMES, first.length))
    for camera in conversion.cameras.values():
        for image in files.images(first, rows, camera, shown):
            fit_image(image, config.image_size, config.fit)
    picture_s = (time.monotonic() - begun - reading_s) / len(shown)
    n_frames = sum(episode.length for episode in episodes)
    n_moments = n_frames * conversion.hz / files.fps / config.image_every
    n_bytes = round(n_moments * len(conversion.cameras) * config.image_size**2 * 3)
    seconds = 2 * reading_s * len(episodes) + n_moments * picture_s / max(config.workers, 1)
    print(
        f"{len(episodes)} episodes, {n_frames} frames, {len(conversion.cameras)} cameras: the preparation takes about "
        f"{duration(seconds)} and {size(n_bytes)} on the disk; an estimate of the trainings follows it",
        flush=True,
    )
    require_disk_space(config.out, n_bytes)


def estimate(config: FinetuneConfig) -> Path:
    """Check the prepared set for all stages, rehearse them, print what each will take, write estimate.json.

    Returns its path. Raises the errors of `check_set` and of the stages, and `SystemSetupError` if the memory or the
    disk is too small.
    """
    runs, buffer = verb_runs(config), ReplayBuffer.open(config.out / "data")
    by_verb: dict[str, Any] = {verb: run for (verb, _name), run in runs.items()}
    cameras = by_verb["train-head"].cameras
    holdouts = (stage.holdout for stage in (config.tokenizer, config.planner, config.dida, config.head))
    check_set(buffer, cameras, ImageTokenizer.load(resolve_weights(config.weights)).config.resolution, *holdouts)
    print("estimating: a few steps of each stage", flush=True)
    with tempfile.TemporaryDirectory(prefix=".rehearsal_", dir=config.out) as folder:
        short = shortened(config, Path(folder))
        sample = take_sample(buffer, short.out / "data")
        measured = rehearse(verb_runs(short))
        outlook = _Outlook(config, short, buffer, sample)
        rows = [outlook.row(verb, f"{verb} {name}", measured[verb]) for verb, name in runs if verb in measured]
    replace_json(
        config.out / RECORD, {"seconds": {row.name: row.seconds for row in rows}, "rows": [asdict(row) for row in rows]}
    )
    show(rows)
    judge(rows, config.out)
    return config.out / RECORD


class _Outlook:
    """What rehearsals mean for the whole set and all steps: what they took, and what is not done in them."""

    def __init__(
        self, config: FinetuneConfig, short: FinetuneConfig, buffer: ReplayBuffer, sample: ReplayBuffer
    ) -> None:
        self._config, self._short, self._buffer, self._sample = config, short, buffer, sample
        self._run, self._tokenizer = short.out / "run", ImageTokenizer.load(short.out / START)
        self._encode_s, self._decode_s = self._image_seconds()
        self._images = buffer.n_images - sample.n_images
        self._frames = buffer.n_frames - sample.n_frames
        self._keyframes = sum(completed_subtasks(buffer.metadata)) - sum(completed_subtasks(sample.metadata))

    def row(self, verb: str, name: str, took: Measured) -> Row:
        """The estimate of one verb."""
        parts = {
            "choose-tokenizer": self._choice,
            "encode": self._encoding,
            "train-planner": self._planner,
            "train-dida": self._dida,
            "train-head": self._head,
            "choose-goal": lambda: self._goal(took),
        }
        more = parts[verb]() if verb in parts else _More()
        return Row(
            name=name,
            seconds=round(took.seconds + more.seconds, 1),
            memory=took.memory + more.memory,
            gpu_memory=took.gpu_memory,
            disk=more.disk,
            note=more.note,
        )

    def _choice(self) -> _More:
        config, found = self._config.tokenizer, read_json(self._short.out / CHOICE)
        disk = _bytes_of(self._short.out / START)
        if not found["clusters"]:
            return _More(disk=disk, note="ours is kept, as a sample shows")
        like = ImageTokenizer.load(resolve_weights(self._config.weights)).config
        n = min(config.clusters.cells, round(found["cells"] * self._buffer.n_images / self._sample.n_images))
        more = _More(disk=disk + _bytes_of(self._short.out / CLUSTERS), note=f"clusters of about {n} cells")
        if n < 2 * CELLS_OF_A_CODE:
            return more
        sizes = few_cells_fit(cluster_sizes(like), n)
        memory = 4 * 3 * like.downscale**2 * n * COPIES
        return replace(more, seconds=expected_seconds(sizes, n, config.clusters), memory=memory)

    def _encoding(self) -> _More:
        n = self._buffer.n_images
        disk = n * self._tokenizer.config.n_codes * 4
        return _More(seconds=self._images * self._encode_s, disk=disk, note=f"{n} pictures at {self._encode_s:.3f} s")

    def _planner(self) -> _More:
        stage, short = self._config.planner, self._short.planner
        metrics = self._run / "planner" / METRICS
        pool, little = self._asked(self._buffer), self._asked(self._sample)
        n_asked = _evaluations(stage.loop) * min(stage.eval_queries, pool) + min(4 * stage.eval_queries, pool)
        n_done = min(short.eval_queries, little) + min(4 * short.eval_queries, little)
        asked_s = evaluation_seconds(metrics) / max(min(short.eval_queries, little), 1)
        more = self._training(stage.loop, short.loop, "planner")
        seconds = more.seconds + (n_asked - n_done) * asked_s
        return replace(more, seconds=seconds, disk=more.disk + _bytes_of(self._short.out / "weights"))

    def _dida(self) -> _More:
        stage, more = self._config.dida, self._training(self._config.dida.loop, self._short.dida.loop, "dida")
        drawn = self._drawing("dida/drawn.jsonl", stage.drawn_images, self._short.dida.drawn_images)
        return replace(more, seconds=more.seconds + drawn)

    def _head(self) -> _More:
        stage, short = self._config.head, self._short.head
        more = self._training(stage.loop, short.loop, "head")
        evaluations = (_evaluations(stage.loop) - 1) * evaluation_seconds(self._run / "head" / METRICS)
        drawn = self._drawing("head/generated_goals.jsonl", stage.generated_goals, short.generated_goals)
        goals = self._keyframes if stage.sampling.reconstructed else 0
        seconds = more.seconds + evaluations + drawn + goals * (self._encode_s + self._decode_s)
        picture, layout = 3 * self._tokenizer.config.resolution**2, self._buffer.layout
        chunk = stage_config(self._short.out / "weights", "head", HeadConfig).action_horizon * len(layout.action_names)
        numbers = 4 * self._frames * (2 * chunk + len(layout.state_names))
        return replace(more, seconds=seconds, memory=numbers + picture * (goals + stage.generated_goals))

    def _goal(self, took: Measured) -> _More:
        held, little = self._held_out(self._buffer), self._held_out(self._sample)
        return _More(seconds=took.seconds * (min(self._config.goals.episodes, len(held)) / len(little) - 1))

    def _training(self, loop: LoopConfig, short: LoopConfig, stage: str) -> _More:
        step_s = step_seconds(self._run / stage / METRICS)
        return _More(
            seconds=(loop.steps - short.steps) * step_s,
            disk=_bytes_of(self._run / stage),
            memory=4 * self._images * self._tokenizer.config.n_codes,
            note=_steps(loop.steps, step_s),
        )

    def _drawing(self, record: str, wanted: int, drawn: int) -> float:
        path = self._run / record
        return (wanted - drawn) * lines_of(path)[-1]["seconds"] / drawn if path.exists() and drawn else 0.0

    def _asked(self, buffer: ReplayBuffer) -> int:
        """Held-out moments that the planner's metrics ask about."""
        return sum(len({*meta["starts"], *meta["keyframes"]}) for meta in self._held_out(buffer))

    def _held_out(self, buffer: ReplayBuffer) -> list[Mapping[str, Any]]:
        """Metadata of the episodes that the planner's training leaves out; all if it leaves out none."""
        held = held_out_episodes(completed_subtasks(buffer.metadata), self._config.planner.holdout)
        return [meta for meta, out in zip(buffer.metadata, held, strict=True) if out or not held.any()]

    def _image_seconds(self) -> tuple[float, float]:
        """Durations of encoding and decoding one picture [s]."""
        tokenizer = self._tokenizer.to(select_device(self._config.head.loop.device))
        some = self._sample.images(self._sample.cameras[0])[:BLOCK]
        codes = tokenizer.encode_images(some[:1])  # the first one is slower
        times = [time.monotonic()]
        codes = tokenizer.encode_images(some)
        times.append(time.monotonic())
        tokenizer.decode_images(codes)
        times.append(time.monotonic())
        return tuple((np.diff(times) / len(some)).tolist())  # type: ignore


def show(rows: Sequence[Row]) -> None:
    """Print the table; without a terminal, a line for each row."""
    whole = duration(sum(row.seconds for row in rows))
    peak = max(row.memory for row in rows)
    total = (f"{whole}", size(peak), size(sum(row.disk for row in rows)), "all of it")
    lines = [(row.name, duration(row.seconds), size(row.memory), size(row.disk), row.note) for row in rows]
    gpu = max(row.gpu_memory for row in rows)
    console = Console()
    if console.is_terminal:
        table = Table("step", "time", "memory", "disk", "of which", box=None, pad_edge=False)
        for line in (*lines, ("", *total)):
            table.add_row(*line)
        console.print(table)
    else:
        for name, *values in lines:
            print(
                f"{name}: about {values[0]}, {values[1]} of memory, {values[2]} on the disk; {values[3]}".rstrip("; ")
            )
        print(f"in all about {total[0]}, at most {total[1]} of memory, {total[2]} on the disk", flush=True)
    if gpu:
        print(f"at most {size(gpu)} of the GPU's memory", flush=True)


def judge(rows: Sequence[Row], out: Path) -> None:
    """Warn if memory or disk may be too small. Raises `SystemSetupError` if one surely is."""
    peak, needed = max(row.memory for row in rows), sum(row.disk for row in rows)
    total, available = machine_bytes()
    own, free = peak_bytes(), shutil.disk_usage(out).free
    if peak > total:
        raise SystemSetupError(f"about {size(peak)} of memory needed, this machine has {size(total)}")
    if peak - own > NEARLY * available:
        print(f"warning: about {size(peak)} of memory needed, {size(available + own)} can be had now", flush=True)
    require_disk_space(out, needed)
    if needed > NEARLY * free:
        print(f"warning: about {size(needed)} of disk needed, {size(free)} free", flush=True)


def _evaluations(loop: LoopConfig) -> int:
    return 1 + ((loop.steps - 1) // loop.eval_every if loop.eval_every else 0)


def _steps(steps: int, seconds: float) -> str:
    return f"{steps} steps at {seconds:.2f} s"


def _bytes_of(*folders: Path) -> int:
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
