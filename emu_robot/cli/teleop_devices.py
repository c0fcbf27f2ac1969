"""Arm and operator's device of `emu-robot teleop` by their words: `arm=lerobot:so101_follower arm.port=...`."""

from collections.abc import Mapping, Sequence

from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.arm import Arm
from emu_robot.teleop.desk import Desk
from emu_robot.teleop.leader_hand import Device
from emu_robot.teleop.session import SessionConfig

WORDS = ("arm", "leader")
"""Keys whose device has settings of its own, as `arm.port=...`."""
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


def open_real_arm(word: str, settings: Settings) -> Arm:
    """A connected arm. word: "lerobot:so101_follower". Raises `EmuRobotError`."""
    maker, _, name = word.partition(":")
    if maker == "ros":
        raise ConfigError("arm=ros is not driven from this page; behind ROS 2 the node `teleop` drives: docs/DEPLOY.md")
    if maker != LEROBOT or not name:
        raise UnknownNameError("arm", word, (HOW, "nothing, for the simulated arm of env="))
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
