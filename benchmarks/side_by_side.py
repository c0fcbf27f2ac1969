"""Compares our policy with LeRobot's: same demonstrations, training time and tasks, through LeRobot's commands.

python benchmarks/side_by_side.py data                     the demonstrations as a LeRobotDataset
python benchmarks/side_by_side.py prepare                  our training cache of the same LeRobotDataset
python benchmarks/side_by_side.py rates                    training samples per second, all at the same time
python benchmarks/side_by_side.py train --seconds 4000     from nothing, all at the same time, by the rates measured
python benchmarks/side_by_side.py evaluate ours act        single and long tasks, seen and held-out, by lerobot-eval
python benchmarks/side_by_side.py latency                  CPU time of a chunk on one thread, in turns
python benchmarks/side_by_side.py table                    all measurements so far

--scale two_cores (the default) is for a machine without a GPU and takes about three hours: pick-and-place alone.
--scale gpu has all tasks. Results are kept in outputs/side_by_side/<scale>.

All trainings share cores and GPU evenly. The peers have LeRobot's defaults with the changes in PEERS: bfloat16 like
ours, no weights from the internet, learning rates for few steps, chunks of 2 s (Diffusion Policy: 1.6 s), Diffusion
Policy with a quarter of the U-Net's width, SmolVLA with a vision-language model small enough to learn from nothing. ACT
and Diffusion Policy take no instruction, SmolVLA reads it. The extra [bench] has a version of transformers for SmolVLA.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from emu_robot.shared.files import replace_json

BIN = Path(sys.executable).parent
SHARED = ["--policy.use_amp=true"]
NO_DOWNLOAD = ["--policy.pretrained_backbone_weights=null"]
PEERS: dict[str, list[str]] = {
    "act": [
        *NO_DOWNLOAD, "--policy.optimizer_lr=1e-4", "--policy.optimizer_lr_backbone=1e-4",
        "--policy.chunk_size=40", "--policy.n_action_steps=20",
    ],
    "diffusion": [
        *NO_DOWNLOAD, "--policy.use_group_norm=true", "--policy.horizon=32", "--policy.n_action_steps=16",
        "--policy.down_dims=[128,256,512]",
        "--policy.noise_scheduler_type=DDIM", "--policy.num_inference_steps=10",
        "--policy.scheduler_warmup_steps=100",
    ],
    "smolvla": [
        "--policy.num_vlm_layers=8",
        "--policy.train_expert_only=false", "--policy.freeze_vision_encoder=false",
        "--policy.resize_imgs_with_padding=[128,128]", "--policy.chunk_size=40", "--policy.n_action_steps=20",
        "--policy.optimizer_lr=3e-4", "--policy.scheduler_warmup_steps=100",
    ],
}  # fmt: skip


class Stage(NamedTuple):
    """One stage of our training, with the preset side_by_side."""

    batch_size: int
    """Examples per step."""
    share: float
    """Share of the training time."""
    more: tuple[str, ...] = ()
    """Settings besides those of the preset."""


class Scale(NamedTuple):
    """Size of the whole comparison."""

    name: str
    """Name, and folder of the results."""
    families: str
    """Families of the demonstrations."""
    demonstrations: int
    """Number of demonstrations."""
    image_every: int
    """Frames between two pictures of our cache."""
    batch_size: int
    """Examples per step of the peers."""
    stages: dict[str, Stage]
    """Stages of our training."""
    few_steps: int
    """Steps for the measurement of rates."""
    tasks: dict[str, tuple[str, int]]
    """Name of an evaluation -> families, and episodes of each split."""

    @property
    def out(self) -> Path:
        return Path("outputs/side_by_side") / self.name

    @property
    def dataset(self) -> Path:
        return self.out / "lerobot"

    @property
    def cache(self) -> Path:
        return self.out / "cache"

    @property
    def small_vlm(self) -> Path:
        return self.out / "small_vlm"

    @property
    def cells(self) -> list[tuple[str, str]]:
        return [(tasks, split) for tasks in self.tasks for split in ("seen", "heldout")]


SCALES = {
    "two_cores": Scale(
        "two_cores", families="pick_place,sequence,sort", demonstrations=500, image_every=6, batch_size=16,
        stages={
            "tokenizer": Stage(16, 0.2, ("model.n_embed=4096",)), "planner": Stage(16, 0.35), "head": Stage(32, 0.45)
        },
        few_steps=20, tasks={"single": ("pick_place", 50), "long": ("sequence,sort", 25)},
    ),
    "gpu": Scale(
        "gpu", families="all", demonstrations=1500, image_every=3, batch_size=64,
        stages={
            "tokenizer": Stage(64, 0.2, ("loop.prefetch=2",)), "planner": Stage(128, 0.4, ("loop.prefetch=3",)),
            "head": Stage(128, 0.4, ("loop.prefetch=3",)),
        },
        few_steps=50, tasks={"single": ("single", 100), "long": ("long", 50)},
    ),
}  # fmt: skip
LOG_EVERY = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "prepare", "rates", "train", "evaluate", "latency", "table"])
    parser.add_argument("policies", nargs="*", metavar="policy", help=f"ours, {', '.join(PEERS)}; none: all")
    parser.add_argument("--scale", default="two_cores", choices=SCALES)
    parser.add_argument("--seconds", type=float, default=400, help="of training, for each")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of an evaluation")
    parser.add_argument("--envs", type=int, default=1, help="episodes that an evaluation plays at once")
    wanted = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")}
    scale, names = SCALES[wanted.scale], wanted.policies or ["ours", *PEERS]
    if unknown := set(names) - {"ours", *PEERS}:
        parser.error(f"unknown policies {', '.join(sorted(unknown))}; known: ours, {', '.join(PEERS)}")
    if wanted.what == "data":
        demonstrate(scale)
    elif wanted.what == "prepare":
        prepare(scale)
    elif wanted.what == "rates":
        keep(scale, "rates", rates(scale))
    elif wanted.what == "train":
        keep(scale, "seconds", side_by_side(scale, {name: training(scale, name, wanted.seconds) for name in names}))
    elif wanted.what == "evaluate":
        for name in names:
            for tasks, split in scale.cells:
                evaluate(scale, name, tasks, split, wanted.device, wanted.envs)
    elif wanted.what == "latency":
        keep(scale, "latency", latency(scale, names))
    else:
        print(table(scale))


def ours(*words: str) -> None:
    """Run one of our commands. Raises `CalledProcessError` if it fails."""
    run([BIN / "emu-robot", *words])


def run(command: Sequence[str | Path]) -> None:
    subprocess.run(list(map(str, command)), check=True)


def read(scale: Scale, name: str) -> dict[str, Any]:
    """The results kept under a name; empty without any."""
    path = scale.out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(scale: Scale, name: str, new: dict[str, Any]) -> None:
    """Add results to those kept under a name."""
    replace_json(scale.out / f"{name}.json", read(scale, name) | new)


# Data


def demonstrate(scale: Scale) -> None:
    source = scale.out / "source"
    what = f"families=[{scale.families}]", f"n={scale.demonstrations}", "seed=5000000"
    ours("collect", *what, f"out={source}", "lerobot=false")
    ours("data", "export", f"buffer={source}", f"out={scale.dataset}", "gop=10", "crf=23")


def prepare(scale: Scale) -> None:
    """Make our training cache from the LeRobotDataset that the peers read."""
    where = f"dataset={scale.dataset}", f"out={scale.cache}"
    ours("data", "prepare", *where, f"image_every={scale.image_every}", f"workers={len(os.sched_getaffinity(0))}")


# Training


def side_by_side(scale: Scale, work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Run all functions at the same time, each with an equal share of the cores. Returns their durations [s]."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(len(cores) // len(work), 1)
    seconds: dict[str, float] = {}

    def timed(i: int, name: str) -> None:
        os.sched_setaffinity(0, cores[i * share % len(cores) :][:share])  # for this thread and those that it starts
        start = time.monotonic()
        work[name]()
        seconds[name] = time.monotonic() - start

    if "smolvla" in work:
        write_small_vlm(scale)
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(timed, i, name) for i, name in enumerate(work)]:
            done.result()
    return seconds


def training(scale: Scale, name: str, seconds: float) -> Callable[[], None]:
    """A training with as many steps as fit into `seconds`, by the measured rates."""
    known = read(scale, "rates")
    left = seconds - known[f"{name} besides"]
    if left <= 0:
        raise SystemExit(f"--seconds is {seconds:g}; {name} needs {known[f'{name} besides']:.0f} besides its steps")
    if name == "ours":
        wanted = {stage: int(how.share * left * known[f"ours {stage}"]) for stage, how in scale.stages.items()}
        return lambda: train_ours(scale, scale.out / "ours", wanted)
    return lambda: run(train_command(scale, name, scale.out / name / "run", int(left * known[name])))


def train_ours(scale: Scale, out: Path, steps: dict[str, int], *more: str) -> None:
    """Train our stages in order. more: further settings of each."""
    weights = f"weights={out / 'weights'}"
    for stage, how in scale.stages.items():
        what = f"stage={stage}", "experiment=side_by_side", f"data={scale.cache}", f"out={out}", weights
        ours("train", *what, f"loop.steps={steps[stage]}", f"loop.batch_size={how.batch_size}", *how.more, *more)
        if stage == "tokenizer":
            ours("data", "encode", f"buffer={scale.cache}", weights)


def train_command(scale: Scale, name: str, out: Path, steps: int) -> list[str]:
    """LeRobot's command, with a data process for each core of the calling thread."""
    small_vlm = [f"--policy.vlm_model_name={scale.small_vlm}"] if name == "smolvla" else []
    words = [
        BIN / "lerobot-train", f"--policy.type={name}", *SHARED, *PEERS[name], *small_vlm, f"--output_dir={out}",
        "--dataset.repo_id=local/side_by_side", f"--dataset.root={scale.dataset}", "--policy.push_to_hub=false",
        f"--batch_size={scale.batch_size}", f"--num_workers={len(os.sched_getaffinity(0))}",
        f"--steps={steps}", f"--save_freq={steps}", "--seed=0", f"--log_freq={LOG_EVERY}",
    ]  # fmt: skip
    return list(map(str, words))


