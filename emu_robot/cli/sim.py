"""`emu-robot sim bench [steps=…]`: environment steps per second of one core, both cameras rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

from emu_robot.cli.options import configure, sub_verb
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Settings of the benchmark."""

    steps: int = number(300, 1)
    """Control steps that are timed."""

    def __post_init__(self) -> None:
        check_ranges(self)


def run(arguments: Sequence[str]) -> None:
    """Print the figures of `emu_sim.bench`, one per line."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    _, overrides = sub_verb("sim", ("bench",), arguments)
    config: BenchConfig | None = configure("sim-bench", overrides, "sim bench")
    if config is None:
        return
    from emu_sim.bench import bench

    for name, value in bench(config.steps).items():
        print(f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}")
