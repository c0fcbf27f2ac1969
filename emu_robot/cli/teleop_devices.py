"""Arm and operator's device of `emu-robot teleop` by their words: `arm=lerobot:so101_follower arm.port=...`."""

import importlib.util
import os
from collections.abc import Mapping, Sequence

from emu_robot.deploy.ros_environment import find_interpreter
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.arm import Arm
from emu_robot.teleop.desk import Desk
from emu_robot.teleop.leader_hand import Device
from emu_robot.teleop.session import SessionConfig

WORDS = ("arm", "leader")
"""Keys whose device has settings of its own, as `arm.port=...`."""
ROS = "ros"
"""Maker of arms of a running ROS 2 graph."""
LEROBOT = "lerobot"
"""Maker of both arms and leaders."""
SPACEMOUSE = "spacemouse"
"""The device that needs no maker."""
HOW = "lerobot:TYPE, such as lerobot:so101_follower"

type Settings = Mapping[str, str]
"""Settings of a device by dotted key."""


def split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The other arguments, and the settings of arm and leader. Raises `ConfigError` for one that is given twice."""
    rest: list[str] = []
    settings: dict[str, dict[str, str]] = {word: {} for word in WORDS}
    for argument in arguments:
        word, dot, inner = argument.partition("=")[0].partition(".")
        if not dot or word not in WORDS:
            rest.append(argument)
            continue
        key, equals, value = inner, *argument.partition("=")[1:]
        if not equals or not key:
            raise ConfigError(f"{argument!r} is not of the form key=value")
        if key in settings[word]:
            raise ConfigError(f"{word}.{key} is given twice")
        settings[word][key] = value
    return rest, settings


def continue_with_ros(verb: str, arguments: Sequence[str]) -> None:
    """Become the same command in the Python that has ROS, if this one has none. Raises `SystemSetupError` without."""
    if importlib.util.find_spec("rclpy") is None:
        python = str(find_interpreter())
        os.execv(
            python, [python, "-c", "from emu_robot.cli.main import main; raise SystemExit(main())", verb, *arguments]
        )


def open_real_arm(word: str, settings: Settings) -> Arm:
    """A connected arm. word: "lerobot:so101_follower". Raises `EmuRobotError`."""
    maker, _, name = word.partition(":")
    if maker == ROS and name:
        from emu_robot_ros.driven_arm import open_arm as open_ros_arm  # pyright: ignore[reportMissingImports]

        return open_ros_arm(name, settings)
    if maker != LEROBOT or not name:
        raise UnknownNameError("arm", word, (HOW, "ros:ROBOT, such as ros:panda_sim", "nothing, for that of env="))
    from emu_robot.lerobot.driven_arm import open_arm

    return open_arm(name, settings)


def open_device(
    word: str, settings: Settings, desk: Desk, arm: Arm, session: SessionConfig, *, faces_arm: bool
) -> Device:
    """A connected device of the operator. Raises `EmuRobotError`."""
    if word == SPACEMOUSE:
        return _open_spacemouse(settings, desk, arm, session, faces_arm=faces_arm)
    maker, _, name = word.partition(":")
    if maker != LEROBOT or not name:
        raise UnknownNameError("leader", word, ("lerobot:TYPE, such as lerobot:so101_leader", SPACEMOUSE))
    from emu_robot.lerobot.leaders import open_leader

    return open_leader(name, settings, desk, arm)


def _open_spacemouse(settings: Settings, desk: Desk, arm: Arm, session: SessionConfig, *, faces_arm: bool) -> Device:
    if settings:
        raise ConfigError(f"a SpaceMouse has no settings; given: {', '.join(f'leader.{key}' for key in settings)}")
    if arm.kinematics is None:
        raise ConfigError(f"a SpaceMouse moves the tool, and where that of {arm.name} is, is not known: give arm.urdf")
    from emu_robot.teleop.spacemouse import SpaceMouse

    return SpaceMouse(desk, session.hand, rate_hz=session.rate_hz, faces_arm=faces_arm)
