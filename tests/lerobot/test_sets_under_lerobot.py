"""Other people's sets under LeRobot's training: any size, any order of dimensions, any spelling, errors in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot_sets import SmallEpisode, edit_column, small_episode, write_set
from policy_on_small_set import batch, made
from tiny_weights import SIZE

from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError
from emu_robot.lerobot import last_words
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.models.weights import read_manifest
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.head_sampler import HeadSampler, SamplingConfig

PLUGIN = Path(__file__).parents[2] / "emu_robot/lerobot/plugin"
CAMERAS = ("side", "top")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def two_arms(seed: int) -> SmallEpisode:
    """Two arms of two joints and a gripper each, in the order in which ALOHA has them."""
    rng, time = np.random.default_rng(seed), np.linspace(0, np.pi, 30)
    joints = np.sin(time)[:, None] * rng.uniform(0.5, 1.5, 4)
    grippers = np.stack([time > 1, time > 2], 1).astype(float)
    state = np.column_stack([joints[:, :2], grippers[:, :1], joints[:, 2:], grippers[:, 1:]])
    return SmallEpisode(state=state.astype(np.float32))


@pytest.fixture(scope="module")
def arms(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("arms") / "set"
    return write_set(root, [two_arms(i) for i in range(3)], cameras=CAMERAS, names=["j1", "j2", "gripper"] * 2)


def test_pictures_that_need_no_fitting_are_learned_from(weights, tmp_path):
    episodes = [small_episode(seed, n_subtasks=1) for seed in range(2)]
    policy, data = made(weights, write_set(tmp_path / "set", episodes, cameras=CAMERAS, size=(SIZE, SIZE)))
    loss, _ = policy(batch(data, [0, 5, 9]))
    assert torch.isfinite(loss)


def test_pictures_in_any_order_of_memory_are_disturbed_alike(tmp_path):
    sampler = HeadSampler.__new__(HeadSampler)
    sampler._sampling, sampler._noise = SamplingConfig(), torch.randn(1 << 16)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3)).astype(np.uint8)
    for axes in ((0, 3, 1, 2), (3, 0, 2, 1)):
        strided = np.ascontiguousarray(images.transpose(axes)).transpose(np.argsort(axes))
        assert torch.equal(*(sampler.disturb(given, np.random.default_rng(1)) for given in (images, strided)))


def test_a_repeated_name_never_permutes_what_a_robot_is_sent(weights, arms):
    policy, data = made(weights, arms)
    assert policy.config.action_order == [0, 1, 3, 4, 2, 5] == policy.config.state_order
    seen = batch(data, [3])
    sent = policy.predict_action_chunk(seen)[0].numpy()
    policy.reset()
    observation = policy._observations(seen)[0]
    assert np.array_equal(observation.state, seen["observation.state"][0].numpy()[[0, 1, 3, 4, 2, 5]])
    ours = policy._driver("put it away", observation).act(observation).actions
    assert np.allclose(sent, ours[:, [0, 1, 4, 2, 3, 5]], atol=1e-5)


def test_the_order_of_a_set_travels_with_the_weights(weights, arms, tmp_path):
    policy, _ = made(weights, arms)
    policy.save_pretrained(tmp_path / "checkpoint")
    assert read_manifest(tmp_path / "checkpoint")["stages"]["head"]["extra"]["layout"]["action_order"] == [
        0,
        1,
        3,
        4,
        2,
        5,
    ]
    saved = json.loads((to_lerobot(tmp_path / "checkpoint", tmp_path / "again") / "config.json").read_text())
    assert saved["state_order"] == [0, 1, 3, 4, 2, 5] == saved["action_order"]
    manifest = tmp_path / "checkpoint/manifest.json"
    values = json.loads(manifest.read_text())
    values["stages"]["head"]["extra"]["layout"]["unused_actions"] = ["action.j7"]
    manifest.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"commands nothing of action.j7, .* LeRobot needs every action"):
        to_lerobot(tmp_path / "checkpoint", tmp_path / "third")


def test_the_same_set_is_prepared_once_and_a_new_recording_again(weights, tmp_path, monkeypatch):
    root = write_set(tmp_path / "set", [small_episode(i, n_subtasks=1) for i in range(2)], cameras=CAMERAS)
    caches = root / ".emu_robot"
    monkeypatch.chdir(tmp_path)
    made(weights, Path("set"))
    made(weights, root)
    assert len(list(caches.iterdir())) == 1
    table = root / "data/chunk-000/file-000.parquet"
    edit_column(table, "action", lambda rows: [[value + 1 for value in row] for row in rows])
    policy, _ = made(weights, root)
    assert len(list(caches.iterdir())) == 2
    assert policy._fitted is not None and policy._fitted.stats.action_low.min() >= 1
    made(weights, root, use_labels=False)
    assert len(list(caches.iterdir())) == 3


def test_after_a_subtask_deltas_are_zero(tmp_path, weights):
    episodes = [small_episode(i, n_subtasks=1) for i in range(2)]
    for episode in episodes:
        episode.commanded = np.diff(episode.state, axis=0, append=episode.state[-1:])
        episode.commanded[:, 0] = episode.state[:, 0]
    names = ["gripper", "dx", "dy"]
    policy, _ = made(weights, write_set(tmp_path / "set", episodes, cameras=CAMERAS, names=names))
    assert policy._fitted is not None and policy._fitted.layout.rates.tolist() == [True, True, False]
    cache = next((tmp_path / "set/.emu_robot").iterdir())
    data = Demonstrations.load(ReplayBuffer.open(cache), policy.head.config.cameras)
    last = data.segments.keyframe_K[:1]
    chunk = data.chunks(last - 2, last, 8)[0]
    assert np.array_equal(chunk[:3], data.action[last[0] - 2 : last[0] + 1])
    assert (chunk[3:, :2] == 0).all() and (chunk[3:, 2] == data.action[last[0], 2]).all()


def test_cameras_of_any_name_are_the_same_under_lerobot():
    camera = PolicyFeature(FeatureType.VISUAL, (3, 8, 8))
    keys = [f"observation.images.{name}" for name in ("frame", "a.b", "a_b")]
    config = EmuRobotConfig(input_features=dict.fromkeys(keys, camera), device="cpu")
    assert config.cameras == dict(zip(("camera_frame", "a_b", "a_b_2"), keys, strict=True))


def test_our_error_is_found_behind_those_that_wrap_it():
    ours = DataError("the table is gone")
    try:
        try:
            raise ours
        except DataError as error:
            raise ValueError("parsing failed\nat length") from error
    except ValueError as wrapped:
        assert last_words.ours_among(wrapped) is ours
    assert last_words.ours_among(ValueError("other")) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy.planner_camera": "nose"}, "error: unknown planner_camera 'nose'; known: side, top"),
        # LeRobot's parser begins this line.
        pytest.param(
            {"policy.goal": "oracle"},
            "goal is 'oracle', must be one of planner, text, none, auto",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_our_errors_come_last_in_one_line(weights, dataset, tmp_path, settings, said):
    root = shutil.copytree(dataset, tmp_path / "set")
    settings = {
        "dataset.repo_id": "local/set", "dataset.root": root, "dataset.video_backend": "pyav",
        "policy.type": "emu_robot", "policy.weights": weights, "policy.device": "cpu",
        "policy.push_to_hub": "false", "output_dir": tmp_path / "out", "steps": 1,
    } | settings  # fmt: skip
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([str(PLUGIN), *sys.path])}
    words = [sys.executable, "-W", "ignore", "-m", "lerobot.scripts.lerobot_train"]
    words += [f"--{key}={value}" for key, value in settings.items()]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert answer.stderr.strip().splitlines()[-1].endswith(said)
    assert "emu_robot.errors." not in answer.stderr, "a traceback ends with the error's class"
