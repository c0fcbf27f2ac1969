"""`emu-robot imagine [policy=…] [split=…] [n=…]`: look six subtasks ahead without moving, and check what was seen.

Writes a strip and a clip of some scenes, what really came beside what was imagined, and how objects drift with depth.
"""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Print the figures and write them, with pictures, under `out`."""
    config = configure("imagine", arguments)
    if config is None:
        return
    from emu_robot.evaluation.imagination import imagination

    imagination(config)
