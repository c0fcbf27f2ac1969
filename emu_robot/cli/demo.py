"""`emu-robot demo [interactive=true]`: long-horizon episodes with the released weights, or one that you steer."""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Run the demo. It has the keys of `eval`; `interactive=true` reads instructions from the standard input."""
    config = configure("demo", arguments)
    if config is None:
        return
    if config.interactive:
        from emu_robot.evaluation.interactive import interactive

        interactive(config)
        return
    from emu_robot.evaluation.rollouts import evaluate

    evaluate(config)
