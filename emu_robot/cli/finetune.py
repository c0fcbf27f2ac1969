"""`emu-robot finetune dataset=… [weights=mini] [out=…]`: planner and head on a LeRobotDataset, in one go.

Prepares the set, shows how its pictures survive the image tokenizer, trains planner, its parallel decoding and head,
and writes a report with loss curves and sample plans.
Stop it at any time and start it again: finished steps are not repeated, the one that was cut off goes on.
"""

from collections.abc import Sequence

from emu_robot.cli.options import configure
from emu_robot.cli.verb_sequence import run_verbs


def run(arguments: Sequence[str]) -> None:
    """Run every step that is not finished with its present settings; prints where weights and report are."""
    config = configure("finetune", arguments)
    if config is None:
        return
    from emu_robot.training.finetune import verb_runs

    run_verbs(verb_runs(config), config.out / "finished.json")
    print(f"look at {config.out / 'report.html'}")
    print(f"weights in {config.out / 'weights'}; for LeRobot: emu-robot to-lerobot weights={config.out / 'weights'}")
