"""A toy world: one coloured blob on the front image; the arm goes to it, closes the gripper, and goes home."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from emu_robot.core import Image, Observation, PlanStep
from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError
from emu_robot.models.action_head import ActionHead, HeadConfig, HeadSizes, text_ids
from emu_robot.models.normalize import NormStats, RelativeActions
from emu_robot.models.weights import StageWeights
from emu_robot.policy.config import PolicyConfig
from emu_robot.policy.emu_policy import load_policy
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training import head
from emu_robot.training.head import HeadTrainConfig, head_loss, split_rows, train, validate
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.head_goals import generated_goals
from emu_robot.training.head_sampler import GeneratedGoals, GoalImages, HeadSampler, SamplingConfig, shift_images
from emu_robot.training.loop import LoopConfig
from emu_robot.training.warm_start import warm_start

SIZE, LENGTH, REACH = 32, 12, 6
WORDS = ("reach the blob", "touch it again")


def blob(place: np.ndarray, arm: float) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)
    row, column = (4 + (SIZE - 12) * place).astype(int)
    image[row : row + 6, column : column + 6] = (230, 30, 30)
    image[:3, : int(1 + arm * 20)] = 250
    return image


def episode(seed: int) -> Episode:
    """Two subtasks of LENGTH frames: joints 0 and 1 move to the blob's place by frame REACH, then back to 0."""
    rng = np.random.default_rng(seed)
    state = np.zeros((2 * LENGTH, 8), np.float32)
    images = []
    for k in range(2):
        place = rng.random(2)
        share = np.concatenate([np.linspace(0, 1, REACH + 1), np.linspace(1, 0, LENGTH - REACH)[1:]])
        state[k * LENGTH : (k + 1) * LENGTH, :2] = share[:, None] * place
        state[k * LENGTH + REACH : (k + 1) * LENGTH, 7] = 1
        images += [blob(place, s) for s in share]
    action = np.concatenate([state[1:], state[-1:]])
    stack = np.stack(images)
    return Episode(
        instruction="reach both",
        family="toy",
        split="seen",
        seed=seed,
        success=True,
        fps=20,
        subtasks=WORDS,
        keyframes=np.array([LENGTH - 3, 2 * LENGTH - 3], np.int32),
        starts=np.array([0, LENGTH], np.int32),
        state=state,
        action=action,
        image_frames=np.arange(2 * LENGTH, dtype=np.int32),
        images={"front": stack, "wrist": stack},
    )


def config(folder, **changes) -> HeadTrainConfig:
    model = HeadSizes(channels=8, keypoints=8, width=64, flow_width=32, text_width=16, action_horizon=4)
    plain: dict[str, Any] = {"shift": 0, "brightness": 0, "contrast": 0, "noise": 0, "reconstructed": 0}
    sampling = SamplingConfig(**(plain | changes))
    loop = LoopConfig(steps=150, batch_size=16, lr=3e-3, warmup_steps=10, ema_decay=0.9, log_every=50, threads=1)
    paths = {"data": folder / "data", "out": folder / "out", "weights": folder / "weights"}
    return HeadTrainConfig(**paths, holdout=0.1, model=model, sampling=sampling, loop=loop)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("head")
    ReplayBuffer.create(path / "data").extend([episode(seed) for seed in range(40)])
    TextTokenizer.train([*WORDS, "reach both"], 300).save(path / "weights")
    return path


@pytest.fixture(scope="module")
def data(folder) -> Demonstrations:
    return Demonstrations.load(ReplayBuffer.open(folder / "data"), ("front", "wrist"))


def head_config(settings: HeadTrainConfig) -> HeadConfig:
    return HeadConfig(**vars(settings.model), image_size=SIZE, text_vocabulary=301)


def sampler(data: Demonstrations, settings: HeadTrainConfig, goals: GoalImages | None = None) -> HeadSampler:
    rows, _ = split_rows(data, settings.holdout)
    stats = data.norm_stats(settings.model.action_horizon, RelativeActions(7), 2, data.frame_M[rows])
    codes = {"reach the blob": [1], "touch it again": [2], "reach both": [3]}
    return HeadSampler(
        data,
        rows,
        stats,
        head_config(settings),
        settings.sampling,
        codes.__getitem__,
        goals=goals,
        batch_size=64,
        seed=0,
    )


