"""Our policy beside LeRobot's own: same demonstrations, same training time, same tasks, through LeRobot's commands.

python benchmarks/side_by_side.py data                     1000 demonstrations, for all of them (30 min of two cores)
python benchmarks/side_by_side.py rates                    training samples per CPU second, taking turns
python benchmarks/side_by_side.py train ours               from nothing, every stage; says what CPU time it took
python benchmarks/side_by_side.py train act diffusion      each for as long as ours took, by the rates measured
python benchmarks/side_by_side.py evaluate ours act        single and long tasks, seen and held-out, by lerobot-eval
python benchmarks/side_by_side.py latency                  CPU time of a chunk on one thread, taking turns
python benchmarks/side_by_side.py table                    what was measured so far

One thread each. Everything is kept in outputs/side_by_side, and what was cut off goes on. The peers have LeRobot's
defaults but for what PEERS says: no weights from the internet, learning rates for so few steps, chunks of 2 s and 1.6 s
as in their papers, half the U-Net's width, which makes for twice the steps in the same time. They are not told the
instruction; neither takes one.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

OUT = Path("outputs/side_by_side")
DATA = Path("outputs/data/side_by_side_lerobot")
BIN = Path(sys.executable).parent
BATCH_SIZE = 8
NO_DOWNLOAD = ["--policy.pretrained_backbone_weights=null"]
PEERS: dict[str, list[str]] = {
    "act": [
        *NO_DOWNLOAD, "--policy.optimizer_lr=1e-4", "--policy.optimizer_lr_backbone=1e-4",
        "--policy.chunk_size=40", "--policy.n_action_steps=20",
    ],
    "diffusion": [
        *NO_DOWNLOAD, "--policy.use_group_norm=true", "--policy.horizon=32", "--policy.n_action_steps=16",
        "--policy.down_dims=[256,512,1024]",
        "--policy.noise_scheduler_type=DDIM", "--policy.num_inference_steps=10",
        "--policy.scheduler_warmup_steps=100",
    ],
}  # fmt: skip
STAGES = (
    ("data", "merge"),
    ("train", "stage=tokenizer"),
    ("data", "encode"),
    ("train", "stage=planner"),
    ("train", "stage=head"),
)
"""What our training consists of, each with the preset side_by_side."""
EPISODES = {"single": 100, "long": 50}
"""How many, by what they ask for; a long one takes four times as long."""
CELLS = [(tasks, split) for tasks in EPISODES for split in ("seen", "heldout")]
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "rates", "train", "evaluate", "latency", "table"])
    parser.add_argument("policies", nargs="*", default=["ours", *PEERS], choices=["ours", *PEERS])
    wanted = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")}
    peers = [name for name in wanted.policies if name in PEERS]
    if wanted.what == "data":
        ours("collect")
    elif wanted.what == "rates":
        keep("rates", rates(peers))
    elif wanted.what == "train":
        for name in wanted.policies:
            train_ours() if name == "ours" else train_peer(name)
    elif wanted.what == "evaluate":
        for name in wanted.policies:
            for tasks, split in CELLS:
                evaluate(name, tasks, split)
    elif wanted.what == "latency":
        keep("latency", latency(wanted.policies))
    else:
        print(table())


def ours(*words: str) -> float:
    """One of our commands with its preset; its CPU time [s]."""
    return cpu_seconds([BIN / "emu-robot", *words, "experiment=side_by_side"])


def cpu_seconds(command: Sequence[str | Path]) -> float:
    """Run it; CPU time of it and of what it started [s]. Raises `CalledProcessError` if it fails."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    subprocess.run(list(map(str, command)), check=True)
    return spent() - before


