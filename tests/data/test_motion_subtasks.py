"""Sets of many tasks without labels: each task is cut by its own method, and its steps have words of their own."""

from itertools import pairwise

import numpy as np
import pytest

from emu_robot.data.keyframes import KeyframeConfig, KeyframeMethod
from emu_robot.data.motion_subtasks import MotionSubtasks, single_subtasks
from emu_robot.data.task_keyframes import TaskKeyframes
from emu_robot.robots.spec import DimensionKind, RobotLayout

FPS = 80
NAMES = ("x", "y", "z", "gripper")


def path(*corners: tuple[float, float, float], frames: int = 20) -> np.ndarray:
    """(T, 3) places on straight lines from corner to corner."""
    return np.concatenate([np.linspace(a, b, frames, endpoint=False) for a, b in pairwise(corners)])


def grasp(seed: int, open_at: float = 1.0, shut_at: float = 0.4) -> np.ndarray:
    """(60, 4) down to a thing, grip it, carry it up: 0.75 s, as a scripted expert of Meta-World does it."""
    x, y = np.random.default_rng(seed).uniform(-0.1, 0.1, 2)
    arm = path((0, 0.6, 0.2), (x, 0.6 + y, 0.02), (x, 0.6 + y, 0.02), (x, 0.6 + y, 0.3))
    return np.column_stack([arm, np.repeat([open_at, shut_at], [30, 30])]).astype(np.float32)


def push(seed: int) -> np.ndarray:
    """(48, 4) down, then sideways, the gripper as it is: 0.6 s."""
    x = np.random.default_rng(seed).uniform(0.2, 0.3)
    arm = path((0, 0.6, 0.2), (0, 0.6, 0.02), (x, 0.6, 0.02), frames=24)
    return np.column_stack([arm, 1 + 1e-4 * np.sin(np.arange(48))]).astype(np.float32)


def pull(seed: int) -> np.ndarray:
    """(70, 4) down, a rest, then back."""
    y = np.random.default_rng(seed).uniform(0.3, 0.4)
    arm = path((0, 0.6, 0.2), (0, 0.7, 0.02), (0, 0.7, 0.02), (0, y, 0.02), frames=24)
    return np.column_stack([arm, np.ones(72)]).astype(np.float32)


TASKS = {"Pick up the puck.": grasp, "Push the plate": push, "Pull the handle": pull}


@pytest.fixture(scope="module")
def many() -> tuple[list[np.ndarray], list[str]]:
    """Five episodes of each task; one of them spelled in small letters."""
    states = [make(seed) for make in TASKS.values() for seed in range(5)]
    return states, [task.lower() if seed == 1 else task for task in TASKS for seed in range(5)]


def layout(names=NAMES, n_grippers: int = 1, **more) -> RobotLayout:
    return RobotLayout(state_names=names, action_names=names, n_grippers=n_grippers, relative_dims=0, **more)


def found(states, tasks, names=NAMES, **settings) -> MotionSubtasks:
    return MotionSubtasks(states, tasks, layout(names), FPS, KeyframeConfig(**settings))


def test_short_episodes_of_each_task_are_cut_by_a_method_of_their_own(many):
    states, tasks = many
    finders = TaskKeyframes(states, tasks, (3,), FPS, KeyframeConfig())
    methods = [finders.of(task).method.value for task in TASKS]
    assert methods == ["gripper", "waypoint", "pause"] and set(methods) == set(finders.methods)
    expected = dict(zip(TASKS, ([30, 59], [24, 47], [24, 71]), strict=True))
    for state, task in zip(states, tasks, strict=True):
        keyframes = finders.of(task).find(state)
        assert np.abs(keyframes - expected[next(name for name in TASKS if name.lower() == task.lower())]).max() <= 4
    given = TaskKeyframes(states, tasks, (3,), FPS, KeyframeConfig(method=KeyframeMethod.pause))
    assert given.methods == [KeyframeMethod.pause]


