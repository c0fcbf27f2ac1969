"""`emu-robot measure keyframes|planner|tokenizer [key=value ...]`: the parts on their own, without the closed loop.

keyframes: how many keyframes found in a replay buffer's motion are those that were recorded.
planner: how often it says the right next subtask, and how near its subgoal images are to what really comes.
tokenizer: where reconstructions put small objects, and whether the gripper's state can be read from them.
"""

import importlib
from collections.abc import Sequence

from emu_robot.cli.options import configure, sub_verb

MEASURES = {
    "keyframes": "emu_robot.evaluation.keyframe_quality:keyframe_quality",
    "planner": "emu_robot.evaluation.plan_accuracy:plan_accuracy",
    "tokenizer": "emu_robot.evaluation.tokenizer_quality:tokenizer_quality",
}


def run(arguments: Sequence[str]) -> None:
    """Print the figures and write them as JSON under `out`."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    part, overrides = sub_verb("measure", tuple(MEASURES), arguments)
    config = configure(f"measure-{part}", overrides, f"measure {part}")
    if config is None:
        return
    module, function = MEASURES[part].split(":")
    getattr(importlib.import_module(module), function)(config)