def test_the_head_reads_the_longest_words_of_its_set_and_of_its_start(folder, data):
    settings, text = config(folder), TextTokenizer.load(folder / "weights")
    layout = ReplayBuffer.open(folder / "data").layout
    long = "reach the blob on the far side " * 8
    more = replace(data, segments=data.segments._replace(instruction_K=[long] * len(data.segments.text_K)))
    needed = len(text.encode(long))
    assert head.head_config(settings, settings.model, more, layout, text).text_length == needed + head.SPARE_TEXT
    started = HeadConfig(text_length=needed + 9)
    shape = head.head_config(settings, started, data, layout, text)
    assert shape.text_length == needed + 9
    with pytest.raises(InvalidValueError, match=f"a text of {needed + 10} word ids; the head reads at most"):
        text_ids([1] * (needed + 10), shape)


def test_training_reaches_the_blob_and_its_weights_load(folder, data):
    settings = config(folder)
    weights = train(settings)
    lines = [json.loads(line) for line in (folder / "out/head/metrics.jsonl").read_text().splitlines()]
    losses = [line["flow"] for line in lines if "flow" in line]
    assert losses[-1] < 0.5 * losses[0]
    metrics = json.loads((weights / "manifest.json").read_text())["stages"]["head"]["extra"]["metrics"]
    assert metrics["val_gripper_accuracy"] > 0.9
    assert metrics["val_action_mae"] < 0.035  # [rad]; the blob's place has a standard deviation of 0.29
    assert metrics["val_progress_mae"] < 0.1
    policy = load_policy(weights, goal="none", config=PolicyConfig(n_action_steps=4))
    policy.reset("reach both")
    seen = ReplayBuffer.open(folder / "data").episode(0).images["front"][0]
    observation = Observation(images={"front": seen, "wrist": seen}, state=np.zeros(8, np.float32))
    assert policy.act(observation).actions.shape == (4, 8)


def test_a_batch_depends_on_its_step_alone(folder, data):
    draw = sampler(data, config(folder))
    first, again, other = draw(7), sampler(data, config(folder))(7), draw(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["state"], other["state"])


def test_goals_are_dropped_and_words_follow(folder, data):
    batch = sampler(data, config(folder, no_goal=0.5, instruction_only=0.5, no_text=0.0))(0)
    words = batch["text"][:, 0] - 1
    has_goal = batch["has_goal"]
    assert 0.3 < has_goal.float().mean() < 0.7
    assert (words[has_goal] != 3).all()
    flat = words == 3
    assert flat.any() and (~has_goal & ~flat).any()
    assert (batch["has_progress"] == (~flat).float()).all()
    assert (sampler(data, config(folder, no_goal=0.0, no_text=1.0))(0)["text"] == 0).all()


def test_chunks_hold_at_the_keyframe_but_an_instruction_runs_on(data):
    keyframe = data.segments.keyframe_K[:1]
    k, end = LENGTH - 3, data.taught_end_N[keyframe] - 1
    for first, last, frames in (
        (keyframe - 1, keyframe, [k - 1, k, k, k]),
        (keyframe + 1, keyframe, [k] * 4),
        (keyframe, end, [k, k + 1, k + 2, k + 3]),
    ):
        assert np.array_equal(data.chunks(first, last, 4)[0], data.action[frames])


def test_coming_events_are_gripper_switches_then_the_keyframe(data):
    keyframe = data.segments.keyframe_K[:1]
    events = data.coming_events(np.array([0]), keyframe, 3)
    assert events.tolist() == [[REACH - 1, LENGTH - 3, LENGTH - 3]]


def test_statistics_make_the_training_targets_standard(folder, data):
    batches = [sampler(data, config(folder, no_goal=0.0, dwell_weight=1.0, event_weight=1.0))(i) for i in range(20)]
    actions = torch.cat([batch["actions"] for batch in batches])
    assert actions.mean((0, 1)).abs().max() < 0.15
    assert (actions[..., :2].std((0, 1)) - 1).abs().max() < 0.15


def test_verbs_are_drawn_by_their_weights(folder, data):
    def share(**weights: float) -> float:
        """Of the second subtask among the examples."""
        settings = config(folder, verb_weights=weights, no_goal=0, no_text=0)
        return float((sampler(data, settings)(0)["text"][:, 0] == 3).float().mean())

    assert 0.3 < share() < 0.7
    assert share(touch=4.0) > 0.7
    assert share(touch=0.0) == 0


