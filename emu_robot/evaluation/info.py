"""`eval_info.json`: results with LeRobot's names and nesting (per_task, per_group, overall), and how to repeat them."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emu_robot.evaluation.config import EvalConfig, LayoutsConfig
from emu_robot.evaluation.records import (
    EpisodeRecord,
    mean_over_groups,
    mean_over_tasks,
    per_composition,
    per_group,
    per_task,
    rewards_of,
    successes,
)
from emu_robot.evaluation.statistics import Mean, Proportion
from emu_robot.shared.provenance import commit


def eval_info(
    config: EvalConfig, records: Sequence[EpisodeRecord], eval_s: float, made: Mapping[str, Any]
) -> dict[str, Any]:
    """The evaluation as LeRobot writes it. Without rewards of the environment, see `records.rewards_of`.

    made: the record that `made_with` gave at the start.
    """
    spec = config.suite().spec
    overall = _aggregate(records) | {"eval_s": eval_s, "eval_ep_s": eval_s / max(1, len(records))}
    return {
        "per_task": [
            {"task_group": some[0].group, "task_id": task_id, "task": name, "metrics": _metrics(some)} | _success(some)
            for task_id, (name, some) in enumerate(per_task(records).items())
        ],
        "per_group": {
            name: _aggregate(some) | {"mean_over_tasks": _mean(mean_over_tasks(some))}
            for name, some in per_group(records).items()
        },
        "per_composition": {name: _success(some) for name, some in per_composition(records).items()},
        "overall": overall
        | {
            "mean_over_tasks": _mean(mean_over_tasks(records)),
            "mean_over_groups": _mean(mean_over_groups(records)),
        },
        "environment": {"success_rule": spec.success_rule, "versions": dict(spec.versions)},
        "per_episode": [_episode(record) for record in records],
        "failures": failure_counts(records),
        "command": config.command(),
        "made_with": made,
        **measured_with(config),
    }


def measured_with(config: LayoutsConfig) -> dict[str, Any]:
    """Provenance of a measurement: seeds, commit, machine, settings."""
    return {
        "seeds": {"first": config.episode_seed(0), "last": config.episode_seed(config.n - 1)},
        "commit": commit(),
        "machine": machine(),
        "config": config.settings() | {"n": config.n},
    }


def failure_counts(records: Sequence[EpisodeRecord]) -> dict[str, int]:
    """Kind of failure -> its number of episodes, most frequent first."""
    kinds = [record.failure for record in records if record.failure is not None]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))}


def machine() -> str:
    """The kind of machine, without its name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{len(models)} x {models[0]}" if models else model
    return f"{cpu}, {platform.system()}, Python {platform.python_version()}"


def _metrics(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    rewards = [rewards_of(record) for record in records]
    return {
        "sum_rewards": [total for total, _ in rewards],
        "max_rewards": [largest for _, largest in rewards],
        "successes": [record.success for record in records],
        "video_paths": [record.clip for record in records if record.clip],
    }


def _aggregate(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    totals, largest = zip(*map(rewards_of, records), strict=True) if records else ((), ())
    return {
        "avg_sum_reward": sum(totals) / max(1, len(records)),
        "avg_max_reward": sum(largest) / max(1, len(records)),
        **_success(records),
        "video_paths": [record.clip for record in records if record.clip],
    }


def _success(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    proportion = successes(records)
    return _mean(proportion) | {"n_success": proportion.successes, "n_episodes": proportion.n}


def _mean(figure: Proportion | Mean) -> dict[str, Any]:
    low, high = figure.interval
    return {"pc_success": 100 * figure.rate, "pc_success_ci95": [100 * low, 100 * high]}


def _episode(record: EpisodeRecord) -> dict[str, Any]:
    total, largest = rewards_of(record)
    return {
        "episode_ix": record.index,
        "sum_reward": total,
        "max_reward": largest,
        "success": record.success,
        "seed": record.seed,
        "task": record.task,
        "task_group": record.group,
        "instruction": record.instruction,
        "n_steps": record.n_steps,
        "subtasks_done": sum(record.subtasks_done),
        "n_subtasks": len(record.subtasks_done),
        "compositions": list(record.compositions),
        "failure": record.failure,
    }
