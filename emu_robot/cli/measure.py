"""`emu-robot measure completion|keyframes|language|planner|tokenizer [key=value ...]`: parts and abilities.

completion: precision, recall and delay of "subtask reached" and "task complete", in closed loop.
keyframes: precision and recall of keyframes found in the motion of a replay buffer.
language: whether a policy does what other words ask for in the same scene, or the scene's own task all the same.
planner: share of right next subtasks, and distance of subgoal images from the true ones.
tokenizer: places of small objects and state of the gripper in reconstructed images.
"""

import importlib
from collections.abc import Sequence

from emu_robot.cli.options import configure, sub_verb

MEASURES = {
    "completion": "emu_robot.evaluation.completion:completion",
    "keyframes": "emu_robot.evaluation.keyframe_quality:keyframe_quality",
    "language": "emu_robot.evaluation.language:language_following",
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
