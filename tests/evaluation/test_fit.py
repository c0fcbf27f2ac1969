"""Weights that do not fit an environment are refused, and both values are named."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import fakes
import pytest
from tiny_weights import write_weights

from emu_robot.environments.contract import CameraSpec
from emu_robot.errors import ConfigError, EmuRobotError, WeightsError
from emu_robot.evaluation.config import EvalConfig
from emu_robot.evaluation.fit import check_fit, check_head
from emu_robot.evaluation.imagination import ImagineConfig, imagination
from emu_robot.evaluation.plan_accuracy import PlanAccuracyConfig, plan_accuracy
from emu_robot.evaluation.rollouts import evaluate
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.decoding.config import Decoder
from emu_robot.policy.config import GoalMode
from emu_robot.policy.weights_contract import HeadContract, head_contract, planner_camera, planner_path
from emu_robot.robots.spec import PANDA, ActionKind, RobotLayout

MINI = head_contract(resolve_weights("mini"))


def test_released_weights_are_read_and_fit():
    assert (MINI.control_hz, MINI.cameras, MINI.image_size) == (20, ("front", "wrist"), 128)
    assert MINI.layout.action_kind is ActionKind.TARGET, "absent, but with relative dimensions"
    assert MINI.layout.gripper_open is None and MINI.layout.agrees(PANDA.layout)
    assert planner_camera(resolve_weights("mini")) == ("front", 128)
    check_fit(EvalConfig(env="tabletop"))
    check_head(EvalConfig(), MINI, fakes.SPEC)


CAMERA = {"wrist": CameraSpec(height=128, width=128)}
NAMES = ("shoulder", *PANDA.action_names[1:])


@pytest.mark.parametrize(
    ("head", "spec", "said"),
    [
        ({"control_hz": 10}, {}, "control rate is 10 Hz in the weights, 20 Hz"),
        ({"cameras": ("top",)}, {}, "camera is top in the weights, front, wrist"),
        (
            {},
            {"cameras": CAMERA | {"front": CameraSpec(height=96, width=128)}},
            "size of camera front is 128 x 128 in the weights, 96 x 128",
        ),
        ({"layout": replace(PANDA.layout, action_names=NAMES)}, {}, "action names is shoulder, joint2.pos"),
        (
            {"layout": replace(PANDA.layout, action_kind=ActionKind.DELTA)},
            {},
            "action kind is delta in the weights, target",
        ),
        ({"layout": replace(PANDA.layout, n_grippers=0)}, {}, "n grippers is 0 in the weights, 1"),
        (
            {"layout": replace(PANDA.layout, gripper_open=-1.0)},
            {},
            "gripper open is -1.0 in the weights, 1.0",
        ),
        ({"layout": replace(PANDA.layout, state_units=("deg",) * 8)}, {}, "state units is deg, deg"),
    ],
)
def test_what_does_not_fit_names_both_values(head, spec, said):
    with pytest.raises(WeightsError, match=f"weights mini do not fit env=fake: {said}"):
        check_head(EvalConfig(env="fake"), replace(MINI, **head), replace(fakes.SPEC, **spec))


def test_the_planner_must_see_what_it_plans_in(tmp_path):
    write_weights(tmp_path, cameras=("top", "front"))
    with pytest.raises(WeightsError, match="camera is top in the weights, front, wrist"):
        check_fit(EvalConfig(env="fake", policy=str(tmp_path)))


@pytest.fixture
def unadapted(tmp_path: Path) -> Path:
    """Weights whose planner decodes one code at a time."""
    weights = write_weights(tmp_path / "weights", dida_path="")
    assert planner_path(weights) == "" and planner_path(resolve_weights("mini")) == "metric"
    return weights


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"decoder": Decoder.DIDA}, ConfigError, "decoder=dida needs weights adapted"),
        ({"goal": GoalMode.NONE, "n_action_steps": 17}, ConfigError, "n_action_steps is 17; the head predicts 16"),
        (
            {"env": "tabletop"},
            WeightsError,
            "size of camera front is 32 x 32 in the weights, 128 x 128",
        ),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused_before_old_results_go(
    tmp_path: Path, unadapted: Path, settings: dict, error: type[EmuRobotError], said: str, monkeypatch
):
    cameras = dict.fromkeys(("front", "wrist"), CameraSpec(height=32, width=32))
    monkeypatch.setattr(fakes.FakeSuite, "spec", replace(fakes.SPEC, cameras=cameras))
    old = tmp_path / "out/episodes/00000.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    (tmp_path / "out/settings.json").write_text("old")
    with pytest.raises(error, match=said):
        evaluate(EvalConfig(**{"env": "fake", "policy": str(unadapted), "out": tmp_path / "out"} | settings))
    assert old.read_text() == "{}" and (tmp_path / "out/settings.json").read_text() == "old"


@pytest.mark.parametrize(("config", "measure"), [(ImagineConfig, imagination), (PlanAccuracyConfig, plan_accuracy)])
def test_a_planner_is_not_measured_with_a_decoder_that_it_lacks(tmp_path: Path, unadapted: Path, config, measure):
    with pytest.raises(ConfigError, match="decoder=dida needs weights adapted"):
        measure(config(policy=str(unadapted), decoder=Decoder.DIDA, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_say_what_they_are_for_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="stage head does not say its layout and control_hz"):
        HeadContract.of(tmp_path, HeadConfig(), {"control_hz": 20})


def test_layouts_survive_json_and_older_ones_leave_open_what_they_do_not_say():
    assert RobotLayout.from_dict(json.loads(json.dumps(asdict(PANDA.layout)))) == PANDA.layout
    old = {"state_names": ["x"], "action_names": ["x"], "n_grippers": 0, "relative_dims": 0}
    assert RobotLayout.from_dict(old).action_kind is ActionKind.UNKNOWN
    assert RobotLayout.from_dict(old | {"relative_dims": 1}).action_kind is ActionKind.TARGET
    pusht = replace(RobotLayout.from_dict(old), action_kind=ActionKind.DELTA)
    assert RobotLayout.from_dict(old).agrees(pusht)
    meta_world = replace(PANDA.layout, gripper_open=-1.0, gripper_closed=1.0)
    assert [meta_world.gripper_command(opening) for opening in (0.0, 0.5, 1.0)] == [1.0, 0.0, -1.0]
    assert list(meta_world.gripper_actions) == [7]
