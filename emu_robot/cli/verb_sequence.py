"""Runs several verbs in order, each once. A stopped sequence continues where it was. Imports nothing heavy."""

import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emu_robot.shared.durations import duration
from emu_robot.shared.files import replace_json

FUNCTIONS = {
    "choose-goal": "emu_robot.training.goal_choice:choose_goal",
    "choose-tokenizer": "emu_robot.training.tokenizer_choice:choose_tokenizer",
    "collect": "emu_robot.cli.collect:collect_demonstrations",
    "estimate": "emu_robot.training.estimate:estimate",
    "estimate-preparation": "emu_robot.training.estimate:estimate_preparation",
    "encode": "emu_robot.training.tokenizer:encode",
    "merge": "emu_robot.data.merge:merge",
    "prepare": "emu_robot.data.prepare:prepare",
    "report": "emu_robot.training.finetune_report:write_report",
    "train-tokenizer": "emu_robot.training.tokenizer:train",
    "train-planner": "emu_robot.training.planner:train",
    "train-dida": "emu_robot.training.dida:train",
    "train-head": "emu_robot.training.head:train",
}

ESTIMATE = "estimate.json"
"""File of the verb estimate, beside the record of finished runs."""

type VerbRun = tuple[str, str]
"""Verb, and a name that tells its runs apart."""


def run_verbs(configs: Mapping[VerbRun, Any], finished: Path) -> None:
    """Run the verbs in order. `finished` records each with its settings, so that a changed one runs again."""
    done: dict[str, str] = json.loads(finished.read_text()) if finished.exists() else {}
    names = [f"{verb} {preset}" for verb, preset in configs]
    for (verb, preset), config in configs.items():
        name, settings = f"{verb} {preset}", repr(config)
        if done.get(name) == settings:
            print(f"{name}: finished before")
            continue
        print(f"{name}: started{_outlook(finished.with_name(ESTIMATE), name, names)}", flush=True)
        module, function = FUNCTIONS[verb].split(":")
        begun = time.monotonic()
        getattr(importlib.import_module(module), function)(config)
        print(f"{name}: took {duration(time.monotonic() - begun)}", flush=True)
        done[name] = settings
        replace_json(finished, done)


def _outlook(estimate: Path, name: str, names: Sequence[str]) -> str:
    """How long a run will take, and all that follow it, if that was estimated."""
    seconds = json.loads(estimate.read_text())["seconds"] if estimate.exists() else {}
    if name not in seconds:
        return ""
    rest = sum(seconds.get(later, 0.0) for later in names[names.index(name) + 1 :])
    return f"; about {duration(seconds[name])}" + (f", and {duration(rest)} for all that follows" if rest else "")
