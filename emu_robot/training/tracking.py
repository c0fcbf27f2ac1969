"""A run's metrics in TensorBoard, trackio or Weights & Biases as well; metrics.jsonl stays the truth.

At every start a tracker is told again what stands there, so that a run that was cut off, or tracked only from some step
on, shows neither gap nor double.
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
"""What runs are filed under."""

type Settings = dict[str, str | int | float | bool]


class TrackerName(StrEnum):
    """The trackers to choose from; members are named as they are typed in a configuration."""

    none = "none"
    tensorboard = "tensorboard"
    trackio = "trackio"
    wandb = "wandb"


@dataclass(frozen=True, kw_only=True)
class Run:
    """folder: where a stage keeps its checkpoint and metrics. id: random, the same whenever the run goes on.

    settings: hyperparameters by dotted name.
    """

    folder: Path
    id: str
    settings: Settings

    @property
    def name(self) -> str:
        """Of the three last folders, so that it tells experiment and stage, and of the id."""
        return "-".join([*self.folder.resolve().parts[-3:], self.id])


class Tracker(Protocol):
    """Where metrics are shown; `log` is called with ascending steps, some of them twice with other metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show metrics after `step` steps, unless they are there from an earlier start."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


class TensorboardTracker:
    """Event files in folder/tensorboard, written anew at every start."""

    def __init__(self, run: Run) -> None:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        hparams = importlib.import_module("torch.utils.tensorboard.summary").hparams
        folder = run.folder / "tensorboard"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = tensorboard.SummaryWriter(folder, purge_step=0)  # also purges what a running TensorBoard holds
        for summary in hparams(run.settings, {"loss": 0}):
            self._writer.file_writer.add_summary(summary)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class TrackioTracker:
    """A local trackio run, written anew at every start (`trackio show`); or a Space's, by TRACKIO_SPACE_ID."""

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
    """A run of Weights & Biases that goes on by its id, its files in folder/wandb; WANDB_MODE=offline keeps it there.

    A server takes a step once: those it has had are not sent again.
    """

    def __init__(self, run: Run) -> None:
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(
            project=project, id=run.id, name=run.name, dir=run.folder, config=run.settings, resume="allow"
        )
        self._first = self._run.step  # 0 offline: then every start keeps the whole

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
"""By name, which is also that of the package."""


def check_tracker(name: str) -> None:
    """Raise `UnknownNameError`, or `SystemSetupError` where the package is missing; cheap, to be asked beforehand."""
    if name == TrackerName.none:
        return
    if name not in TRACKERS:
        raise UnknownNameError("tracker", name, TrackerName)
    if importlib.util.find_spec(name) is None:
        raise SystemSetupError(f"track={name} needs the package {name}; in the checkout: pip install -e '.[tracking]'")


def start_tracker(name: str, folder: Path, config: Any, *, resumed: bool) -> Tracker | None:
    """The tracker of that name for the run in `folder`; config: a dataclass, shown as hyperparameters.

    Raises what `check_tracker` raises.
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
    """Nested settings by dotted name; what is neither a number nor a truth value becomes text."""
    flat: Settings = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, int | float) else str(value)
    return flat
