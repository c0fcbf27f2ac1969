"""`emu-robot collect env=tabletop n=… out=… key=value ...`"""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Let the experts make demonstrations; run again after a stop, it goes on and loses nothing."""
    config = configure("collect", arguments)
    if config is None:
        return
    from emu_robot.data.collect import collect

    collect(config)
