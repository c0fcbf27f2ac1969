from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.observation.buffer import NotReadyError, ObservationBuffer
from emu_robot.observation.config import ObservationConfig
from emu_robot.observation.freshness import Moment
from emu_robot.observation.image_fit import ImageFit

STEADY = 500.0
"""What the steady clock shows when the other one shows 0."""


def picture(seed: int = 0, height: int = 16, width: int = 16) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def state(value: float = 0.0) -> np.ndarray:
    return np.full(3, value, np.float32)


def at(time: float, step: float = 0.0) -> Moment:
    """Both clocks run."""
    return Moment(time, STEADY + time, step)


@pytest.fixture
def buffer() -> ObservationBuffer:
    """Two cameras, seen at 10.0 s, and the state of that time."""
    made = ObservationBuffer(["front", "wrist"], 16, ImageFit.pad)
    made.on_state(state(), 10.0, at(10.0))
    made.on_image("front", picture(1), 10.0, at(10.0))
    made.on_image("wrist", picture(2), 9.98, at(10.0))
    return made


def all_at(buffer: ObservationBuffer, time: float, seed: int, now: Moment | None = None) -> None:
    """Everything that a healthy robot sends at a time."""
    now = now or at(time)
    buffer.on_state(state(), time, now)
    buffer.on_image("front", picture(seed), time, now)
    buffer.on_image("wrist", picture(seed + 1), time, now)


def problem(buffer: ObservationBuffer, now: Moment | float) -> str:
    now = now if isinstance(now, Moment) else at(now)
    said = buffer.problem(now)
    with pytest.raises(NotReadyError) as raised:
        buffer.observe(now)
    assert str(raised.value) == said
    return said


def test_an_observation_is_as_old_as_its_oldest_part_and_has_the_state_of_its_image(buffer: ObservationBuffer):
    for i in range(1, 20):
        buffer.on_state(state(0.01 * i), 10.0 + 0.01 * i, at(10.0 + 0.01 * i))
    buffer.on_image("front", picture(3), 10.1, at(10.19))
    observation, captured = buffer.observe(at(10.2))
    assert captured == 9.98 and not buffer.problem(at(10.2))
    assert observation.state[0] == pytest.approx(0.1)
    assert np.array_equal(observation.images["front"], picture(3))
    assert np.array_equal(observation.images["wrist"], picture(2))


def test_pictures_of_any_shape_become_square():
    other = ObservationBuffer(["front"], 16, ImageFit.crop)
    other.on_state(state(), 1.0, at(1.0))
    other.on_image("front", picture(0, 48, 64), 1.0, at(1.0))
    assert other.observe(at(1.0)).observation.images["front"].shape == (16, 16, 3)


def test_what_is_missing_is_named():
    buffer = ObservationBuffer(["front", "wrist"], 16, ImageFit.pad)
    assert problem(buffer, 1.0) == "no picture of camera front yet"
    buffer.on_image("front", picture(), 1.0, at(1.0))
    assert problem(buffer, 1.0) == "no picture of camera wrist yet"
    buffer.on_image("wrist", picture(), 1.0, at(1.0))
    assert problem(buffer, 1.0) == "no joint state yet"
    for call in (
        lambda: buffer.on_image("top", picture(), 1.0, at(1.0)),
        lambda: buffer.refuse_image("top", "", at(1)),
    ):
        with pytest.raises(UnknownNameError, match="front, wrist"):
            call()


# -- time


def test_a_camera_or_a_driver_that_falls_silent_is_named(buffer: ObservationBuffer):
    buffer.on_state(state(), 10.4, at(10.4))
    buffer.on_image("wrist", picture(5), 10.4, at(10.4))
    assert problem(buffer, 10.4) == "no picture of camera front came for 0.40 s"
    buffer.on_image("front", picture(6), 11.0, at(11.0))
    buffer.on_image("wrist", picture(7), 11.0, at(11.0))
    assert problem(buffer, 11.0) == "no joint state came for 0.60 s"


def test_one_that_comes_late_is_as_old_as_its_stamp(buffer: ObservationBuffer):
    all_at(buffer, 10.5, 20)
    buffer.on_image("wrist", picture(9), 10.55, at(10.8))
    buffer.on_image("front", picture(10), 10.8, at(10.8))
    buffer.on_state(state(), 10.8, at(10.8))
    assert buffer.observe(at(10.84)).captured == 10.55
    assert problem(buffer, 10.9) == "the picture of camera wrist is 0.35 s old"
    buffer.on_image("wrist", picture(11), 9.9, at(10.9))
    assert problem(buffer, 10.9) == "the picture of camera wrist is 1.00 s old when it comes"


