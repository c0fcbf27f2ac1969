"""`emu-robot collect env=tabletop n=… out=… key=value ...`"""

from collections.abc import Callable, Sequence
from typing import Any

from emu_robot.cli.options import configure
from emu_robot.core import PlanStep, Policy


def run(arguments: Sequence[str]) -> None:
    """Let the experts make demonstrations; run again after a stop, it goes on and loses nothing."""
    config = configure("collect", arguments)
    if config is not None:
        collect_demonstrations(config)


def collect_demonstrations(config: Any) -> None:
    """Collect what a `CollectConfig` says, with its policy, if it names one, driving in between."""
    from emu_robot.data.collect import collect

    collect(config, load_head)


def load_head(weights: str, true_step: Callable[[], PlanStep | None]) -> Policy:
    """The policy of these weights without its planner, its subgoals from `true_step`; it computes on one thread."""
    import torch

    from emu_robot.policy.emu_policy import load_policy

    torch.set_num_threads(1)
    return load_policy(weights, goal="oracle", subgoal_source=true_step)
