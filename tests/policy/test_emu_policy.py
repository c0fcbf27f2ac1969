from collections.abc import Sequence

import numpy as np
import pytest
import torch

from emu_robot.core import Observation, PastStep, Plan, PlanStep, Policy, PolicyEvent, Steerable
from emu_robot.errors import ConfigError, InvalidValueError, ShapeError, UnknownNameError, WeightsError
from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.normalize import NormStats, Standardizer
from emu_robot.models.weights import save_weights
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.task_execution import PlanningError
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import ChunkConfig, GoalMode, PolicyConfig
from emu_robot.policy.emu_policy import EmuPolicy, load_policy

SIZE = 32


class Letters:
    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 30 for letter in text]


class ListPlanner:
    """Answers with one step after the other, then that all is done."""

    def __init__(self, *subtasks: str) -> None:
        self.left = list(subtasks)
        self.seeds: list[int] = []

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        self.seeds.append(seed)
        image = np.full((SIZE, SIZE, 3), 9, np.uint8)
        steps = (PlanStep(subtask=self.left.pop(0), subgoal=image),) if self.left else ()
        return Plan(instruction=instruction, steps=steps)


def stats(horizon: int = 16) -> NormStats:
    ones = [Standardizer(np.zeros(s, np.float32), np.ones(s, np.float32)) for s in ((8,), (horizon, 8), (2, 8))]
    low, high = np.zeros(8, np.float32), np.ones(8, np.float32)
    standards = {"state": ones[0], "actions": ones[1], "keyposes": ones[2]}
    return NormStats(**standards, segment_steps_p90=80.0, action_low=low, action_high=high)


def tiny_config() -> HeadConfig:
    return HeadConfig(
        image_size=SIZE, channels=8, keypoints=4, width=32, flow_width=16, text_width=16, text_vocabulary=31
    )


def decoder(progress: float = 0.5) -> ActionDecoder:
    torch.manual_seed(0)
    head = ActionHead(tiny_config())
    torch.nn.init.zeros_(head.progress.weight)
    torch.nn.init.constant_(head.progress.bias, float(torch.logit(torch.tensor(progress))))
    torch.nn.init.normal_(head.fusion.no_goal)
    return ActionDecoder(head, stats(), Letters())


def policy(planner: ListPlanner | None = None, *, progress: float = 0.5, source=None, seed: int = 0, **changes):
    made = EmuPolicy(decoder(progress), planner, PolicyConfig(**changes), subgoal_source=source, seed=seed)
    made.reset("put the red cube in the bowl")
    return made


def look(**changes) -> Observation:
    rng = np.random.default_rng(0)
    images = {camera: rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8) for camera in ("front", "wrist")}
    return Observation(**({"images": images, "state": np.full(8, 0.5, np.float32)} | changes))


def test_it_is_a_policy_and_plans_first():
    made = policy(ListPlanner("take it"))
    assert isinstance(made, Policy)
    chunk = made.act(look())
    assert chunk.events == (PolicyEvent.PLANNED,)
    assert chunk.step is not None and chunk.step.subtask == "take it" and chunk.step.subgoal is not None
    assert chunk.actions.shape == (8, 8) and chunk.actions.dtype == np.float32
    assert chunk.actions[:, -1].min() >= 0 and chunk.actions[:, -1].max() <= 1
    assert chunk.progress == pytest.approx(0.5)
    assert made.act(look()).events == ()


def test_reached_subtasks_are_switched_and_the_last_one_ends_in_a_hold():
    planner = ListPlanner("first", "second")
    made = policy(planner, progress=0.95)
    chunks = [made.act(look()) for _ in range(5)]
    events = [chunk.events for chunk in chunks]
    assert events == [
        (PolicyEvent.PLANNED,),
        (),
        (PolicyEvent.SWITCHED, PolicyEvent.PLANNED),
        (),
        (PolicyEvent.SWITCHED, PolicyEvent.COMPLETE),
    ]
    assert [chunk.step and chunk.step.subtask for chunk in chunks] == ["first", "first", "second", "second", None]
    np.testing.assert_array_equal(chunks[4].actions, np.repeat(chunks[3].actions[-1:], 8, axis=0))


def test_a_plan_held_complete_is_questioned_and_taken_up_again():
    planner = ListPlanner()
    made = policy(planner, replan=ReplanConfig(recheck_chunks=3, confirmations=3))
    complete, planned = (PolicyEvent.COMPLETE,), (PolicyEvent.PLANNED,)
    assert [made.act(look()).events for _ in range(4)] == [complete, (), (), complete]
    np.testing.assert_array_equal(made.act(look()).actions[0], look().state)
    planner.left.append("again")
    assert [made.act(look()).events for _ in range(2)] == [(), planned]


