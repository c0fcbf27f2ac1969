"""Record of everything that an evaluation's outcome depends on besides its settings: weights, versions, rendering."""

import os
from importlib.metadata import version
from typing import Any

from emu_robot.evaluation.config import EvalConfig
from emu_robot.policy.config import GoalMode
from emu_robot.policy.registry import is_foreign, source_of
from emu_robot.shared.provenance import commit

PACKAGES = ("numpy", "torch")
RENDERERS = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
"""Environment variables that choose the renderer."""


def made_with(config: EvalConfig) -> dict[str, Any]:
    """JSON values: sha256 of each stage's weights, versions, commit, control rate [Hz], cameras [px], renderer.

    Raises `WeightsError` where weights are missing.
    """
    spec = config.suite().spec
    weights: dict[str, str] = weights_of(config.policy, *stages(config))
    if is_foreign(config.policy):
        source, name = source_of(config.policy)
        weights = dict(source.made_with(name))
    return {
        "weights": weights,
        "versions": {name: version(name) for name in PACKAGES} | dict(spec.versions),
        "commit": commit(),
        "control_hz": spec.control_hz,
        "cameras": {name: str(size) for name, size in spec.cameras.items()},
        "renderer": {name: os.environ[name] for name in RENDERERS if name in os.environ},
    }


def differences(before: Any, now: dict[str, Any]) -> list[str]:
    """What differs, for instance "torch 2.11.0, here 2.12.0"; everything where `before` is no such record."""
    known, present = flat(before), flat(now)
    return [
        f"{name} {known.get(name, 'not recorded')}, here {present.get(name, 'none')}"
        for name in dict.fromkeys([*known, *present])
        if known.get(name) != present.get(name)
    ]


def weights_of(policy: str, *stages: str) -> dict[str, str]:
    """Stage -> sha256 of its weights in a released name or folder; none for no stages. Raises `WeightsError`."""
    if not stages:
        return {}
    from emu_robot.models.weights import resolve_weights, stage_hash  # reading weights loads torch

    folder = resolve_weights(policy)
    return {stage: stage_hash(folder, stage) for stage in stages}


def stages(config: EvalConfig) -> tuple[str, ...]:
    """The stages of the weights that act."""
    if not config.is_ours:
        return ()
    return ("head", "planner", "tokenizer") if GoalMode(config.goal).needs_planner else ("head",)


def flat(record: Any) -> dict[str, Any]:
    """One level of names: "weights.head" for a nested one; {} for a record that is none."""
    if not isinstance(record, dict):
        return {}
    values: dict[str, Any] = {}
    for name, value in record.items():
        nested = isinstance(value, dict)
        values |= {f"{name}.{key}": one for key, one in flat(value).items()} if nested else {name: value}
    return values
