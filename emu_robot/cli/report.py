"""`emu-robot report runs=outputs/a,outputs/b [names=old,new] [out=…]`: compare evaluations on one page."""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Write the page. Prints the differences to the first run and the page's path."""
    config = configure("report", arguments)
    if config is None:
        return
    from emu_robot.evaluation.comparison_page import compare_runs

    compare_runs(config)
