import numpy as np
import pytest

from emu_robot.control.chunk_broker import ChunkBroker
from emu_robot.control.episode_loop import COMPLETE_PATIENCE, Ending, Subscriber, run_episode
from emu_robot.core import ActionChunk, Observation, PolicyEvent, Transition
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec
from emu_robot.errors import InvalidValueError, ShapeError
from emu_robot.robots.spec import RobotLayout


class Counter:
    """Succeeds once the actions sum to `target`; its second subtask is done `homing` ticks later."""

    instruction, task_name, max_steps = "count", "count", 200
    spec = EnvironmentSpec(
        control_hz=20,
        cameras={"top": CameraSpec(height=4, width=4)},
        planner_camera="top",
        layout=RobotLayout(state_names=("x",), action_names=("dx",), n_grippers=0, relative_dims=0),
        success_rule="the sum is reached",
        versions={},
    )

    def __init__(self, target: float = 10, homing: int = 0):
        self.target, self.homing = target, homing
        self.renders = 0

    def close(self):
        pass

    def observe(self):
        self.renders += 1
        return Observation(images={"top": np.zeros((4, 4, 3), np.uint8)}, state=np.zeros(1, np.float32))

    def reset(self, seed, *, observe=True):
        self.total = self.ticks_since = 0
        return self.observe()

    def step(self, action, *, observe=True):
        self.total += float(action[0])
        success = self.total >= self.target
        self.ticks_since += success
        observation = self.observe() if observe else Observation(images={}, state=np.zeros(1, np.float32))
        done = (self.total > 0, success and self.ticks_since > self.homing)
        return Transition(observation=observation, success=success, subtasks_done=done)


class Repeat:
    """Always the same action, in chunks of 8; events by chunk number."""

    def __init__(self, value=1.0, events=None):
        self.value, self.events, self.calls = value, events or {}, 0

    def reset(self, instruction):
        self.instruction, self.calls = instruction, 0

    def act(self, observation):
        assert observation.images, "a chunk is asked for with a full observation"
        self.calls += 1
        return ActionChunk(actions=np.full((8, 1), self.value, np.float32), events=self.events.get(self.calls, ()))


class Journal(Subscriber):
    def __init__(self):
        self.lines = []

    def on_reset(self, instruction, seed, observation):
        self.lines.append(("reset", instruction, seed))

    def on_chunk(self, tick, observation, chunk):
        self.lines.append(("chunk", tick))

    def on_transition(self, tick, action, transition):
        self.lines.append(("step", tick))

    def on_end(self, result, observation):
        assert observation.images
        self.lines.append(("end", result.n_steps))


def test_an_episode_ends_with_the_predicate_and_renders_only_for_chunks():
    environment, journal = Counter(target=10), Journal()
    result = run_episode(environment, Repeat(), 3, [journal])
    assert result.success
    assert result.ending is Ending.SUCCESS
    assert (result.n_steps, result.n_chunks, result.subtasks_done) == (10, 2, (True, True))
    assert environment.renders == 3  # reset, second chunk, end
    assert journal.lines[:2] == [("reset", "count", 3), ("chunk", 0)]
    assert [line for line in journal.lines if line[0] == "chunk"] == [("chunk", 0), ("chunk", 8)]
    assert journal.lines[-2:] == [("step", 10), ("end", 10)]


class AlwaysRenders(Counter):
    """Cannot leave pictures out, and has no subtasks."""

    observe = None  # type: ignore[assignment]

    def step(self, action):
        self.total += float(action[0])
        self.renders += 1
        image = np.zeros((4, 4, 3), np.uint8)
        seen = Observation(images={"top": image}, state=np.zeros(1, np.float32))
        return Transition(observation=seen, success=self.total >= self.target, subtasks_done=())

    def reset(self, seed):
        self.total = 0.0
        return self.step(np.zeros(1, np.float32)).observation


def test_an_environment_that_always_renders_is_stepped_without_being_asked():
    environment, journal = AlwaysRenders(target=10), Journal()
    result = run_episode(environment, Repeat(), 0, [journal], settle_steps=40)
    assert (result.success, result.n_steps, result.subtasks_done) == (True, 10, ())
    assert environment.renders == 11


def test_only_n_action_steps_of_a_chunk_are_executed():
    assert run_episode(Counter(target=10), Repeat(), 0, n_action_steps=3).n_chunks == 4


def test_settling_goes_on_without_bearing_on_the_outcome():
    journal = Journal()
    result = run_episode(Counter(target=10, homing=5), Repeat(), 0, [journal], settle_steps=40)
    assert result.n_steps == 10
    assert journal.lines[-2] == ("step", 15)


def test_the_limit_ends_an_episode():
    result = run_episode(Counter(target=1e9), Repeat(), 0)
    assert (result.success, result.ending, result.n_steps) == (False, Ending.MAX_STEPS, 200)
    assert result.subtasks_done == (True, False)


def test_a_policy_that_holds_the_task_complete_is_taken_at_its_word_after_a_while():
    result = run_episode(Counter(target=1e9), Repeat(events={2: (PolicyEvent.COMPLETE,)}), 0)
    assert (result.ending, result.n_steps) == (Ending.COMPLETE, 8 + COMPLETE_PATIENCE)
    assert result.events == ((8, PolicyEvent.COMPLETE),)


def test_a_new_plan_takes_the_declaration_back():
    events = {2: (PolicyEvent.COMPLETE,), 5: (PolicyEvent.PLANNED,)}
    assert run_episode(Counter(target=1e9), Repeat(events=events), 0).ending is Ending.MAX_STEPS


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        (np.zeros(8, np.float32), ShapeError),
        (np.zeros((0, 8), np.float32), ShapeError),
        (np.full((2, 8), np.nan, np.float32), InvalidValueError),
    ],
)
def test_a_chunk_that_cannot_be_executed_is_refused(actions, error):
    class Broken(Repeat):
        def act(self, observation):
            return ActionChunk(actions=actions)

    with pytest.raises(error):
        run_episode(Counter(), Broken(), 0)


def test_the_broker_refuses_nonsense():
    with pytest.raises(InvalidValueError, match="n_action_steps is 0"):
        ChunkBroker(Repeat(), n_action_steps=0)
    with pytest.raises(InvalidValueError, match="instruction is empty"):
        ChunkBroker(Repeat()).reset("  ")
    with pytest.raises(InvalidValueError, match="refill"):
        ChunkBroker(Repeat()).next_action()
