"""`emu-robot demo`: long-horizon episodes with the released weights, as `eval` runs them."""

from collections.abc import Sequence

from emu_robot.cli import eval as eval_verb


def run(arguments: Sequence[str]) -> None:
    """Run the demo; takes the same keys as `eval`."""
    eval_verb.run(arguments, verb="demo")
