"""`emu-robot imagine [policy=…] [split=…] [n=…]`: imagine six subtasks ahead, and compare with their execution.

Writes a strip and a clip of some scenes with true and imagined images, and the drift of objects with depth.
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