def test_the_least_time_follows_the_episodes_and_can_be_set(many):
    states, tasks = many
    counts = [
        len(TaskKeyframes(states, tasks, (3,), FPS, config).of("push the plate").find(states[5]))
        for config in (
            KeyframeConfig(),
            KeyframeConfig(min_share=1.0),
            KeyframeConfig(min_seconds=0.01),
            KeyframeConfig(min_share=0.02),
        )
    ]
    assert counts[1] == 1 and min(counts[0], counts[2], counts[3]) >= 2
    long = [np.repeat(state, 20, axis=0) for state in states[:5]]
    keyframes = found(long, tasks[:5], min_seconds=0.75).of(long[0], tasks[0]).keyframes
    assert (np.diff(keyframes) >= 0.75 * FPS / 2).all()


def test_tasks_of_one_episode_choose_together():
    states = [grasp(seed) for seed in range(6)]
    finders = TaskKeyframes(states, [f"task {i}" for i in range(6)], (3,), FPS, KeyframeConfig())
    assert finders.of("task 0") is finders.of("Task 5") and finders.methods == ["gripper"]


def test_steps_of_a_task_have_words_of_their_own_and_equal_ones_equal_words(many):
    subtasks = found(*many)
    words = {task: {subtasks.of(state, task).subtasks for state in states} for task, states in by_task(many).items()}
    assert words["Pick up the puck."] == {("Pick up the puck: close the gripper", "Pick up the puck: move up")}
    assert words["Push the plate"] == {("Push the plate: move down", "Push the plate: move sideways")}
    assert words["Pull the handle"] == {("Pull the handle: move down", "Pull the handle: move sideways")}
    unnamed = found(*many, names=("joint1", "joint2", "joint3", "gripper"))
    steps = unnamed.of(push(0), "Push the plate").subtasks
    assert steps == ("Push the plate: move", "Push the plate: move (2)")


def by_task(many) -> dict[str, list[np.ndarray]]:
    states, _ = many
    return {task: states[5 * i : 5 * i + 5] for i, task in enumerate(TASKS)}


def test_a_mirrored_finger_opens_downward():
    states = [grasp(seed, open_at=-0.04, shut_at=-0.001) for seed in range(4)]
    assert found(states, ["grip"] * 4).of(states[0], "grip").subtasks[0] == "grip: close the gripper"


def test_two_grippers_are_told_apart():
    names = ("left_x", "right_x", "left_gripper", "right_gripper")
    arm = path((0, 0, 0), (1, 0, 0), (1, 1, 0), frames=40)[:, :2]
    left, right = np.repeat([1.0, 0.0], [40, 40]), np.repeat([0.0, 1.0], [20, 60])
    states = [np.column_stack([arm * (1 + 0.1 * i), left, right]).astype(np.float32) for i in range(4)]
    one = MotionSubtasks(states, ["hand over"] * 4, layout(names, 2), FPS, KeyframeConfig()).of(states[0], "hand over")
    assert one.subtasks[:2] == ("hand over: open the right gripper", "hand over: close the left gripper")


def test_a_height_is_a_position_of_the_only_hand():
    states = [push(seed) for seed in range(4)]
    kinds = tuple(DimensionKind.velocity if name == "z" else DimensionKind.position for name in NAMES)
    told = MotionSubtasks(states, ["push"] * 4, layout(state_kinds=kinds), FPS, KeyframeConfig())
    assert told.of(states[0], "push").subtasks == ("push: move", "push: move (2)")


def test_a_note_names_tasks_with_one_subtask():
    assert single_subtasks(["a", "A", "b"], [1, 2, 3]) == []
    assert single_subtasks(["a", "b"], [1, 1])[0].startswith("one subtask in every episode: ")
    (note,) = single_subtasks(["Reach", "reach", "push"], [1, 1, 2])
    assert note.startswith("one subtask in every episode of 1 of 2 tasks (reach): ")
