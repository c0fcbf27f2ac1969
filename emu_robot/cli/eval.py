"""`emu-robot eval policy=mini tasks=… split=… n=… goal=…`: measure a policy and write a report."""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Run the episodes. Prints the success table and the report's path at the end."""
    config = configure("eval", arguments)
    if config is None:
        return
    from emu_robot.evaluation.rollouts import evaluate

    evaluate(config)
