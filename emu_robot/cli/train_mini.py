"""`emu-robot train-mini`: the released weights from nothing, each step with its preset `experiment=mini`.

Stop it at any time and start it again: finished steps are not repeated, the one that was cut off goes on.
"""

import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emu_robot.config import load_config
from emu_robot.errors import InvalidValueError, WeightsError

STEPS = (
    ("collect", "emu_robot.data.collect:collect"),
    ("train-tokenizer", "emu_robot.training.tokenizer:train"),
    ("train-planner", "emu_robot.training.planner:train"),
    ("train-head", "emu_robot.training.head:train"),
)
FINISHED = Path("outputs/train/finished.json")
MAX_BYTES = 40_000_000


def run(arguments: Sequence[str]) -> int | None:
    """Run every step that is not finished with its present settings, then release."""
    if arguments:
        print(__doc__)
        return 0 if arguments[0] in ("-h", "--help") else 2
    configs = {verb: load_config(verb, ["experiment=mini"]) for verb, _ in STEPS}
    run_steps(configs, FINISHED)
    from emu_robot.weights import RELEASED

    release(configs["train-head"].weights, RELEASED / "mini")
    return None


def run_steps(configs: dict[str, Any], finished: Path) -> None:
    """Run the steps in order; `finished` records each with its settings, so that a changed one is run again."""
    done: dict[str, str] = json.loads(finished.read_text()) if finished.exists() else {}
    for verb, function in STEPS:
        settings = repr(configs[verb])
        if done.get(verb) == settings:
            print(f"{verb}: finished before")
            continue
        print(f"{verb}: started", flush=True)
        module, name = function.split(":")
        getattr(importlib.import_module(module), name)(configs[verb])
        done[verb] = settings
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