def rates(scale: Scale) -> dict[str, float]:
    """Steps per second, and the time of each besides its steps [s]. The peers train until our stages are measured."""
    found: dict[str, float] = {}
    out, shown = scale.out / "rates" / str(time.time_ns()), threading.Event()
    out.mkdir(parents=True)

    def ours_few() -> None:
        start = time.monotonic()
        try:
            train_ours(scale, out / "ours", dict.fromkeys(scale.stages, scale.few_steps), f"loop.log_every={LOG_EVERY}")
        finally:
            shown.set()
        besides = time.monotonic() - start
        for stage in scale.stages:
            lines = [json.loads(line) for line in (out / "ours" / stage / "metrics.jsonl").read_text().splitlines()]
            seconds = [line["seconds"] for line in lines if "loss" in line]
            found[f"ours {stage}"] = LOG_EVERY * (len(seconds) - 1) / (seconds[-1] - seconds[0])
            besides -= scale.few_steps / found[f"ours {stage}"]
        found["ours besides"] = besides

    def peer(name: str) -> None:
        log, start = out / f"{name}.log", datetime.now()
        with log.open("w") as file:
            command = train_command(scale, name, out / name, 1_000_000)
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while (len(times := logged(log)) < 4 or not shown.is_set()) and process.poll() is None:
            time.sleep(0.5)
        if process.poll() is not None:
            raise RuntimeError(f"{name} failed, see {log}")
        process.terminate()
        process.wait()
        found[name] = LOG_EVERY * (len(times) - 1) / (times[-1] - times[0]).total_seconds()
        found[f"{name} besides"] = (times[0] - start).total_seconds() - LOG_EVERY / found[name]

    side_by_side(scale, {"ours": ours_few} | {name: partial(peer, name) for name in PEERS})
    return found