def read(name: str) -> dict[str, Any]:
    """What was kept under that name, or nothing."""
    path = OUT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(name: str, new: dict[str, Any]) -> None:
    """Add to what is kept under that name."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(read(name) | new, indent=1) + "\n")


# Training


def train_ours() -> None:
    """Every stage not yet finished; adds up the CPU time over interruptions as far as stages go."""
    for verb, stage in STAGES:
        name = f"ours {stage.removeprefix('stage=')}"
        if name not in read("cpu_seconds"):
            keep("cpu_seconds", {name: ours(verb, stage)})


def train_peer(name: str) -> None:
    """As many steps as fit into the CPU time that ours took, or the rest of them."""
    spent, rate = read("cpu_seconds"), read("rates")[name]
    budget = sum(seconds for key, seconds in spent.items() if key.startswith("ours "))
    steps, last = int(budget * rate / BATCH_SIZE), OUT / name / "run/checkpoints/last"
    if last.exists() and int(last.resolve().name) >= steps:
        return
    if last.exists():
        seconds = cpu_seconds(
            [BIN / "lerobot-train", f"--config_path={last}/pretrained_model/train_config.json", "--resume=true"]
        )
    else:
        seconds = cpu_seconds(train_command(name, OUT / name / "run", steps, 500))
    keep("cpu_seconds", {name: spent.get(name, 0) + seconds})
    keep("steps", {name: steps})


def train_command(name: str, out: Path, steps: int, save_every: int) -> list[str | Path]:
    return [
        BIN / "lerobot-train", f"--policy.type={name}", *PEERS[name], f"--output_dir={out}",
        "--dataset.repo_id=local/side_by_side", f"--dataset.root={DATA}", "--policy.device=cpu",
        "--policy.push_to_hub=false", f"--batch_size={BATCH_SIZE}", "--num_workers=0", f"--steps={steps}",
        f"--save_freq={save_every}", "--seed=0", "--log_freq=50",
    ]  # fmt: skip


def rates(peers: Sequence[str]) -> dict[str, float]:
    """Training samples per CPU second: of a long and a short run of each, the short one taken off; medians of turns."""
    short, long = 2, 12
    found: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(TURNS):
        for name in peers:
            out = OUT / "rates" / f"{name}-{turn}-{time.time_ns()}"
            seconds = [cpu_seconds(train_command(name, out.with_suffix(f".{n}"), n, 10_000)) for n in (short, long)]
            found[name].append((long - short) * BATCH_SIZE / (seconds[1] - seconds[0]))
    return {name: statistics.median(values) for name, values in found.items()}


# Evaluation


def checkpoint(name: str) -> Path:
    if name != "ours":
        return OUT / name / "run/checkpoints/last/pretrained_model"
    folder = OUT / "ours/checkpoint"
    if not folder.exists():
        cpu_seconds([BIN / "emu-robot", "to-lerobot", f"weights={OUT / 'ours/weights'}", f"out={folder}"])
    return folder


def evaluate(name: str, tasks: str, split: str) -> None:
    n = EPISODES[tasks]
    out = OUT / name / f"eval-{tasks}-{split}-{n}"
    if not (out / "eval_info.json").exists():
        cpu_seconds([
            BIN / "lerobot-eval", f"--policy.path={checkpoint(name)}", "--policy.device=cpu", f"--output_dir={out}",
            "--env.type=emu_tabletop", f"--env.task={tasks}", f"--env.split={split}", "--env.pooled=true",
            f"--eval.n_episodes={n}", "--eval.batch_size=1", "--seed=0",
        ])  # fmt: skip
    found = json.loads((out / "eval_info.json").read_text())["overall"]
    keep("success", {f"{name} {tasks} {split}": [round(found["pc_success"] * n / 100), n]})


def latency(names: Sequence[str]) -> dict[str, float]:
    """Median CPU time of a chunk [ms]; for ours also of the first one, which is planned before."""
    import torch

    torch.set_num_threads(1)
    calls: dict[str, Callable[[], object]] = {}
    for name in names:
        calls |= chunk_calls(name)
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(12):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values[2:]) for name, values in spent.items()}


def chunk_calls(name: str) -> dict[str, Callable[[], object]]:
    """Name of what is timed -> that, on one random observation."""
    import torch
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class

    from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy

    config = PreTrainedConfig.from_pretrained(checkpoint(name))
    policy = get_policy_class(config.type).from_pretrained(checkpoint(name))
    batch: dict[str, Any] = {key: torch.rand(1, *feature.shape) for key, feature in config.input_features.items()}
    batch["task"] = ["put the red cube on the green plate"]

    def first() -> object:
        policy.reset()
        return policy.select_action(batch)

    if not isinstance(policy, EmuRobotPolicy):
        return {name: first}
    planned = EmuRobotPolicy.from_pretrained(checkpoint(name))
    planned.predict_action_chunk(batch)
    return {name: lambda: planned.predict_action_chunk(batch), f"{name}, planned before": first}


def table() -> str:
    """What was kept, as Markdown; a p-value is Barnard's test against ours."""
    from emu_robot.evaluation.statistics import Proportion, barnard

    success = {key: Proportion(*value) for key, value in read("success").items()}
    seconds, chunk = read("cpu_seconds"), read("latency")
    header = ["policy", "parameters", "CPU min", *(f"{tasks}, {split}" for tasks, split in CELLS), "chunk [ms]"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name in ("ours", *PEERS):
        cells = []
        for tasks, split in CELLS:
            mine, reference = success.get(f"{name} {tasks} {split}"), success.get(f"ours {tasks} {split}")
            p = f", p = {barnard(mine, reference):.2g}" if mine and reference and name != "ours" else ""
            cells.append(f"{mine}{p}" if mine else "")
        minutes = sum(value for key, value in seconds.items() if key.split()[0] == name) / 60
        size = f"{n_parameters(checkpoint(name)) / 1e6:.1f} M" if checkpoint(name).exists() else ""
        lines.append("| " + " | ".join([name, size, f"{minutes:.0f}", *cells, f"{chunk.get(name, 0):.0f}"]) + " |")
    return "\n".join(lines)


def n_parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        if "processor" not in path.name:  # these hold the data's statistics
            with safe_open(path, "pt") as tensors:
                total += sum(math.prod(tensors.get_slice(key).get_shape()) for key in list(tensors.keys()))
    return total


if __name__ == "__main__":
    main()
