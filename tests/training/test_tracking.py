"""Trackers show what metrics.jsonl says: the same numbers at the same steps, a resumed run without gap or double."""

import importlib
import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emu_robot.cli import train
from emu_robot.config import load_config
from emu_robot.errors import SystemSetupError, UnknownNameError
from emu_robot.training.loop import Batch, LoopConfig, Metrics, fit
from emu_robot.training.tracking import PROJECT, TrackerName, check_tracker, flatten, start_tracker

type Point = tuple[int, float]

SETTINGS: Any = {"batch_size": 4, "warmup_steps": 2, "log_every": 2, "save_every": 5, "eval_every": 4}


def run(out: Path, track: TrackerName, steps: int = 12, stop_at: int = 12) -> dict[str, list[Point]]:
    """Train, and go on where a run of fewer steps was stopped; name -> (step, value) as in metrics.jsonl."""

    def batch(step: int) -> dict[str, torch.Tensor]:
        if step == stop_at:
            raise KeyboardInterrupt
        return {"x": torch.full((4, 3), step / 10)}

    def loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, Metrics]:
        return model(batch["x"]).square().mean(), {"size": batch["x"].mean()}

    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    fit(model, batch, loss, LoopConfig(steps=steps, track=track, **SETTINGS), out, "stage", lambda _: {"val_loss": 0.5})
    points: dict[str, list[Point]] = {}
    for line in (out / "stage/metrics.jsonl").read_text().splitlines():
        content = json.loads(line)
        for name in content.keys() - {"step", "seconds"}:
            points.setdefault(name, []).append((content["step"], content[name]))
    return points


def stop_and_go_on(out: Path, track: TrackerName) -> dict[str, list[Point]]:
    """Metrics of a run stopped after step 9, past its checkpoint at step 5, and finished."""
    with pytest.raises(KeyboardInterrupt):
        run(out, track, stop_at=9)
    points = run(out, track)
    assert [step for step, _ in points["loss"]] == [2, 4, 6, 8, 10, 12]
    return points


def assert_equal(shown: Callable[[str], list[Point]], points: dict[str, list[Point]]) -> None:
    assert set(points) == {"loss", "grad_norm", "lr", "size", "val_loss"}
    for name, expected in points.items():
        steps, values = zip(*shown(name), strict=True)
        assert (steps, values) == (tuple(s for s, _ in expected), pytest.approx([v for _, v in expected], rel=1e-6))


def wandb_records(path: Path) -> list[Any]:
    """Every record of a .wandb file: a LevelDB log in blocks of 32 kB, behind a header of 7 bytes."""
    kind = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    data, place, pending, records = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no room for a header: the block ends in zeros
            place += 32768 - place % 32768
            continue
        _checksum, length, part = struct.unpack_from("<IHB", data, place)
        pending += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # the whole record, or its last part
            records.append(kind.FromString(pending))
            pending = b""
    return records


def test_tensorboard_shows_a_resumed_run_once_and_its_settings(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = stop_and_go_on(tmp_path, TrackerName.tensorboard)
    events = EventAccumulator(str(tmp_path / "stage/tensorboard")).Reload()
    assert_equal(lambda name: [(e.step, e.value) for e in events.Scalars(name)], points)
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    kind = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
    shown = kind.FromString(content).session_start_info.hparams
    assert shown["batch_size"].number_value == 4 and shown["device"].string_value == "auto"


def test_tracking_may_begin_when_a_run_goes_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, TrackerName.none, stop_at=9)
    assert not (tmp_path / "stage/tensorboard").exists()
    points = run(tmp_path, TrackerName.tensorboard)
    events = EventAccumulator(str(tmp_path / "stage/tensorboard")).Reload()
    assert_equal(lambda name: [(e.step, e.value) for e in events.Scalars(name)], points)


def test_wandb_offline_keeps_the_whole_run_at_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = importlib.import_module("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    points = stop_and_go_on(tmp_path, TrackerName.wandb)
    wandb.teardown()  # waits for what still goes to disk
    folder = tmp_path / "stage/wandb"
    assert len({path.name.rpartition("-")[2] for path in folder.glob("offline-run-*")}) == 1  # one id, so one run
    records = wandb_records(next((folder / "latest-run").glob("*.wandb")))
    rows = [{i.key or i.nested_key[0]: json.loads(i.value_json) for i in r.history.item} for r in records]
    assert_equal(lambda name: [(row["_step"], row[name]) for row in rows if name in row], points)
    config = {i.key: json.loads(i.value_json) for r in records for i in r.run.config.update}
    assert config["batch_size"] == 4 and config["track"] == "wandb"


def test_trackio_keeps_a_resumed_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # is read at the first import
    trackio = importlib.import_module("trackio")
    points = stop_and_go_on(tmp_path, TrackerName.trackio)
    (one,) = trackio.Api().runs(PROJECT)
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    rows = storage.get_logs(PROJECT, one.name)
    assert_equal(lambda name: [(row["step"], row[name]) for row in rows if name in row], points)
    assert one.config["batch_size"] == 4


def test_a_new_run_gets_another_id_and_one_that_goes_on_keeps_it(tmp_path: Path) -> None:
    def start(resumed: bool) -> str:
        tracker = start_tracker("tensorboard", tmp_path / "a", LoopConfig(), resumed=resumed)
        assert tracker is not None
        tracker.close()
        return (tmp_path / "a/tracking_id").read_text()

    first, second = start(False), start(False)
    assert first != second == start(True)


def test_the_tracker_is_no_part_of_what_a_run_is() -> None:
    assert repr(LoopConfig(track=TrackerName.wandb)) == repr(LoopConfig())


def test_settings_become_plain_values_by_dotted_name() -> None:
    config = load_config("train-planner", ["loop.track=trackio", "out=a/b"])
    shown = flatten({"loop": {"lr": 0.1, "compile": True, "track": config.loop.track}, "out": config.out, "odds": [1]})
    assert shown == {"loop.lr": 0.1, "loop.compile": True, "loop.track": "trackio", "out": "a/b", "odds": "[1]"}


def test_a_missing_package_and_an_unknown_name_say_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemSetupError, match=r"package wandb; in the checkout: pip install -e '.\[tracking\]'"):
        train.run(["stage=head", "loop.track=wandb"])
    with pytest.raises(UnknownNameError, match="unknown loop.track 'comet'; known: none, tensorboard, trackio, wandb"):
        train.run(["stage=head", "loop.track=comet"])
    with pytest.raises(UnknownNameError, match="unknown tracker 'comet'; known: none, tensorboard, trackio, wandb"):
        check_tracker("comet")
