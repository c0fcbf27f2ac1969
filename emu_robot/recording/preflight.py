"""What must be right before an episode is recorded. Numpy only."""

from collections.abc import Mapping

from emu_robot.core import Observation
from emu_robot.observation.config import ObservationConfig
from emu_robot.recording.messages import RecordedRobot

FEWEST_MINUTES = 2.0
"""Minutes of recording for which the disk must have room."""


def problems_of(
    observation: Observation, robot: RecordedRobot, ages_s: Mapping[str, float], minutes_left: float
) -> list[str]:
    """Reasons not to begin, in words. ages_s: age of each camera's picture [s], where it is known."""
    config, found = ObservationConfig(), []
    for camera, size in robot.cameras.items():
        image = observation.images.get(camera)
        if image is None:
            found.append(f"camera {camera} gives no picture")
        elif image.shape[:2] != tuple(size):
            found.append(f"camera {camera} gives {image.shape[0]} x {image.shape[1]} px, not {size[0]} x {size[1]}")
        elif image[::4, ::4].std() < config.min_contrast:
            found.append(f"camera {camera} shows nothing: black or covered")
        if ages_s.get(camera, 0.0) > config.max_age_s:
            found.append(f"the picture of camera {camera} is {ages_s[camera]:.2f} s old")
    if observation.state.shape != (len(robot.layout.state_names),):
        found.append(f"the state has {observation.state.size} values, not {len(robot.layout.state_names)}")
    if minutes_left < FEWEST_MINUTES:
        found.append(f"the disk has room for {minutes_left:.1f} minutes only")
    return found
