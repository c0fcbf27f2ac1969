import numpy as np
import pytest

from emu_robot.core import Image
from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.image_fit import ImageFit
from emu_robot.observing import NotReadyError, ObservationBuffer, ObservingConfig


def picture(seed: int = 0, height: int = 16, width: int = 16) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def state(value: float = 0.0) -> np.ndarray:
    return np.full(3, value, np.float32)


@pytest.fixture
def buffer() -> ObservationBuffer:
    """Two cameras, seen at 10.0 s, and the state of that time."""
    made = ObservationBuffer(["front", "wrist"], 16, ImageFit.pad)
    made.on_state(state(), 10.0)
    made.on_image("front", picture(1), 10.0)
    made.on_image("wrist", picture(2), 9.98)
    return made


def problem(buffer: ObservationBuffer, now: float) -> str:
    with pytest.raises(NotReadyError) as raised:
        buffer.observe(now)
    return str(raised.value)


def test_an_observation_is_as_old_as_its_oldest_part_and_has_the_state_of_its_image(buffer: ObservationBuffer):
    for i in range(1, 20):
        buffer.on_state(state(0.01 * i), 10.0 + 0.01 * i)
    buffer.on_image("front", picture(3), 10.1)
    observation, captured = buffer.observe(10.2)
    assert captured == 9.98
    assert observation.state[0] == pytest.approx(0.1)
    assert np.array_equal(observation.images["front"], picture(3))
    assert np.array_equal(observation.images["wrist"], picture(2))


def test_pictures_of_any_shape_become_square(buffer: ObservationBuffer):
    other = ObservationBuffer(["front"], 16, ImageFit.crop)
    other.on_state(state(), 0.0)
    other.on_image("front", picture(0, 48, 64), 0.0)
    assert other.observe(0.0).observation.images["front"].shape == (16, 16, 3)


def test_what_is_missing_is_named():
    buffer = ObservationBuffer(["front", "wrist"], 16, ImageFit.pad)
    assert "no image of camera front" in problem(buffer, 0.0)
    buffer.on_image("front", picture(), 0.0)
    assert "no image of camera wrist" in problem(buffer, 0.0)
    buffer.on_image("wrist", picture(), 0.0)
    assert "no joint states" in problem(buffer, 0.0)
    with pytest.raises(UnknownNameError, match="front, wrist"):
        buffer.on_image("top", picture(), 0.0)


def test_old_parts_are_named(buffer: ObservationBuffer):
    buffer.on_state(state(), 10.4)
    buffer.on_image("wrist", picture(5), 10.4)
    assert "camera front is 0.40 s old" in problem(buffer, 10.4)
    buffer.on_image("front", picture(6), 11.0)
    buffer.on_image("wrist", picture(7), 11.0)
    assert "joint states are 0.60 s old" in problem(buffer, 11.0)


def test_a_camera_that_goes_black_or_changes_its_size_is_refused_until_it_shows_something_again(
    buffer: ObservationBuffer,
):
    buffer.on_image("front", np.zeros((16, 16, 3), np.uint8), 10.05)
    assert "black" in problem(buffer, 10.05)
    buffer.on_image("front", picture(3, 32, 32), 10.1)
    assert "changed its size" in problem(buffer, 10.1)
    buffer.on_image("front", picture(3), 10.15)
    assert np.array_equal(buffer.observe(10.15).observation.images["front"], picture(3))


def test_a_frozen_camera_is_noticed_once_the_robot_has_moved(buffer: ObservationBuffer):
    for i in range(1, 30):
        buffer.on_state(state(0.01 * i), 10.0 + 0.01 * i)
        buffer.on_image("wrist", picture(2), 10.0 + 0.01 * i)
        buffer.on_image("front", picture(100 + i), 10.0 + 0.01 * i)
        if i <= 14:
            buffer.observe(10.0 + 0.01 * i)
    assert "camera wrist is frozen" in problem(buffer, 10.29)
    buffer.on_image("wrist", picture(9), 10.3)
    buffer.observe(10.3)


def test_a_still_robot_may_see_the_same_picture_for_ever(buffer: ObservationBuffer):
    for i in range(1, 200):
        buffer.on_state(state(), 10.0 + 0.05 * i)
        for camera, seed in (("front", 1), ("wrist", 2)):
            buffer.on_image(camera, picture(seed), 10.0 + 0.05 * i)
    buffer.observe(19.95)


def test_a_clock_that_jumps_back_starts_the_states_anew(buffer: ObservationBuffer):
    buffer.on_state(state(1.0), 3.0)
    buffer.on_image("front", picture(3), 3.0)
    buffer.on_image("wrist", picture(4), 3.0)
    assert buffer.observe(3.0).observation.state[0] == 1


@pytest.mark.parametrize("values", [{"max_age_s": 0.0}, {"frozen_motion": -1.0}, {"min_contrast": -1.0}])
def test_impossible_settings_are_refused(values: dict[str, float]):
    with pytest.raises(InvalidValueError):
        ObservingConfig(**values)
