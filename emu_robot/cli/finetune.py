"""`emu-robot finetune dataset=… [weights=mini] [out=…]`: trains planner and head on a LeRobotDataset.

Prepares the data set, trains the image tokenizer if that of the weights cannot show the set, trains the planner, its
parallel decoding and the head, finds out on held-out episodes whether subgoals help, and writes a report with loss
curves and sample plans. It may be stopped at any time: the same command skips finished steps and continues the
interrupted one.
"""

from collections.abc import Sequence

from emu_robot.cli.options import configure
from emu_robot.cli.verb_sequence import run_verbs


def run(arguments: Sequence[str]) -> None:
    """Run every step that is not finished with its present settings. Prints the paths of weights and report."""
    config = configure("finetune", arguments)
    if config is None:
        return
    from emu_robot.training.finetune import verb_runs

    run_verbs(verb_runs(config), config.out / "finished.json")
    print(f"look at {config.out / 'report.html'}")
    print(f"weights in {config.out / 'weights'}; for LeRobot: emu-robot to-lerobot weights={config.out / 'weights'}")
