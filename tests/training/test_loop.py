"""The loop's promises: resumed equals uninterrupted, settings are guarded, damage is named."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from emu_robot.errors import ConfigError, InvalidValueError, SystemSetupError, WeightsError
from emu_robot.shared.interrupts import Interrupted
from emu_robot.training import loop
from emu_robot.training.loop import DType, LoopConfig, fit, learning_rate, step_rng


def config(**changes) -> LoopConfig:
    settings = {"steps": 12, "batch_size": 4, "lr": 1e-2, "warmup_steps": 2, "log_every": 4, "save_every": 5}
    return LoopConfig(**{**settings, **changes})


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.Linear(8, 1))


def batch(step: int) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(step_rng(0, step).normal(size=(4, 3)).astype(np.float32))
    return {"x": x, "y": x.sum(1, keepdim=True)}


def loss(model: nn.Module, batch: dict[str, torch.Tensor]):
    error = (model(batch["x"]) - batch["y"] - 0.1 * torch.randn(4, 1)).square().mean()
    return error, {"rmse": error.detach().sqrt()}


def test_resumed_run_is_bit_identical_to_uninterrupted(tmp_path: Path) -> None:
    whole = fit(model(), batch, loss, config(), tmp_path / "a", "stage")

    def killed(step: int):
        if step == 8:
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        fit(model(), killed, loss, config(), tmp_path / "b", "stage")
    resumed = fit(model(), batch, loss, config(), tmp_path / "b", "stage")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    checkpoints = [torch.load(tmp_path / run / "stage/checkpoint.pt", weights_only=True) for run in "ab"]
    for name, tensor in checkpoints[0]["model"].items():
        assert torch.equal(tensor, checkpoints[1]["model"][name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "b/stage/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12


def test_a_training_says_early_how_long_it_takes_and_needs_room_for_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(step: int):
        time.sleep(0.02)
        return batch(step)

    fit(model(), slow, loss, config(steps=56), tmp_path, "stage")
    said = re.search(r"stage: about (\d+) s for 50 more steps at (\d\.\d\d) s; \d", capsys.readouterr().err)
    assert said is not None and float(said[2]) >= 0.02 and abs(int(said[1]) - 50 * float(said[2])) <= 1
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(SystemSetupError, match="GB needed"):
        fit(model(), batch, loss, config(), tmp_path, "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    def signalled(step: int):
        if step == 6:
            os.kill(os.getpid(), number)
        return batch(step)

    with pytest.raises(Interrupted, match="stage stopped after step 7 of 12; the same command continues") as stopped:
        fit(model(), signalled, loss, config(), tmp_path / "b", "stage")
    assert stopped.value.number == number
    begun: list[int] = []
    resumed = fit(model(), lambda step: begun.append(step) or batch(step), loss, config(), tmp_path / "b", "stage")
    assert begun == list(range(7, 12))
    whole = fit(model(), batch, loss, config(), tmp_path / "a", "stage")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    def signalled(step: int):
        for _ in range(2 * (step == 6)):
            os.kill(os.getpid(), signal.SIGINT)
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        fit(model(), signalled, loss, config(), tmp_path, "stage")
    assert torch.load(tmp_path / "stage/checkpoint.pt", weights_only=True)["step"] == 5


def test_batches_made_ahead_change_nothing(tmp_path: Path) -> None:
    asked, plain = [], fit(model(), batch, loss, config(), tmp_path / "a", "stage")
    ahead = fit(
        model(), lambda step: asked.append(step) or batch(step), loss, config(prefetch=3), tmp_path / "b", "stage"
    )
    assert sorted(asked) == list(range(12))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, ahead.state_dict()[name]), name


def test_a_batch_that_cannot_be_made_ends_the_run(tmp_path: Path) -> None:
    def damaged(step: int):
        if step == 8:
            raise InvalidValueError("no such image")
        return batch(step)

    with pytest.raises(InvalidValueError, match="no such image"):
        fit(model(), damaged, loss, config(prefetch=3), tmp_path, "stage")


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    fit(model(), batch, loss, config(), tmp_path, "stage")
    with pytest.raises(ConfigError, match=r"lr was 0\.01, is 0\.02"):
        fit(model(), batch, loss, config(lr=2e-2), tmp_path, "stage")


def test_init_from_starts_at_the_other_runs_weights(tmp_path: Path) -> None:
    first = fit(model(), batch, loss, config(), tmp_path, "a")
    start = config(steps=1, lr=1e-12, init_from=tmp_path / "a/checkpoint.pt", weight_decay=0.0)
    second = fit(model(), batch, loss, start, tmp_path, "b")
    for before, after in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(before, after, atol=1e-6)


def test_corrupted_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/checkpoint.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is corrupted"):
        fit(model(), batch, loss, config(), tmp_path, "stage")


def test_divergence_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="not finite"):
        fit(model(), batch, lambda m, b: (m(b["x"]).sum() * torch.inf, {}), config(), tmp_path, "stage")


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    settings = config(steps=100, warmup_steps=10, lr=1.0)
    rates = [learning_rate(settings, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[100] == pytest.approx(0)


def test_bad_settings_raise() -> None:
    with pytest.raises(InvalidValueError, match="steps is 0"):
        LoopConfig(steps=0)


def test_bfloat16_computes_in_it_and_keeps_float32_weights(tmp_path: Path) -> None:
    seen = set()

    def watching(model: nn.Module, batch: dict[str, torch.Tensor]):
        output = model(batch["x"])
        seen.add(output.dtype)
        return (output.float() - batch["y"]).square().mean(), {}

    trained = fit(model(), batch, watching, config(dtype="bfloat16"), tmp_path, "stage")
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


@pytest.mark.parametrize("quick", [True, False])
def test_auto_takes_bfloat16_only_where_it_is_quick(
    quick: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "quick_bfloat16_on_cpu", lambda: quick)
    cpu = torch.device("cpu")
    assert loop.in_bfloat16(DType.auto, cpu) is quick
    assert not loop.in_bfloat16(DType.float32, cpu)
    assert not capsys.readouterr().out
    assert loop.in_bfloat16(DType.bfloat16, cpu)
    assert ("slow here" in capsys.readouterr().out) is not quick