@pytest.mark.parametrize("ahead", [0.06, 5.0, 1e6])
def test_what_is_stamped_ahead_is_not_taken_and_stops_the_robot_while_it_comes_and_after(
    buffer: ObservationBuffer, ahead: float
):
    for i in range(1, 13):
        now = at(10.0 + 0.05 * i)
        buffer.on_state(state(), now.stamped, now)
        for camera in ("front", "wrist"):
            buffer.on_image(camera, picture(i), now.stamped + ahead, now)
        if i <= 5:
            assert buffer.observe(now).captured <= 10.0
        elif i >= 7:
            assert problem(buffer, now) == f"the picture of camera front is stamped {ahead:.2f} s ahead"
    for i in range(13, 30):
        buffer.on_state(state(), 10.0 + 0.05 * i, at(10.0 + 0.05 * i))
        said = problem(buffer, 10.0 + 0.05 * i)
    assert said == "no picture of camera front came for 0.85 s"


def test_joint_states_stamped_ahead_are_not_taken(buffer: ObservationBuffer):
    for i in range(1, 9):
        now = at(10.0 + 0.05 * i)
        for camera in ("front", "wrist"):
            buffer.on_image(camera, picture(i), now.stamped, now)
        buffer.on_state(state(), now.stamped + 2.0, now)
    assert problem(buffer, 10.4) == "the joint state is stamped 2.00 s ahead"


def test_a_little_ahead_is_taken_but_never_told(buffer: ObservationBuffer):
    now = at(11.0)
    for camera in ("front", "wrist"):
        buffer.on_image(camera, picture(5), 11.04, now)
    buffer.on_state(state(), 11.03, now)
    assert buffer.observe(now).captured == 11.0
    assert buffer.observe(at(11.02)).captured == 11.0


def test_what_is_not_stamped_is_refused(buffer: ObservationBuffer):
    for i in range(1, 9):
        now = at(10.0 + 0.05 * i)
        buffer.on_image("front", picture(i), now.stamped, now)
        buffer.on_image("wrist", picture(i), 0.0, now)
        buffer.on_state(state(), 0.0, now)
    assert problem(buffer, 10.4) == "the picture of camera wrist is not stamped"
    buffer.on_image("wrist", picture(0), 10.4, at(10.4))
    assert problem(buffer, 10.4) == "the joint state is not stamped"


def test_a_stamp_that_stands_still_is_found_though_pictures_come(buffer: ObservationBuffer):
    for i in range(1, 9):
        now = at(10.0 + 0.05 * i)
        buffer.on_image("wrist", picture(i), now.stamped, now)
        buffer.on_image("front", picture(100 + i), 10.0, now)
        buffer.on_state(state(), now.stamped, now)
    assert problem(buffer, 10.4) == "the picture of camera front has a stamp that stands still"


def test_a_clock_that_stands_still_is_found_by_arrival(buffer: ObservationBuffer):
    """/clock has died, and with it every stamp."""
    for i in range(1, 9):
        now = Moment(10.0, STEADY + 10.0 + 0.05 * i)
        buffer.on_image("front", picture(i), 10.0, now)
        buffer.on_image("wrist", picture(i), 10.0, now)
        buffer.on_state(state(), 10.0, now)
    assert problem(buffer, now) == "the picture of camera front has a stamp that stands still"


def test_two_publishers_on_one_camera_do_not_mix(buffer: ObservationBuffer):
    """The second one's pictures are 0.1 s older; they are of another place."""
    for i in range(1, 40):
        now = at(10.0 + 0.05 * i)
        buffer.on_state(state(), now.stamped, now)
        buffer.on_image("front", picture(i), now.stamped, now)
        buffer.on_image("wrist", picture(100 + i), now.stamped, now)
        buffer.on_image("wrist", picture(200 + i), now.stamped - 0.1, now)
        assert np.array_equal(buffer.observe(now).observation.images["wrist"], picture(100 + i))


def test_a_clock_that_was_set_back_begins_again(buffer: ObservationBuffer):
    later = Moment(3.0, STEADY + 10.05)
    assert problem(buffer, later) == "no picture of camera front yet"
    buffer.on_state(state(1.0), 3.0, later)
    buffer.on_image("front", picture(3), 3.0, later)
    buffer.on_image("wrist", picture(4), 3.0, later)
    found = buffer.observe(later)
    assert found.observation.state[0] == 1 and found.captured == 3.0