def logged(log: Path) -> list[datetime]:
    """The times of LeRobot's lines of progress."""
    lines = [line.split("INFO ", 1)[1] for line in log.read_text().splitlines() if " step:" in line]
    return [datetime.fromisoformat(" ".join(line.split()[:2])) for line in lines]


def write_small_vlm(scale: Scale) -> None:
    """Write the files that SmolVLA loads from the hub: an untrained SmolVLM, and a tokenizer of our words."""
    import pandas as pd
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    names = {"image": "<image>", "fake_image": "<fake_token_around_image>", "global_image": "<global-img>"}
    special = {f"{name}_token": text for name, text in names.items()} | {"end_of_utterance_token": "<end_of_utterance>"}
    words = ByteLevelBPETokenizer()
    tasks = list(pd.read_parquet(scale.dataset / "meta/tasks.parquet").index)
    words.train_from_iterator(tasks, vocab_size=1024, special_tokens=["<pad>", "<eos>", *special.values()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, pad_token="<pad>", eos_token="<eos>", extra_special_tokens=special
    )
    SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor()).save_pretrained(scale.small_vlm)
    vision = {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 8,
        "image_size": 128, "patch_size": 16,
    }  # fmt: skip
    language = {
        "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
        "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 1024,
    }  # fmt: skip
    image = tokenizer.convert_tokens_to_ids(names["image"])
    config = SmolVLMConfig(image_token_id=image, scale_factor=2, vision_config=vision, text_config=language)
    config.save_pretrained(scale.small_vlm)


