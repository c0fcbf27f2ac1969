"""Functions that the verbs share: `--help` or a configuration, sub-verbs, a key taken from the arguments."""

from collections.abc import Sequence
from typing import Any

from emu_robot.config import load_config
from emu_robot.errors import ConfigError, UnknownNameError

HELP = ("-h", "--help")


def configure(verb: str, arguments: Sequence[str], command: str = "") -> Any | None:
    """The verb's configuration, or None after printing its keys because help was asked for.

    command: the words before the keys, if they are not the verb.
    """
    if any(word in HELP for word in arguments):
        from emu_robot.cli.settings_help import print_settings  # only here: it needs rich

        print_settings(verb, command or verb)
        return None
    return load_config(verb, arguments)


def take(kind: str, known: Sequence[str], arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Take `kind=value` with a `known` value from the arguments. Returns the value and the other arguments.

    Raises `ConfigError` if it is missing, `UnknownNameError` if the value is unknown.
    """
    values = [word.removeprefix(f"{kind}=") for word in arguments if word.startswith(f"{kind}=")]
    if not values:
        raise ConfigError(f"{kind}= is missing; one of: {', '.join(known)}")
    if values[-1] not in known:
        raise UnknownNameError(kind, values[-1], known)
    return values[-1], [word for word in arguments if not word.startswith(f"{kind}=")]


def sub_verb(verb: str, known: Sequence[str], arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The first word and the others. Raises `UnknownNameError` unless it is `known`."""
    if not arguments or arguments[0] not in known:
        raise UnknownNameError(f"{verb} command", arguments[0] if arguments else "", known)
    return arguments[0], list(arguments[1:])