def test_a_clock_that_was_set_forward_needs_new_pictures(buffer: ObservationBuffer):
    later = Moment(99.0, STEADY + 10.05)
    assert problem(buffer, later) == "the picture of camera front is 89.00 s old"
    all_at(buffer, 99.0, 5, later)
    assert buffer.observe(later).captured == 99.0


def test_a_simulated_clock_of_ten_steps_per_second_is_known_to_be_coarse():
    """Stamps are of the simulation's own time, up to one step ahead of the last /clock."""
    buffer, fine = ObservationBuffer(["front"], 16, ImageFit.pad), ObservationBuffer(["front"], 16, ImageFit.pad)
    refused = 0
    for i in range(1, 60):
        true = 10.0 + 0.02 * i
        shown = np.floor(true / 0.1 + 1e-9) * 0.1
        for one, step in ((buffer, 0.1), (fine, 0.0)):
            now = Moment(shown, STEADY + true, step)
            one.on_state(state(), true, now)
            one.on_image("front", picture(i), true, now)
            refused += one is fine and bool(one.problem(now)) and i > 5
        found = buffer.observe(Moment(shown, STEADY + true, 0.1))
        assert found.captured <= shown and found.captured >= true - 0.1001
        assert np.array_equal(found.observation.images["front"], picture(i))
    now = Moment(shown, STEADY + true, 0.1)
    buffer.on_image("front", picture(100), shown + 0.2, now)
    assert not np.array_equal(buffer.observe(now).observation.images["front"], picture(100))
    coarse = Moment(shown, STEADY + true, 60.0)
    buffer.on_image("front", picture(100), shown + 1.0, coarse)
    assert not np.array_equal(buffer.observe(coarse).observation.images["front"], picture(100))


# -- content


def test_a_camera_that_goes_black_or_changes_its_size_is_refused_until_it_shows_something_again(
    buffer: ObservationBuffer,
):
    def from_then_on(image: Image, begin: float) -> str:
        """For 0.4 s, while the others are well."""
        for i in range(1, 9):
            now = at(begin + 0.05 * i)
            buffer.on_state(state(), now.stamped, now)
            buffer.on_image("wrist", picture(i), now.stamped, now)
            buffer.on_image("front", image, now.stamped, now)
        return problem(buffer, begin + 0.4)

    black = np.zeros((16, 16, 3), np.uint8)
    assert from_then_on(black, 10.0) == "the picture of camera front shows nothing: black or covered"
    said = "the picture of camera front changed its size from 16 x 16 to 32 x 24"
    assert from_then_on(picture(3, 24, 32), 11.0) == said
    all_at(buffer, 11.45, 3)
    assert np.array_equal(buffer.observe(at(11.45)).observation.images["front"], picture(3))


def test_one_bad_picture_among_good_ones_is_left_out(buffer: ObservationBuffer):
    buffer.on_image("front", np.zeros((16, 16, 3), np.uint8), 10.05, at(10.05))
    buffer.refuse_image("wrist", "cannot be used: cut off", at(10.05))
    buffer.refuse_state("has no joint1", at(10.05))
    assert np.array_equal(buffer.observe(at(10.05)).observation.images["front"], picture(1))


def test_what_the_caller_could_not_read_is_told_when_nothing_better_comes(buffer: ObservationBuffer):
    for i in range(1, 9):
        now = at(10.0 + 0.05 * i)
        buffer.on_image("front", picture(i), now.stamped, now)
        buffer.refuse_image("wrist", "cannot be used: image encoding '8UC3'", now)
        buffer.refuse_state("cannot be used: joint1 not finite", now)
    assert problem(buffer, 10.4) == "the picture of camera wrist cannot be used: image encoding '8UC3'"
    buffer.on_image("wrist", picture(0), 10.4, at(10.4))
    assert problem(buffer, 10.4) == "the joint state cannot be used: joint1 not finite"


