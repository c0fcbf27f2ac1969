"""`emu-robot serve-vla-eval [policy=…] [cameras.front=…] [port=…]`: a policy for the benchmarks of vla-eval."""

from collections.abc import Sequence

from emu_robot.cli.options import configure


def run(arguments: Sequence[str]) -> None:
    """Serve until Ctrl-C."""
    config = configure("serve-vla-eval", arguments)
    if config is None:
        return
    import anyio

    from emu_robot.serving.vla_eval import serve

    anyio.run(serve, config)
