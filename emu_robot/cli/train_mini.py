"""`emu-robot train-mini`: the released weights from nothing, each step with its own preset (docs/training.md).

Stop it at any time and start it again: finished steps are not repeated, the one that was cut off goes on.
"""

import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emu_robot.config import load_config
from emu_robot.errors import InvalidValueError, WeightsError

FUNCTIONS = {
    "collect": "emu_robot.data.collect:collect",
    "encode": "emu_robot.training.tokenizer:encode",
    "merge": "emu_robot.data.merge:merge",
    "train-tokenizer": "emu_robot.training.tokenizer:train",
    "train-planner": "emu_robot.training.planner:train",
    "train-dida": "emu_robot.training.dida:train",
    "train-head": "emu_robot.training.head:train",
}
STEPS = (
    ("collect", "mini"),
    ("collect", "mini_plans"),
    ("train-tokenizer", "mini"),
    ("train-head", "mini"),
    ("collect", "mini_corrections"),
    ("merge", "mini_corrected"),
    ("train-head", "mini_corrected"),
    ("merge", "mini_plans"),
    ("encode", "mini_plans"),
    ("train-planner", "mini"),
    ("train-dida", "mini"),
)
"""Verb and preset of each step."""
FINISHED = Path("outputs/train/finished.json")
MAX_BYTES = 40_000_000

type Step = tuple[str, str]


def run(arguments: Sequence[str]) -> int | None:
    """Run every step that is not finished with its present settings, then release."""
    if arguments:
        print(__doc__)
        return 0 if arguments[0] in ("-h", "--help") else 2
    configs = {step: load_config(step[0], [f"experiment={step[1]}"]) for step in STEPS}
    run_steps(configs, FINISHED)
    from emu_robot.weights import RELEASED

    release(configs[STEPS[-1]].weights, RELEASED / "mini")
    return None


def run_steps(configs: Mapping[Step, Any], finished: Path) -> None:
    """Run the steps in order; `finished` records each with its settings, so that a changed one is run again."""
    done: dict[str, str] = json.loads(finished.read_text()) if finished.exists() else {}
    for (verb, preset), config in configs.items():
        name, settings = f"{verb} {preset}", repr(config)
        if done.get(name) == settings:
            print(f"{name}: finished before")
            continue
        print(f"{name}: started", flush=True)
        module, function = FUNCTIONS[verb].split(":")
        getattr(importlib.import_module(module), function)(config)
        done[name] = settings
        finished.parent.mkdir(parents=True, exist_ok=True)
        partial = finished.with_suffix(".partial")
        partial.write_text(json.dumps(done, indent=1) + "\n")
        partial.replace(finished)


def release(trained: Path, released: Path) -> None:
    """Copy checked weights to `released`. Raises `WeightsError`, or `InvalidValueError` if they are too large."""
    from emu_robot.weights import load_file, load_weights, read_manifest

    manifest = read_manifest(trained)
    missing = {"tokenizer", "planner", "head"} - set(manifest["stages"])
    if missing:
        raise WeightsError(f"{trained} has no {', '.join(sorted(missing))}")
    for stage in manifest["stages"]:
        load_weights(trained, stage)
    for name in manifest["files"]:
        load_file(trained, name)
    size = sum(path.stat().st_size for path in trained.iterdir())
    if size > MAX_BYTES:
        raise InvalidValueError(f"{trained} holds {size / 1e6:.1f} MB; a release may hold {MAX_BYTES / 1e6:.0f} MB")
    shutil.copytree(trained, released, dirs_exist_ok=True)
    print(f"released: {released} ({size / 1e6:.1f} MB)")
