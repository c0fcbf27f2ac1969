"""Runs several verbs in order, each once. A stopped sequence continues where it was. Imports nothing heavy."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emu_robot.shared.files import replace_json

FUNCTIONS = {
    "choose-goal": "emu_robot.training.goal_choice:choose_goal",
    "choose-tokenizer": "emu_robot.training.tokenizer_choice:choose_tokenizer",
    "collect": "emu_robot.cli.collect:collect_demonstrations",
    "encode": "emu_robot.training.tokenizer:encode",
    "merge": "emu_robot.data.merge:merge",
    "prepare": "emu_robot.data.prepare:prepare",
    "report": "emu_robot.training.finetune_report:write_report",
    "train-tokenizer": "emu_robot.training.tokenizer:train",
    "train-planner": "emu_robot.training.planner:train",
    "train-dida": "emu_robot.training.dida:train",
    "train-head": "emu_robot.training.head:train",
}

type VerbRun = tuple[str, str]
"""Verb, and a name that tells its runs apart."""


def run_verbs(configs: Mapping[VerbRun, Any], finished: Path) -> None:
    """Run the verbs in order. `finished` records each with its settings, so that a changed one runs again."""
    done: dict[str, str] = json.loads(finished.read_text()) if finished.exists() else {}
    for (verb, preset), config in configs.items():
        name, settings = f"{verb} {preset}", repr(config)
        if done.get(name) == settings:
            print(f"{name}: finished before")
            continue
        print(f"{name}: started", flush=True)
        module, function = FUNCTIONS[verb].split(":")
        getattr(importlib.import_module(module), function)(config)
        done[name] = settings
        replace_json(finished, done)
