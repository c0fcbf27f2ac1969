"""What the dimensions of a set are and where they go: from names in every form, from types, keys and motion."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu_robot.data.dimensions import Dimensions, Wanted, choose_dimensions
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.lerobot_names import camera_names, dimension_names
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.robots.order import check_whole, order_of, to_ours, to_theirs
from emu_robot.robots.spec import DimensionKind, RobotLayout

STATE, ACTION = "observation.state", "action"
JOINTS = [f"j{i}" for i in range(6)]
T = np.arange(200) / 20


class Features:
    """A set of which only the features are known."""

    root = Path("set")

    def __init__(self, state: Any, action: Any, whole: tuple[str, ...] = ()) -> None:
        self._names, self._whole = {STATE: state, ACTION: action}, whole

    def names(self, key: str) -> list[str]:
        if key not in self._names:
            raise UnknownNameError("feature", key, self._names)
        return self._names[key]

    def holds_whole_numbers(self, key: str) -> bool:
        return key in self._whole


def chosen(state: Any, action: Any = None, whole: tuple[str, ...] = (), **said: Any) -> Dimensions:
    features = cast(LeRobotFiles, Features(state, state if action is None else action, whole))
    settings: dict[str, Any] = {"kinds": {}} | said
    return choose_dimensions(features, Wanted(state=[STATE], action=[ACTION], **settings))


def kinds(names: list[str], **said: Any) -> list[str]:
    """Of actions called so, as far as they are known before anything moves."""
    dimensions = chosen(names, **said)
    by_place = sorted(dimensions.action, key=lambda column: column.place)
    return [column.kind.value if column.kind else "?" for column in by_place]


@pytest.mark.parametrize(
    ("names", "width", "known"),
    [
        (["a", "b"], 2, ["a", "b"]),
        ({"delta_x": 0, "delta_y": 1, "gripper": 2}, 3, ["delta_x", "delta_y", "gripper"]),
        ({"b": 1, "a": 0}, 2, ["a", "b"]),
        ([["a", "b", "left_gripper"]], 3, ["a", "b", "left_gripper"]),
        ([["a"], ["b"]], 2, ["a", "b"]),
        ({"motors": ["a", "b"]}, 2, ["a", "b"]),
        ({"left": ["a"], "right": ["a"]}, 2, ["a", "a"]),
        ({"0": "x", "1": "y"}, 2, ["x", "y"]),
        (["a"], 2, None),
        (None, 2, None),
        ({"delta_x": 0}, 2, None),
    ],
)
def test_names_in_every_form_are_read(names, width, known):
    assert dimension_names(names, width) == known


def test_names_tell_kinds():
    told = {
        "delta_x": "delta", "dx": "delta", "deltaYaw": "delta", "d_roll": "?", "x.vel": "velocity", "vx": "velocity",
        "theta.vel": "velocity", "qw": "rotation", "yaw": "?", "wrist_roll.pos": "angle", "j1.pos": "position",
        "j1": "?", "gripper": "gripper", "left_claw": "gripper", "d0": "?",
    }  # fmt: skip
    assert dict(zip(told, kinds(list(told)), strict=True)) == told
    measured = [column.kind for column in chosen(["delta_x", "yaw", "x.vel"]).state]
    assert measured == [None, DimensionKind.angle, DimensionKind.velocity], "what is measured is no delta"


def test_keys_and_types_tell_kinds():
    names = ["a", "b", "c", "gripper"]
    assert kinds(names, kinds={"delta": ["a"], "angle": ["action.b"]}) == ["delta", "angle", "?", "gripper"]
    assert kinds(names, kinds={"velocity": ["action.*"]}) == ["velocity"] * 3 + ["gripper"]
    assert kinds(names, kinds={"discrete": ["action.3", "observation.state.3"]}) == ["?", "?", "?", "discrete"]
    assert kinds(names, whole=(ACTION,)) == ["discrete"] * 3 + ["gripper"]
    with pytest.raises(UnknownNameError, match="'wrist'; known: a, b, c, gripper"):
        kinds(names, kinds={"delta": ["wrist"]})
    with pytest.raises(UnknownNameError, match="'speed'; known: position, angle"):
        kinds(names, kinds={"speed": ["a"]})


def motion(rng: np.random.Generator) -> np.ndarray:
    """(T,) smooth, here and there."""
    return np.sum([rng.uniform(0.3, 1) * np.sin(rng.uniform(0.5, 3) * T + rng.uniform(0, 6)) for _ in range(3)], 0)


def test_motion_tells_what_names_do_not():
    rng = np.random.default_rng(0)
    episodes = [np.stack([motion(rng) for _ in range(5)], 1) for _ in range(3)]
    yaw = (2 * T - 1 + np.pi) % (2 * np.pi) - np.pi
    states = [np.column_stack([episode, yaw]).astype(np.float32) for episode in episodes]
    later = [np.concatenate([state[1:], state[-1:]]) for state in states]
    steps = [np.diff(state, axis=0, append=state[-1:]) for state in states]
    actions = [
        np.column_stack(
            [n[:, 0], d[:, 1], 20 * d[:, 2], np.roll(5 * d[:, 3], 2), rng.normal(size=200), n[:, 5]]
        ).astype(np.float32)
        for n, d in zip(later, steps, strict=True)
    ]
    names = ["a", "b", "c", "d", "e", "f"]
    settled = chosen(names).settled(states, actions, 20.0)
    found = [column.kind for column in settled.action]
    assert found == ["position", "delta", "velocity", "delta", None, "angle"]
    assert settled.unknown == ["action.e"] and settled.action[5].period == pytest.approx(2 * np.pi)
    assert settled.state[5].kind is DimensionKind.angle and settled.relative_dims(states, actions) == 0
    still = chosen(names[:3]).settled([s[:, :3] for s in states], [a[:, :3] for a in later], 20.0)
    assert still.relative_dims([s[:, :3] for s in states], [a[:, :3] for a in later]) == 3


def test_grippers_are_found_however_they_are_called():
    both = chosen([*JOINTS, "finger_pos"], [*JOINTS, "grip_cmd"])
    assert both.n_grippers == 1 and both.state[-1].name == "finger_pos" and both.action[-1].name == "grip_cmd"
    fingers = chosen([*JOINTS, "left_finger", "right_finger"], [*JOINTS, "gripper"])
    assert fingers.n_grippers == 1 and [c.name for c in fingers.state][-2:] == ["left_finger", "right_finger"]
    arms = chosen(["l1", "l_finger1", "l_finger2", "r1", "r_finger1", "r_finger2"], ["l1", "l_grip", "r1", "r_grip"])
    assert arms.n_grippers == 2 and [c.name for c in arms.state][-2:] == ["l_finger2", "r_finger2"]
    hand = chosen([f"finger{i}" for i in range(16)])
    assert hand.n_grippers == 0, "sixteen fingers are a hand"


def test_advice_about_grippers_can_be_followed():
    state, action = [*JOINTS, "hand_a"], [*JOINTS, "hand_b"]
    assert chosen(state, action, grippers=["hand_a", "hand_b"]).n_grippers == 1
    with pytest.raises(ConfigError, match=r"1 grippers in the state, 0 in the action .*grippers=.*kinds.discrete="):
        chosen([*JOINTS, "gripper"], [*JOINTS, "hand_b"])
    assert chosen([*JOINTS, "gripper"], [*JOINTS, "hand_b"], grippers=["gripper", "hand_b"]).n_grippers == 1
    assert chosen(JOINTS, [*JOINTS, "gripper"], kinds={"discrete": ["gripper"]}).n_grippers == 0
    with pytest.raises(UnknownNameError, match="'claw'; known: j0"):
        chosen(state, action, grippers=["claw"])


def test_a_name_that_stands_for_two_is_never_guessed():
    names = ["j1", "j2", "gripper"] * 2
    with pytest.raises(ConfigError, match=r"'j1' stands for several dimensions; say which: action.0, action.3"):
        chosen(names, action_names=["j1", "gripper"])
    assert [
        c.place
        for c in chosen(names, action_names=["action.3", "action.5"], state_names=["observation.state.5"]).action
    ] == [3, 5]
    dual = chosen(names)
    assert [column.place for column in dual.action] == [0, 1, 3, 4, 2, 5]
    assert to_theirs(np.arange(6), [0, 1, 3, 4, 2, 5]).tolist() == [0, 1, 4, 2, 3, 5]


@given(
    st.lists(
        st.sampled_from(["j", "k", "gripper", "finger", "yaw", "dx", "action.0", "", "é [*]"]), min_size=1, max_size=14
    )
)
def test_whatever_the_names_every_number_comes_back_to_its_place(names):
    action = chosen(names).action
    order = order_of([column.place for column in action])
    theirs = np.random.default_rng(0).normal(size=(2, 3, len(names)))
    ours = to_ours(theirs, order)
    for i, column in enumerate(action):
        assert np.array_equal(ours[..., i], theirs[..., column.place]) and column.name == names[column.place]
    assert np.array_equal(to_theirs(ours, order), theirs)
    is_gripper = [column.kind is DimensionKind.gripper for column in action]
    assert is_gripper == sorted(is_gripper)


def test_a_robot_is_never_sent_a_part_of_its_actions():
    with pytest.raises(InvalidValueError, match=r"leaves out \[1\]"):
        check_whole([2, 0])
    with pytest.raises(InvalidValueError, match="number 6"):
        to_ours(np.zeros((2, 3)), [5, 0])
    assert chosen(["a", "b", "c"], action_names=["a", "b"]).left_out == ("action.c",)


def test_holding_is_what_each_dimension_needs():
    layout = RobotLayout(
        state_names=("x", "y", "v", "q", "g"),
        action_names=("x", "dy", "v", "mode", "g"),
        n_grippers=1,
        relative_dims=1,
        action_kinds=tuple(map(DimensionKind, ("position", "delta", "velocity", "discrete", "gripper"))),
    )
    state, typical = np.array([1, 2, 3, 4, 5], np.float32), np.full(5, 9, np.float32)
    assert layout.hold(state, typical=typical).tolist() == [1, 0, 0, 9, 5]
    last = np.array([7, 7, 7, 7, 7], np.float32)
    assert layout.hold(state, typical=typical, last=last).tolist() == [7, 0, 0, 7, 7]
    assert layout.rates.tolist() == [False, True, True, False, False]
    with pytest.raises(ConfigError, match="action_kinds has 1 entries, action_names has 2"):
        RobotLayout(
            state_names=("x",), action_names=("x", "y"), n_grippers=0, relative_dims=0,
            action_kinds=(DimensionKind.delta,),
        )  # fmt: skip


def test_every_camera_gets_a_name_of_its_own_that_can_be_stored():
    prefix = "observation.images."
    named = camera_names([prefix + name for name in ("top", "frame", "frames", "codes_top", "a.b", "a_b", "été", "")])
    assert list(named) == ["top", "camera_frame", "camera_frames", "camera_codes_top", "a_b", "a_b_2", "_t_", "camera"]
    assert named["a_b"] == prefix + "a.b" and camera_names(["frame"]) == {"camera_frame": "frame"}