def test_reconstructed_and_generated_goals_are_used_in_their_shares(folder, data):
    count = len(data.segments.text_K)
    goals = GoalImages(
        reconstructed=np.full((count, SIZE, SIZE, 3), 255, np.uint8),
        generated=GeneratedGoals(np.zeros((1, SIZE, SIZE, 3), np.uint8), np.where(np.arange(count) % 2, -1, 0)),
    )
    draw = sampler(data, config(folder, reconstructed=0.5, generated=0.4), goals)
    brightness = torch.cat([draw(i)["goal"].mean((1, 2, 3)) for i in range(10)])
    assert abs((brightness == 1).float().mean() - 0.5) < 0.06
    assert abs((brightness == -1).float().mean() - 0.2) < 0.06


def test_shifting_moves_pixels_and_keeps_the_border():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    assert np.array_equal(shift_images(image, np.array([[0, 0]])), image)
    moved = shift_images(image, np.array([[1, -2]]))
    assert np.array_equal(moved[0, 1:, :2], image[0, :3, 2:])
    assert np.array_equal(moved[0, 0], image[0, 0])


def test_loss_counts_progress_only_where_it_is_known(folder, data):
    settings = config(folder, no_goal=1.0, instruction_only=1.0)
    batch = sampler(data, settings)(0)
    loss, metrics = head_loss(ActionHead(head_config(settings)), batch, settings)
    assert metrics["progress"] == 0
    assert torch.isfinite(loss)


def test_validation_reports_goal_and_no_goal_apart(folder, data):
    settings = config(folder)
    rows, _ = split_rows(data, 0.1)
    stats = data.norm_stats(4, RelativeActions(7), 2, data.frame_M[rows])
    metrics = validate(ActionHead(head_config(settings)), sampler(data, settings), stats, 1, batches=1)
    assert {"val_action_mae", "val_action_mae_goal", "val_action_mae_no_goal"} <= set(metrics)
    assert NormStats.from_dict(stats.to_dict()).segment_steps_p90 == LENGTH - 3


def test_empty_and_too_small_buffers_are_refused(tmp_path):
    empty = ReplayBuffer.create(tmp_path / "empty")
    with pytest.raises(DataError, match="no completed subtask in 0 episodes"):
        Demonstrations.load(empty, ("front", "wrist"))
    small = ReplayBuffer.create(tmp_path / "small")
    small.append(episode(0))
    with pytest.raises(DataError, match="1 of 1 episodes have a completed subtask"):
        split_rows(Demonstrations.load(small, ("front", "wrist")), 0.1)


def test_planner_goals_are_drawn_once_and_wrong_ones_left_out(folder, data):
    asked: list[str] = []

    def plan(images: Sequence[Image], instructions: Sequence[str], seeds: Sequence[int]) -> list[PlanStep | None]:
        asked.extend(instructions)
        return [PlanStep(subtask=WORDS[0], subgoal=image) for image in images]

    path = folder / "goals" / "generated_goals.npz"
    first = generated_goals(data, folder, path, 20, seed=0, plan=plan)
    right = first.row_K >= 0
    assert len(asked) == 20 and set(asked) == {"reach both"}
    assert right.sum() == len(first.images) and 0 < right.sum() < 20
    assert all(text == WORDS[0] for text, drawn in zip(data.segments.text_K, right, strict=True) if drawn)
    again = generated_goals(data, folder, path, 20, seed=0, plan=plan)
    assert len(asked) == 20
    np.testing.assert_array_equal(first.images, again.images)
    generated_goals(data, folder, path, 25, seed=0, plan=plan)
    assert len(asked) == 25
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match="generated_goals.npz"):
        generated_goals(data, folder, path, 20, seed=0, plan=plan)


def test_a_head_that_starts_from_another_keeps_what_words_mean(folder):
    """With another text tokenizer each piece starts as the mean of the old pieces that spell it."""
    old = TextTokenizer.load(folder / "weights")
    new = TextTokenizer.train([*WORDS, "reach blobs", "touching"], 300)
    sizes = vars(config(folder).model)
    before, after = (
        ActionHead(HeadConfig(**sizes, image_size=SIZE, text_vocabulary=text.size + 1)) for text in (old, new)
    )
    weights = StageWeights(config=asdict(before.config), state=before.state_dict(), extra={})
    assert not warm_start(after, weights, (old, new))
    given, carried = before.text.embedding.weight, after.text.embedding.weight
    piece = new.encode("touching")[0]
    spelled = [one + 1 for one in old.spell(new.pieces[piece])]
    torch.testing.assert_close(carried[piece + 1], given[spelled].mean(0))
    torch.testing.assert_close(carried[0], given[0])
