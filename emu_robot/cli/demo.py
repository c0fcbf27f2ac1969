"""`emu-robot demo`: an `eval` of long-horizon episodes with the released weights."""

from collections.abc import Sequence

from emu_robot.cli import eval as eval_verb


def run(arguments: Sequence[str]) -> None:
    """Run the demo. It has the keys of `eval`."""
    eval_verb.run(arguments, verb="demo")
