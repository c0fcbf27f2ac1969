"""Which goal mode becomes the weights' own, and what the comparison of modes measures."""

from pathlib import Path

import numpy as np
import pytest
from lerobot_sets import small_episode, write_set
from tiny_weights import SIZE, write_weights

from emu_robot.core import PlanStep
from emu_robot.data.prepare import PrepareConfig, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import WeightsError
from emu_robot.evaluation.statistics import bootstrap_interval
from emu_robot.models.weights import add_extra, read_stage
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import GoalMode, PolicyConfig
from emu_robot.policy.emu_policy import load_policy
from emu_robot.policy.weights_contract import head_contract
from emu_robot.training.dida import DidaTraining
from emu_robot.training.goal_choice import GoalChoiceConfig, chunk_errors, compare, held_out
from emu_robot.training.head import HeadTraining
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.planner_config import PlannerTraining
from emu_robot.training.planner_data import PlanQueries


@pytest.fixture(scope="module")
def buffer(tmp_path_factory) -> ReplayBuffer:
    root = tmp_path_factory.mktemp("goals")
    episodes = [small_episode(seed, n_subtasks=1 + seed % 2, task=f"task {seed % 2}") for seed in range(10)]
    write_set(root / "set", episodes, cameras=("front",))
    prepare(PrepareConfig(dataset=str(root / "set"), out=root / "data", image_size=SIZE, workers=0))
    return ReplayBuffer.open(root / "data")


@pytest.fixture(scope="module")
def weights(buffer, tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"), cameras=("front",), layout=buffer.layout)


class TruePlanner:
    """Says and shows what the set holds; nothing in the last of these subtasks, which it holds complete."""

    def __init__(self, data: Demonstrations, complete: int) -> None:
        self.data, self.complete = data, complete

    def next_steps(self, images, instructions, seeds):
        texts, rows = self.data.segments.text_K, self.data.keyframe_image_K
        starts = self.data.goal_view[np.searchsorted(self.data.frame_M, self.data.segments.start_K[np.array(seeds)])]
        np.testing.assert_array_equal(np.stack(images), starts)
        assert instructions == [self.data.segments.instruction_K[k] for k in seeds]
        return [
            None if k == self.complete else PlanStep(subtask=texts[k], subgoal=self.data.goal_view[int(rows[k])])
            for k in seeds
        ]


def test_every_mode_acts_from_the_same_frames(buffer, weights):
    decoder, data = ActionDecoder.load(weights), Demonstrations.load(buffer, ["front"])
    rows_E = [np.flatnonzero(data.segment_M == k)[:5:2] for k in (0, 1)]
    planner = TruePlanner(data, complete=1)
    errors = chunk_errors(decoder, planner, data, rows_E)  # pyright: ignore[reportArgumentType]
    assert {len(values) for values in errors.values()} == {2}
    planned, bound = errors[GoalMode.PLANNER], errors[GoalMode.ORACLE]
    assert planned[0] == bound[0], "a planner that is right is the bound"
    row = int(rows_E[1][0])
    frame, keyframe = int(data.frame_M[row]), int(data.segments.keyframe_K[1])
    stay = [np.repeat(decoder.hold_target(data.state[f])[None], 16, 0) for f in data.frame_M[rows_E[1]]]
    expected = []
    for held, f in zip(stay, data.frame_M[rows_E[1]].tolist(), strict=True):
        off = np.abs(held - data.chunks(np.array([f]), np.array([keyframe]), 16)[0]) / decoder.action_std
        expected.append(off[: keyframe - f + 1].mean())
    assert frame < keyframe and planned[1] == pytest.approx(np.mean(expected)), "complete: the robot stays"
    assert errors[GoalMode.TEXT][1] == planned[1] != errors[GoalMode.NONE][1]


def test_episodes_are_new_to_all_trainings_if_possible(buffer):
    data, queries = Demonstrations.load(buffer, ["front"]), PlanQueries.load(buffer)

    def chosen(head: float, planner: float, dida: float) -> tuple[list[int], bool]:
        trainings = {"planner": PlannerTraining(holdout=planner), "dida": DidaTraining(holdout=dida)}
        found, new = held_out(data, queries, GoalChoiceConfig(head=HeadTraining(holdout=head), **trainings))
        return found.tolist(), new

    assert chosen(0.2, 0.2, 0.2) == ([4, 9], True)
    assert chosen(0.2, 0.2, 0.1) == ([9], True)
    assert chosen(0.2, 0.25, 0.2) == ([4, 9], False)


def errors(planner: list[float], text: list[float], none: list[float]) -> dict[GoalMode, np.ndarray]:
    modes = (GoalMode.PLANNER, GoalMode.TEXT, GoalMode.NONE, GoalMode.ORACLE)
    return dict(zip(modes, map(np.array, (planner, text, none, planner)), strict=True))


@pytest.mark.parametrize(
    ("found", "goal", "said"),
    [
        (errors([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.6]), "planner", "subgoals help on this set"),
        (errors([0.5, 0.6, 0.7], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5]), "text", "subgoals harm on this set"),
        (errors([0.2, 0.3, 0.4], [0.5, 0.5, 0.5], [0.1, 0.4, 0.3]), "none", "no difference was found"),
        (errors([0.2, 0.3, 0.4], [0.2, 0.3, 0.4], [0.1, 0.4, 0.4]), "planner", "no difference was found"),
        (errors([0.5], [0.4], [0.6]), "text", "one held-out episode does not show"),
    ],
)
def test_the_mode_with_the_least_error_is_chosen(found, goal, said):
    compared = compare(found)
    assert compared["goal"] == goal and compared["words"].startswith(said)
    assert set(compared["against"]) == {"text", "none", "oracle"}
    assert compared["errors"]["none"] == found[GoalMode.NONE].mean()
    assert compared["against"]["none"]["difference"] == pytest.approx((found[GoalMode.NONE] - found["planner"]).mean())


def test_an_interval_of_a_mean_by_drawing_again():
    values = np.random.default_rng(1).normal(2.0, 1.0, 100)
    low, high = bootstrap_interval(values.tolist()) or (0, 0)
    assert low == pytest.approx(values.mean() - 0.196, abs=0.03) and high == pytest.approx(
        values.mean() + 0.196, abs=0.03
    )
    assert bootstrap_interval([1.0]) is None and bootstrap_interval([1.0, 1.0]) == (1.0, 1.0)


def test_weights_name_their_mode_and_an_explicit_one_wins(weights):
    assert head_contract(weights).goal is GoalMode.PLANNER and load_policy(weights).goal is GoalMode.PLANNER
    before = read_stage(weights, "head")
    add_extra(weights, "head", goal="none")
    after = read_stage(weights, "head")
    assert after == before | {"extra": before["extra"] | {"goal": "none"}}
    assert load_policy(weights).goal is GoalMode.NONE
    assert load_policy(weights, config=PolicyConfig(goal=GoalMode.TEXT)).goal is GoalMode.TEXT
    assert load_policy(weights, goal="planner").goal is GoalMode.PLANNER
    for wrong in ("oracle", "auto", 3):
        add_extra(weights, "head", goal=wrong)
        with pytest.raises(WeightsError, match=rf"names goal {wrong!r}, must be one of planner, text, none"):
            load_policy(weights)
    add_extra(weights, "head", goal="planner")