def test_a_task_held_complete_often_enough_is_over():
    planner = ListPlanner("a")
    made = policy(planner, progress=0.95, replan=ReplanConfig(recheck_chunks=1, confirmations=2))
    events = [made.act(look()).events for _ in range(4)]
    assert events[2:] == [(PolicyEvent.SWITCHED, PolicyEvent.COMPLETE), (PolicyEvent.COMPLETE,)]
    planner.left.append("too late")
    chunk = made.act(look())
    assert chunk.events == () and chunk.step is None
    made.reset("something else")
    assert made.act(look()).events == (PolicyEvent.PLANNED,)


class FailingPlanner(ListPlanner):
    """Fails while `fails` is set."""

    fails = False

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        if self.fails:
            raise WeightsError("no plan comes")
        return super().plan(observation, instruction, max_steps, seed=seed, past=past, doubt=doubt)


def test_a_failed_plan_is_an_event_and_the_step_before_goes_on():
    planner = FailingPlanner("a", "b")
    made = policy(planner, progress=0.95)
    made.act(look())
    made.act(look())
    planner.fails = True
    chunk = made.act(look())
    assert chunk.events == (PolicyEvent.SWITCHED, PolicyEvent.PLAN_FAILED)
    assert chunk.step is not None and chunk.step.subtask == "a"
    planner.fails = False
    chunk = made.act(look())
    assert chunk.events[-1] is PolicyEvent.PLANNED and chunk.step is not None and chunk.step.subtask == "b"
    planner.fails = True
    made.reset("from the start")
    chunks = [made.act(look()) for _ in range(2)]
    assert [chunk.events for chunk in chunks] == [(PolicyEvent.PLAN_FAILED,)] * 2
    np.testing.assert_array_equal(chunks[0].actions[0], look().state)
    with pytest.raises(PlanningError, match="3 plans in a row failed, the last one: no plan comes"):
        made.act(look())


def test_a_subtask_that_takes_too_long_is_planned_again():
    made = policy(ListPlanner("a", "b"), replan=ReplanConfig(timeout_factor=0.5))  # 40 steps, 5 chunks
    events = [made.act(look()).events for _ in range(7)]
    assert events == [(PolicyEvent.PLANNED,), *[()] * 5, (PolicyEvent.TIMEOUT, PolicyEvent.PLANNED)]


def test_every_draw_follows_from_seed_episode_and_call():
    noisy = ChunkConfig(noise_scale=1.0)
    planners = [ListPlanner(*"aaaa") for _ in range(3)]
    first, second, other = (
        policy(planner, seed=seed, chunk=noisy, progress=0.95)
        for planner, seed in zip(planners, (3, 3, 4), strict=True)
    )
    one, two, three = ([made.act(look()).actions for _ in range(3)] for made in (first, second, other))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one[0], three[0]) and not np.allclose(one[0], one[1])
    assert planners[0].seeds == planners[1].seeds and len(set(planners[0].seeds + planners[2].seeds)) == 4
    first.reset("put the red cube in the bowl")
    assert not np.allclose(one[0], first.act(look()).actions)  # the next episode
    other.seed(3)
    other.reset("put the red cube in the bowl")
    np.testing.assert_array_equal(one[0], other.act(look()).actions)
    assert planners[2].seeds[-1] == planners[0].seeds[0] != planners[0].seeds[-1]


def test_without_goals_the_head_gets_the_instruction_alone():
    made = policy(goal=GoalMode.NONE, progress=0.95)
    chunks = [made.act(look()) for _ in range(4)]
    assert all(chunk.step == PlanStep(subtask="put the red cube in the bowl") for chunk in chunks)
    assert not any(PolicyEvent.COMPLETE in chunk.events for chunk in chunks)


def test_words_only_mode_drops_the_image():
    chunk = policy(ListPlanner("a"), goal=GoalMode.TEXT).act(look())
    assert chunk.step == PlanStep(subtask="a")


def test_oracle_steps_come_from_the_source_without_a_planner():
    truth = PlanStep(subtask="true", subgoal=np.zeros((SIZE, SIZE, 3), np.uint8))
    answers = [truth, None]
    made = policy(goal=GoalMode.ORACLE, source=lambda: answers.pop(0), progress=0.95)
    assert made.act(look()).step is truth
    assert [made.act(look()).events for _ in range(2)] == [(), (PolicyEvent.SWITCHED, PolicyEvent.COMPLETE)]