def slightly_noisy(image: Image, seed: int) -> Image:
    noise = np.random.default_rng(seed).integers(-1, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spoil", [lambda image, i: image, slightly_noisy], ids=["the same", "with noise on it"])
def test_a_frozen_camera_is_noticed_once_the_robot_has_moved(
    buffer: ObservationBuffer, spoil: Callable[[Image, int], Image]
):
    for i in range(1, 60):
        now = at(10.0 + 0.01 * i)
        buffer.on_state(state(0.01 * max(i - 20, 0)), now.stamped, now)
        buffer.on_image("wrist", spoil(picture(2), i), now.stamped, now)
        buffer.on_image("front", picture(100 + i), now.stamped, now)
        if i <= 50:
            buffer.observe(now)
    assert problem(buffer, 10.59) == "camera wrist is frozen: the same picture while the robot moved by 0.39"
    buffer.on_image("wrist", picture(9), 10.6, at(10.6))
    buffer.observe(at(10.6))


def test_a_fast_robot_may_see_a_picture_twice(buffer: ObservationBuffer):
    """As a camera that is asked for more pictures than the light allows sends them."""
    for i in range(1, 60):
        now = at(10.0 + 0.05 * i)
        buffer.on_state(state(0.2 * i), now.stamped, now)
        for camera in ("front", "wrist"):
            buffer.on_image(camera, picture(100 + i // 5), now.stamped, now)
        buffer.observe(now)


def test_a_robot_that_leaves_its_rest_fast_may_see_its_picture_twice(buffer: ObservationBuffer):
    for i in range(1, 100):
        now, motion = at(10.0 + 0.05 * i), max(i - 90, 0)
        buffer.on_state(state(0.2 * motion), now.stamped, now)
        for camera in ("front", "wrist"):
            buffer.on_image(camera, picture(motion // 3), now.stamped, now)
        buffer.observe(now)


def test_a_small_thing_that_moves_is_no_frozen_camera(buffer: ObservationBuffer):
    """Four pixels of a gripper before a steady scene."""
    for i in range(1, 40):
        now, image = at(10.0 + 0.01 * i), picture(2).copy()
        image[3:5, i % 14 : i % 14 + 2] = 255 * (i % 2)
        buffer.on_state(state(0.02 * i), now.stamped, now)
        buffer.on_image("wrist", image, now.stamped, now)
        buffer.on_image("front", picture(100 + i), now.stamped, now)
        buffer.observe(now)


def test_a_still_robot_may_see_the_same_picture_for_ever(buffer: ObservationBuffer):
    for i in range(1, 200):
        all_at(buffer, 10.0 + 0.05 * i, 1)
    buffer.observe(at(19.95))


def test_a_camera_seen_before_the_robot_was_felt_can_freeze_too():
    buffer = ObservationBuffer(["front"], 16, ImageFit.pad)
    for i in range(40):
        now = at(10.0 + 0.02 * i)
        buffer.on_image("front", picture(1), now.stamped, now)
        if i > 3:
            buffer.on_state(state(0.01 * i), now.stamped, now)
    assert "camera front is frozen: the same picture while the robot moved by 0.3" in problem(buffer, now)


# -- settings, and everything at once


@pytest.mark.parametrize(
    "values",
    [
        {"max_age_s": 0.0}, {"frozen_motion": -1.0}, {"min_contrast": -1.0}, {"future_tolerance_s": 2.0},
        {"max_age_s": float("nan")}, {"frozen_difference": 51},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(values: dict[str, float]):
    with pytest.raises(InvalidValueError, match=f"observation.{next(iter(values))} is .*, must lie in"):
        ObservationConfig(**values)  # pyright: ignore[reportArgumentType]


TIMES = st.one_of(st.floats(-0.5, 0.1), st.floats(-1e6, 1e6), st.just(-1e9))


OLD_STATE = [(0.0, "f", -1e9, 0.0), (0.0, "s", 0.0, 0.0), (0.25, "f", -0.125, 0.0), (0.125, "w", 0.0, 0.0)]


@settings(max_examples=200, deadline=None)
@example([*OLD_STATE, (0.0, "s", 0.0, 0.0)])
@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.sampled_from("fws"), TIMES, st.floats(-3, 3)), max_size=40))
def test_whatever_comes_an_observation_is_recent_and_never_of_the_future(events: list[tuple[float, str, float, float]]):
    """Any order of pictures and states with any stamps, under a clock that may be set: what is given out came within
    `max_age_s`, and says so.
    """
    buffer, config = ObservationBuffer(["front", "wrist"], 16, ImageFit.pad), ObservationConfig()
    arrived, steady, shift = dict.fromkeys("fws", float("-inf")), 0.0, 1e6
    for i, (wait, part, offset, jump) in enumerate(events):
        steady += wait
        shift += jump if i % 9 == 8 else 0.0
        now = Moment(shift + steady, steady)
        if part == "s":
            buffer.on_state(state(0.01 * i), now.stamped + offset, now)
        else:
            buffer.on_image({"f": "front", "w": "wrist"}[part], picture(i), now.stamped + offset, now)
        if offset <= config.future_tolerance_s:
            arrived[part] = steady
        if not buffer.problem(now):
            captured = buffer.observe(now).captured
            assert now.stamped - config.max_age_s - 1e-6 <= captured <= now.stamped
            assert steady - min(arrived.values()) <= config.max_age_s + 1e-6
