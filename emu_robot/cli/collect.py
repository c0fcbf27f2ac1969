"""`emu-robot collect env=tabletop n=… out=… key=value ...`: record demonstrations by the scripted experts."""

from collections.abc import Callable, Sequence
from typing import Any

from emu_robot.cli.options import configure
from emu_robot.core import PlanStep, Policy


def run(arguments: Sequence[str]) -> None:
    """Record demonstrations. After a stop the same command continues without loss."""
    config = configure("collect", arguments)
    if config is not None:
        collect_demonstrations(config)


def collect_demonstrations(config: Any) -> None:
    """Collect the demonstrations of a `CollectConfig`. If it names a policy, the policy acts part of the time."""
    from emu_robot.data.collect import collect

    collect(config, load_head)


def load_head(weights: str, true_step: Callable[[], PlanStep | None]) -> Policy:
    """The policy of these weights with subgoals from `true_step` in place of a planner, on one thread."""
    import torch

    from emu_robot.policy.emu_policy import load_policy

    torch.set_num_threads(1)
    return load_policy(weights, goal="oracle", subgoal_source=true_step)
