"""Evaluations read back from their folders, and what makes them comparable. Runs nothing."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu_robot import environments
from emu_robot.errors import ConfigError, DataError, SystemSetupError, UnknownNameError
from emu_robot.evaluation.failures import KINDS, failure_kinds
from emu_robot.evaluation.made_with import flat
from emu_robot.evaluation.records import EpisodeRecord, per_task, read_json
from emu_robot.shared.typed import first_line

INFO, SETTINGS = "eval_info.json", "settings.json"

type Layout = tuple[str, int]
"""Task and seed."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished evaluation."""

    name: str
    """Its name on the page."""
    folder: Path
    """Folder that `emu-robot eval` wrote."""
    info: dict[str, Any]
    """Content of eval_info.json."""
    records: tuple[EpisodeRecord, ...]
    """Its episodes."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the evaluation and what it was made with, one level of names."""
        return flat(self.info["config"]) | flat(self.info["made_with"])

    @property
    def conditions(self) -> dict[str, Any]:
        """All that must be equal for a comparison, in words -> value."""
        caps = {f"step cap of {task}": some[0].max_steps for task, some in per_task(self.records).items()}
        return {
            "env": self.info["config"]["env"],
            "split": self.info["config"]["split"],
            "tasks": ", ".join(sorted(per_task(self.records))),
            **caps,
            "control rate [Hz]": self.records[0].control_hz,
            "success rule": self.info["environment"]["success_rule"],
        }

    @property
    def layouts(self) -> dict[Layout, EpisodeRecord]:
        """Task and seed -> the episode."""
        return {(record.task, record.seed): record for record in self.records}

    @property
    def versions(self) -> dict[str, Any]:
        """Versions of what makes the scenes."""
        return dict(self.info["environment"]["versions"])


def read_run(folder: Path, name: str) -> Run:
    """The evaluation in a folder. Raises `DataError` if there is none, if it is not finished, or damaged."""
    if not (folder / INFO).exists():
        if (folder / SETTINGS).exists():
            raise DataError(f"{folder}: the evaluation is not finished; the same command with resume=true continues")
        raise DataError(f"{folder}: no evaluation (no {INFO}); give a folder that emu-robot eval wrote")
    info = read_json(folder / INFO)
    try:
        n, needed = int(info["config"]["n"]), [info["config"][key] for key in ("env", "split")]
        needed += [info["environment"]["success_rule"], info["command"], info["commit"], info["machine"]]
        needed += [dict(info["environment"]["versions"]), dict(info["made_with"]), info["seeds"]["first"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / INFO}: not of emu-robot eval ({first_line(error)})") from error
    files = sorted((folder / "episodes").glob("[0-9]*.json"))
    records = [record for record in map(EpisodeRecord.read, files) if record.index < n]
    if not records or len(records) != n:
        raise DataError(f"{folder}: {len(records)} episodes, {INFO} says {n}")
    return Run(name=name, folder=folder, info=info, records=tuple(records))


def read_runs(folders: Sequence[str], names: Sequence[str]) -> list[Run]:
    """The evaluations in these folders, named so or by their folders. Raises `ConfigError` for fewer than two."""
    if len(folders) < 2:
        raise ConfigError(f"runs= names {len(folders)} folders; a comparison needs two or more, as in runs=a,b")
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"runs={','.join(folders)} names a folder twice")
    if names and len(names) != len(folders):
        raise ConfigError(f"names= has {len(names)} names, runs= has {len(folders)} folders")
    short = [path.name for path in paths]
    own = list(names) or (short if len(set(short)) == len(short) else list(folders))
    if len(set(own)) < len(own):
        raise ConfigError(f"names={','.join(own)} has a name twice")
    return [read_run(Path(folder), name) for folder, name in zip(folders, own, strict=True)]


def different_conditions(runs: Sequence[Run]) -> list[str]:
    """Conditions in which a run differs from the first, for instance "split: a seen, b heldout"."""
    first, found = runs[0], []
    for run in runs[1:]:
        for what in dict.fromkeys([*first.conditions, *run.conditions]):
            one, other = (some.conditions.get(what, "none") for some in (first, run))
            if one != other:
                found.append(f"{what}: {first.name} {one}, {run.name} {other}")
    return found


def different_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Name of every setting or version that is not the same in all runs -> its value in each."""
    every = [run.settings for run in runs]
    names = dict.fromkeys(name for settings in every for name in settings)
    values = {name: [_told(settings.get(name)) for settings in every] for name in names}
    return {name: told for name, told in values.items() if len(set(told)) > 1}


def meanings(runs: Sequence[Run]) -> dict[str, str]:
    """Kind of failure -> its meaning, as far as the environments of the runs are installed."""
    known = dict(KINDS)
    for name in {run.info["config"]["env"] for run in runs}:
        with suppress(SystemSetupError, UnknownNameError):
            known |= failure_kinds(environments.suite(name).spec)
    return known


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    text = "none" if value is None else str(value)
    return text[:16] + "…" if len(text) == 64 and text.isalnum() else text  # a hash