# Evaluation


def checkpoint(scale: Scale, name: str) -> Path:
    if name != "ours":
        return scale.out / name / "run/checkpoints/last/pretrained_model"
    folder = scale.out / "ours/checkpoint"
    if not folder.exists():
        ours("to-lerobot", f"weights={scale.out / 'ours/weights'}", f"out={folder}")
    return folder


def evaluate(scale: Scale, name: str, tasks: str, split: str, device: str, envs: int) -> None:
    families, n = scale.tasks[tasks]
    out = scale.out / name / f"eval-{tasks}-{split}-{n}"
    if not (out / "eval_info.json").exists():
        run([
            BIN / "lerobot-eval", f"--policy.path={checkpoint(scale, name)}", f"--policy.device={device}",
            "--policy.use_amp=false",  # lerobot-eval cannot read actions of bfloat16
            f"--output_dir={out}", "--env.type=emu_tabletop", f"--env.task={families}", f"--env.split={split}",
            "--env.pooled=true", f"--eval.n_episodes={n}", f"--eval.batch_size={envs}",
            f"--eval.use_async_envs={envs > 1}", "--seed=0",
        ])  # fmt: skip
    found = json.loads((out / "eval_info.json").read_text())["overall"]
    keep(scale, "success", {f"{name} {tasks} {split}": [round(found["pc_success"] * n / 100), n]})


def latency(scale: Scale, names: Sequence[str]) -> dict[str, float]:
    """Median CPU time of a chunk [ms]; for ours also of a chunk after a plan."""
    import torch

    torch.set_num_threads(1)
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        calls |= chunk_calls(scale, name)
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(12):  # without the first two
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values[2:]) for name, values in spent.items()}


def chunk_calls(scale: Scale, name: str) -> dict[str, Callable[[], object]]:
    """Name -> a timed function on one random observation."""
    import torch
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy

    folder = str(checkpoint(scale, name))
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = "cpu"
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    prepare, _ = make_pre_post_processors(
        config, pretrained_path=folder, preprocessor_overrides={"device_processor": {"device": "cpu"}}
    )
    observation: dict[str, Any] = {key: torch.rand(feature.shape) for key, feature in config.input_features.items()}
    batch = prepare(observation | {"task": "put the red cube on the green plate"})

    def first() -> object:
        policy.reset()
        return policy.select_action(batch)

    if not isinstance(policy, EmuRobotPolicy):
        return {name: first}
    planned = EmuRobotPolicy.from_pretrained(folder, config=config)
    planned.predict_action_chunk(batch)
    return {name: lambda: planned.predict_action_chunk(batch), f"{name}, planning first": first}


def table(scale: Scale) -> str:
    """The kept results as Markdown. A p-value is of Barnard's test against ours."""
    from emu_robot.evaluation.statistics import Proportion, barnard

    success = {key: Proportion(*value) for key, value in read(scale, "success").items()}
    rate, seconds, chunk = read(scale, "rates"), read(scale, "seconds"), read(scale, "latency")
    cells = [f"{tasks}, {split}" for tasks, split in scale.cells]
    header = ["policy", "parameters", "training [s]", "samples/s", *cells, "chunk [ms]"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name in ("ours", *PEERS):
        cells = []
        for tasks, split in scale.cells:
            mine, reference = success.get(f"{name} {tasks} {split}"), success.get(f"ours {tasks} {split}")
            p = f", p = {barnard(mine, reference):.2g}" if mine and reference and name != "ours" else ""
            cells.append(f"{mine}{p}" if mine else "")
        speeds = {f"{name} {stage}": how.batch_size for stage, how in scale.stages.items()} | {name: scale.batch_size}
        speed = ", ".join(
            f"{key.removeprefix(name).strip()} {rate[key] * n:.0f}".strip() for key, n in speeds.items() if key in rate
        )
        size = f"{n_parameters(checkpoint(scale, name)) / 1e6:.1f} M" if checkpoint(scale, name).exists() else ""
        line = [name, size, f"{seconds.get(name, 0):.0f}", speed, *cells, f"{chunk.get(name, 0):.0f}"]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def n_parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        if "processor" not in path.name:  # buffers with the statistics of the data
            with safe_open(path, "pt") as tensors:
                total += sum(math.prod(tensors.get_slice(key).get_shape()) for key in list(tensors.keys()))
    return total


if __name__ == "__main__":
    main()
