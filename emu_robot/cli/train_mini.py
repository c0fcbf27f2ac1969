"""`emu-robot train-mini`: makes the released weights from nothing, each step with a preset (docs/training.md).

It may be stopped at any time: the same command skips finished steps and continues the interrupted one.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from emu_robot.cli.verb_sequence import run_verbs
from emu_robot.config import load_config
from emu_robot.errors import ConfigError, InvalidValueError, WeightsError

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


def run(arguments: Sequence[str]) -> int | None:
    """Run every step that is not finished with its present settings, then release."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments:
        raise ConfigError(f"unknown key {arguments[0]!r}: train-mini takes none, its presets are called mini")
    configs = {step: load_config(step[0], [f"experiment={step[1]}"]) for step in STEPS}
    run_verbs(configs, FINISHED)
    from emu_robot.models.weights import RELEASED

    release(configs[STEPS[-1]].weights, RELEASED / "mini")
    return None


def release(trained: Path, released: Path) -> None:
    """Copy checked weights to `released`. Raises `WeightsError`, or `InvalidValueError` if they are too large."""
    from emu_robot.models.weights import load_file, load_weights, read_manifest

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
