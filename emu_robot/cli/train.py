"""`emu-robot train stage=tokenizer|planner|dida|head|world_model key=value ...`: train one stage."""

import importlib
from collections.abc import Sequence

from emu_robot.cli.options import configure, take

STAGES = ("tokenizer", "planner", "dida", "head", "world_model")


def run(arguments: Sequence[str]) -> None:
    """Train one stage and draw its losses. A stopped run continues from its last checkpoint."""
    if arguments and all(word in ("-h", "--help") for word in arguments):
        print(f"{__doc__}\n`emu-robot train stage=planner --help` lists the keys of a stage.")
        return
    stage, overrides = take("stage", STAGES, arguments)
    config = configure(f"train-{stage}", overrides, f"train stage={stage}")
    if config is None:
        return
    from emu_robot.data.quality_record import told_before_training
    from emu_robot.training.curves import write_curves
    from emu_robot.training.progress import METRICS

    print("\n".join(told_before_training(config.data)), flush=True)
    importlib.import_module(f"emu_robot.training.{stage}").train(config)
    if (config.out / stage / METRICS).exists():  # clusters are found without steps
        print(f"look at {write_curves(config.out / stage)}")