def test_shuffled_mode_keeps_the_words_and_swaps_the_image():
    other = np.full((SIZE, SIZE, 3), 77, np.uint8)
    made = policy(ListPlanner("mine"), goal=GoalMode.SHUFFLED, source=lambda: PlanStep(subtask="x", subgoal=other))
    step = made.act(look()).step
    assert step is not None and step.subtask == "mine" and step.subgoal is other


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"images": {"front": np.zeros((SIZE, SIZE, 3), np.uint8)}}, UnknownNameError, "camera 'wrist'; known: front"),
        ({"state": np.zeros(7, np.float32)}, ShapeError, r"state: got \(7,\), expected \(8,\)"),
        (
            {"images": {camera: np.zeros((64, 64, 3), np.uint8) for camera in ("front", "wrist")}},
            ShapeError,
            r"'front'.*\(64, 64, 3\).*\(32, 32, 3\)",
        ),
    ],
)
def test_bad_observations_are_named(changes, error, match):
    with pytest.raises(error, match=match):
        policy(ListPlanner("a")).act(look(**changes))


def test_bad_use_is_named():
    with pytest.raises(InvalidValueError, match="empty"):
        policy(ListPlanner()).reset("  ")
    with pytest.raises(InvalidValueError, match="reset"):
        EmuPolicy(decoder(), ListPlanner(), PolicyConfig()).act(look())
    with pytest.raises(ConfigError, match="planner"):
        policy(None)
    with pytest.raises(ConfigError, match="subgoal_source"):
        policy(None, goal=GoalMode.ORACLE)
    with pytest.raises(ConfigError, match="n_action_steps is 17"):
        policy(ListPlanner(), n_action_steps=17)
    with pytest.raises(UnknownNameError, match="goal 'magic'; known: planner, text, oracle, shuffled, none"):
        load_policy(goal="magic")
    with pytest.raises(UnknownNameError, match="weights 'nowhere'"):
        load_policy("nowhere")


def test_weights_without_statistics_refuse_to_act(tmp_path):
    save_weights(tmp_path, "head", ActionHead(tiny_config()).state_dict(), tiny_config())
    with pytest.raises(WeightsError, match="norm_stats lack"):
        load_policy(tmp_path, goal="none")


class Echo(ListPlanner):
    """Names the instruction as the next step."""

    def plan(
        self,
        observation: Observation,
        instruction: str,
        max_steps: int | None = None,
        *,
        seed: int = 0,
        past: Sequence[PastStep] = (),
        doubt: float = 0.0,
    ) -> Plan:
        assert not past, "another instruction has no past"
        self.left = [instruction]
        return super().plan(observation, instruction, max_steps, seed=seed)


def test_another_instruction_is_planned_for_at_the_next_chunk():
    planner = Echo()
    made = policy(planner)
    assert isinstance(made, Steerable)
    made.act(look())
    made.instruct("open the drawer")
    chunk = made.act(look())
    assert chunk.events == (PolicyEvent.PLANNED,)
    assert chunk.step is not None and chunk.step.subtask == "open the drawer"
    assert made.act(look()).events == () and len(set(planner.seeds)) == 2
    again = Echo()
    made = policy(again)
    for words in ("", "open the drawer"):  # a hold in between takes no random numbers
        made.instruct(words)
        last = made.act(look())
    assert again.seeds == planner.seeds[1:]
    np.testing.assert_array_equal(last.actions, chunk.actions)


def test_an_empty_instruction_holds_the_arm_where_it_is_and_what_is_in_the_gripper():
    made = policy(Echo())
    command = made.act(look()).actions[-1]
    made.instruct("  ")
    here = np.full(8, 0.3, np.float32)
    held = made.act(look(state=here))
    assert held.step is None and held.events == ()
    np.testing.assert_array_equal(held.actions, np.repeat([[*here[:7], command[7]]], 8, axis=0))
    np.testing.assert_array_equal(made.act(look(state=here - 0.1)).actions, held.actions)  # it does not sink
    made.instruct("go on")
    assert made.act(look()).events == (PolicyEvent.PLANNED,)
    made.reset("from the start")
    assert made.act(look()).events == (PolicyEvent.PLANNED,)


def test_an_instruction_that_cannot_be_planned_holds_and_says_why():
    planner = FailingPlanner("a", "b")
    made = policy(planner)
    made.act(look())
    planner.fails = True
    made.instruct("fly")
    here = np.full(8, 0.3, np.float32)
    chunk = made.act(look(state=here))
    assert chunk.events == (PolicyEvent.PLAN_FAILED,) and made.problem == "no plan comes"
    np.testing.assert_array_equal(chunk.actions[0, :7], here[:7])


def test_the_first_instruction_comes_by_reset():
    made = EmuPolicy(decoder(), ListPlanner("a"), PolicyConfig())
    with pytest.raises(InvalidValueError, match="first instruction"):
        made.instruct("open the drawer")
