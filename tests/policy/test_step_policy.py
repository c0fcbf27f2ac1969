import numpy as np
import pytest

from emu_robot.core import Observation, PlanStep
from emu_robot.errors import ShapeError, UnknownNameError
from emu_robot.policy.config import PolicyConfig
from emu_robot.policy.emu_policy import load_policy
from emu_robot.policy.step_policy import StepPolicy
from emu_sim.environment import TabletopEnvironment


@pytest.fixture(scope="module")
def step_policy() -> StepPolicy:
    return StepPolicy.load("mini")


def test_it_acts_as_the_policy_in_one_process_does(step_policy: StepPolicy):
    environment = TabletopEnvironment(["open_drawer"])
    observation = environment.reset(5)
    step = environment.oracle_step()
    policy = load_policy("mini", goal="oracle", subgoal_source=lambda: step, config=PolicyConfig(whole_chunks=True))
    policy.reset(environment.instruction)
    assert step is not None
    ours, theirs = step_policy.chunk(observation, step), policy.act(observation)
    np.testing.assert_array_equal(ours.actions, theirs.actions)
    assert ours.progress == theirs.progress
    environment.close()


def test_its_blank_observation_fits(step_policy: StepPolicy):
    chunk = step_policy.chunk(step_policy.head.blank_observation(), PlanStep(subtask="wait"))
    assert chunk.actions.shape == (step_policy.head.action_horizon, 8)


def test_what_does_not_fit_is_named(step_policy: StepPolicy):
    blank = step_policy.head.blank_observation()
    with pytest.raises(UnknownNameError, match="wrist"):
        step_policy.chunk(
            Observation(images={"front": blank.images["front"]}, state=blank.state), PlanStep(subtask="x")
        )
    with pytest.raises(ShapeError, match="state"):
        step_policy.chunk(Observation(images=blank.images, state=np.zeros(3, np.float32)), PlanStep(subtask="x"))
