"""Episodes without motion show what executed ones show, for the same seeds, and say what they are."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.laid_out_episode import laid_out_episode
from emu_robot.data.merge import MergeConfig, merge
from emu_robot.data.questions import change, questions
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.environments.capabilities import MomentKind
from emu_robot.errors import ConfigError, DataError
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.planner_data import PlanQueries
from emu_sim.environment import TabletopEnvironment
from emu_sim.grammar import TABLETOP2
from emu_sim.predicates import final_goals, subtask_holds


@pytest.fixture(scope="module")
def environment():
    world = TabletopEnvironment(["all"], grammar=TABLETOP2)
    yield world
    world.close()


def test_the_first_picture_is_that_of_the_episode_and_the_last_one_shows_what_the_expert_leaves(environment):
    for seed in (3, 8, 11):
        laid = environment.lay_out(seed)
        executed = environment.reset(seed).images["front"]
        assert np.abs(laid[0].image.astype(float) - executed).mean() < 0.3
        assert environment.instruction and len(laid) == 1 + len(environment.subtasks)
        expert = environment.expert()
        while environment.subtask is not None:
            environment.step(expert.action(), observe=False)
        before, after = (np.abs(m.image.astype(float) - environment.render()).mean() for m in (laid[0], laid[-1]))
        assert after < before and after < 3.5


def test_a_seed_alone_determines_the_moments(environment):
    def pictures(seed: int) -> np.ndarray:
        return np.stack([moment.image for moment in environment.lay_out(seed, disturbed=0.5)])

    first = pictures(5)
    environment.lay_out(6)
    np.testing.assert_array_equal(pictures(5), first)


def test_the_goals_hold_at_the_end(environment):
    held = []
    for seed in range(60):
        environment.lay_out(seed)
        environment.world.settle()
        held += [subtask_holds(environment.world, goal) for goal in final_goals(environment.task)]
    assert np.mean(held) >= 0.95


def test_disturbed_moments_show_the_arm_or_an_attempt_that_failed(environment):
    kinds = []
    for seed in range(40):
        moments = environment.lay_out(seed, disturbed=1.0)
        kinds += [moment.kind for moment in moments]
        for before, moment in pairwise(moments):
            if moment.kind is MomentKind.UNDERWAY:
                assert moment.facts.keys() == before.facts.keys()
                assert np.abs(moment.image.astype(int) - before.image).max(-1).astype(bool).mean() > 0.02
            if moment.kind is MomentKind.ATTEMPT:
                moved = [name for name in moment.facts if moment.facts[name].place != before.facts[name].place]
                assert all(moment.facts[name].place in ("on the table", "open") for name in moved)
    assert {kind: kinds.count(kind) >= 10 for kind in MomentKind} == dict.fromkeys(MomentKind, True)


def test_episodes_in_a_row_may_share_a_scene_and_differ_in_what_is_asked(environment):
    shared = 0
    for seed in range(0, 40, 2):
        one, first = environment.lay_out(seed, instructions=2)[0].image, environment.instruction
        other, second = environment.lay_out(seed + 1, instructions=2)[0].image, environment.instruction
        assert first != second
        shared += np.array_equal(one, other)
    assert shared >= 14  # scenes that allow no other instruction give way to the seed's own


def test_questions_follow_from_the_facts(environment):
    for seed in range(10):
        first, *_, last = environment.lay_out(seed)
        answers = dict(questions(first.facts))
        seen = [name for name in environment.task.objects if first.facts[name].is_visible]
        assert all(f"a {name}" in answers["what is on the table?"] for name in seen)
        assert all(answers[f"where is the {name}?"] == first.facts[name].place for name in seen)
        assert answers["is the drawer open?"] == ("yes" if environment.task.drawer_open else "no")
        moved = str(environment.task.subtasks[-1].object or "drawer")
        assert environment.task.needs_memory or f"the {moved} is" in change(first.facts, last.facts)[1]


def _config(out: Path, **changes: Any) -> CollectConfig:
    settings: dict[str, Any] = {
        "env": "tabletop2",
        "n": 6,
        "execute": False,
        "disturbed": 0.5,
        "lerobot": False,
        "workers": 1,
    }
    return CollectConfig(out=out, **(settings | changes))


def test_a_collection_without_motion_continues_and_is_refused_by_the_head(tmp_path, environment):
    collect(_config(tmp_path / "plans", n=3))
    plans = ReplayBuffer.open(collect(_config(tmp_path / "plans")))
    assert [meta["seed"] for meta in plans.metadata] == list(range(6)) and plans.cameras == ("front",)
    for seed in range(6):
        stored, made = plans.episode(seed), laid_out_episode(
            environment, seed, split="seen", disturbed=0.5, instructions=1
        )  # fmt: skip
        stored.validate()
        assert (stored.facts, stored.attempts, stored.subtasks) == (made.facts, made.attempts, made.subtasks)
        np.testing.assert_array_equal(stored.images["front"], made.images["front"])
    queries = PlanQueries.load(plans)
    assert len(queries) == plans.n_images and queries.complete.sum() == 6
    with pytest.raises(DataError, match="6 of 6 episodes were laid out without motion .* have no actions"):
        Demonstrations.load(plans, ["front"])
    with pytest.raises(ConfigError, match="lerobot=true needs execute=true"):
        _config(tmp_path, lerobot=True)


def test_what_was_executed_and_what_was_laid_out_merge_into_one_camera(tmp_path):
    plans = collect(_config(tmp_path / "plans", n=2))
    shown = collect(
        CollectConfig(env="tabletop2", n=1, image_every=50, lerobot=False, workers=1, out=tmp_path / "shown")
    )
    with pytest.raises(DataError, match="cameras: front, wrist.* they cannot be merged"):
        merge(MergeConfig(sources=[plans, shown], out=tmp_path / "all"))
    both = ReplayBuffer.open(merge(MergeConfig(sources=[plans, shown], out=tmp_path / "all", cameras=["front"])))
    assert both.cameras == ("front",) and both.n_episodes == 3
    with pytest.raises(DataError, match="2 of 3 episodes"):
        both.require_actions()
