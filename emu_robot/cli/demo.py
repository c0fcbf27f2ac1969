"""`emu-robot demo [interactive=true]`: long-horizon episodes with the released weights, or one that you steer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emu_robot.cli.options import configure

SESSIONS = Path("outputs/interactive")
"""Folder of a session without `out=`: a folder holds an evaluation or a session, not both."""


def run(arguments: Sequence[str]) -> None:
    """Run the demo. It has the keys of `eval`; `interactive=true` reads instructions from the standard input."""
    config = configure("demo", arguments)
    if config is None:
        return
    if config.interactive:
        from emu_robot.evaluation.interactive import interactive

        is_given = any(word.startswith("out=") for word in arguments)
        interactive(config if is_given else replace(config, out=SESSIONS))
        return
    from emu_robot.evaluation.rollouts import evaluate

    evaluate(config)
