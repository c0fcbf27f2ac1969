"""`emu-robot train-mini [mini|mini2]`: makes released weights, each step with a preset (docs/training.md).

mini: for the tabletop, from nothing. mini2: for tabletop2, from mini.

It may be stopped at any time: the same command skips finished steps and continues the interrupted one.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from emu_robot.cli.verb_sequence import run_verbs
from emu_robot.config import load_config
from emu_robot.errors import InvalidValueError, UnknownNameError, WeightsError

STEPS = {
    "mini": (
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
    ),
    "mini2": (
        ("collect", "tabletop2_plans"),
        ("train-tokenizer", "tabletop2"),
        ("encode", "tabletop2"),
        ("train-planner", "tabletop2"),
        ("collect", "tabletop2_demonstrations"),
        ("train-head", "tabletop2"),
        ("collect", "tabletop2_corrections"),
        ("merge", "tabletop2_corrected"),
        ("train-head", "tabletop2_corrected"),
    ),
}
"""Verb and preset of each step, for each released name."""
FINISHED = Path("outputs/train/finished.json")
MAX_BYTES = 40_000_000
ROUNDED = ("planner", "head")
"""Stages whose matrices are released in 8 bits. Image codes are bound to the tokenizer's very weights."""


def run(arguments: Sequence[str]) -> int | None:
    """Run every step that is not finished with its present settings, then release."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    name, *others = arguments or ["mini"]
    if others or name not in STEPS:
        raise UnknownNameError("weights to train", " ".join(arguments), STEPS)
    configs = {step: load_config(step[0], [f"experiment={step[1]}"]) for step in STEPS[name]}
    run_verbs(configs, FINISHED)
    from emu_robot.models.weights import RELEASED

    release(configs[STEPS[name][-1]].weights, RELEASED / name)
    return None


def release(trained: Path, released: Path) -> None:
    """Copy checked weights, rounded. Raises `WeightsError`, or `InvalidValueError` if they are too large."""
    from emu_robot.models.weights import load_file, load_weights, read_manifest, round_weights

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
    for stage in ROUNDED:
        round_weights(released, stage)
    size = sum(path.stat().st_size for path in released.iterdir())
    print(f"released: {released} ({size / 1e6:.1f} MB)")
