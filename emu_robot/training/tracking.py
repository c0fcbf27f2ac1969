"""Shows a run's metrics in TensorBoard, trackio or Weights & Biases. The record is metrics.jsonl.

At every start a tracker receives all lines of the record, so that a resumed run, or one tracked only from some step on,
shows neither gaps nor duplicates.
"""

import importlib
import importlib.util
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from emu_robot.errors import SystemSetupError, UnknownNameError
from emu_robot.shared.files import replace_text

PROJECT = "emu_robot"
"""Project name of all runs."""

type Settings = dict[str, str | int | float | bool]


class TrackerName(StrEnum):
    """The trackers to choose from."""

    none = "none"
    tensorboard = "tensorboard"
    trackio = "trackio"
    wandb = "wandb"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as a tracker shows it."""

    folder: Path
    """The stage's folder with checkpoint and metrics."""
    id: str
    """A random id, which stays the same when the run is resumed."""
    settings: Settings
    """Hyperparameters by dotted name."""

    @property
    def name(self) -> str:
        """The three last folders, which name experiment and stage, and the id."""
        return "-".join([*self.folder.resolve().parts[-3:], self.id])


class Tracker(Protocol):
    """Shows metrics. `log` is called with ascending steps, for some steps twice with different metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show metrics after `step` steps, unless an earlier start showed them."""
        ...

    def close(self) -> None:
        """Write the remaining metrics."""
        ...


class TensorboardTracker:
    """Event files in folder/tensorboard, replaced at every start."""

    def __init__(self, run: Run) -> None:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        hparams = importlib.import_module("torch.utils.tensorboard.summary").hparams
        folder = run.folder / "tensorboard"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = tensorboard.SummaryWriter(
            folder, purge_step=0
        )  # also clears the memory of a running TensorBoard
        for summary in hparams(run.settings, {"loss": 0}):
            self._writer.file_writer.add_summary(summary)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class TrackioTracker:
    """A local trackio run, replaced at every start (`trackio show`); with TRACKIO_SPACE_ID, a run of that Space."""

    def __init__(self, run: Run) -> None:
        trackio = importlib.import_module("trackio")
        with suppress(ValueError):  # there is no such project yet
            for known in trackio.Api().runs(PROJECT):
                if known.name == run.name:
                    known.delete()
        self._run = trackio.init(project=PROJECT, name=run.name, config=run.settings, embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class WandbTracker:
    """A run of Weights & Biases, resumed by its id. Files are in folder/wandb; WANDB_MODE=offline keeps them there.

    A server accepts a step once, so that earlier steps are not sent again.
    """

    def __init__(self, run: Run) -> None:
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(
            project=project, id=run.id, name=run.name, dir=run.folder, config=run.settings, resume="allow"
        )
        self._first = self._run.step  # 0 offline: every start then keeps the whole run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step >= self._first:
            self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[Run], Tracker]] = {
    TrackerName.tensorboard: TensorboardTracker,
    TrackerName.trackio: TrackioTracker,
    TrackerName.wandb: WandbTracker,
}
"""Trackers by name, which is also the name of the package."""


def check_tracker(name: str) -> None:
    """Raise `UnknownNameError`, or `SystemSetupError` if the package is missing. A cheap check in advance."""
    if name == TrackerName.none:
        return
    if name not in TRACKERS:
        raise UnknownNameError("tracker", name, TrackerName)
    if importlib.util.find_spec(name) is None:
        raise SystemSetupError(f"track={name} needs the package {name}; in the checkout: pip install -e '.[tracking]'")


def start_tracker(name: str, folder: Path, config: Any, *, resumed: bool) -> Tracker | None:
    """The tracker of that name for the run in `folder`. config: a dataclass, shown as hyperparameters.

    Raises the errors of `check_tracker`.
    """
    check_tracker(name)
    if name == TrackerName.none:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tracking_id"
    if not (resumed and path.exists()):
        replace_text(path, secrets.token_hex(4))
    return TRACKERS[name](Run(folder=folder, id=path.read_text(), settings=flatten(asdict(config))))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested settings by dotted name. Values other than numbers and truth values become text."""
    flat: Settings = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, int | float) else str(value)
    return flat
