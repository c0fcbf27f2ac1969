"""Finds environments by name through the entry points of installed packages, and imports them only when asked.

A package registers its suite in its pyproject.toml: `[project.entry-points."emu_robot.environments"]`, one line
`name = "module:Suite"`. `docs/environments.md` describes suites. This module knows no environment itself.

A class that stands for many environments takes names of the form `name:text`, such as `lerobot:pusht`.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from emu_robot.environments.capabilities import MadeByText, MixesTasks
from emu_robot.environments.contract import SEEN, Environment, Suite, check_members, open_task, select_tasks
from emu_robot.errors import EmuRobotError, InvalidValueError, SystemSetupError, UnknownNameError

GROUP = "emu_robot.environments"


def names() -> list[str]:
    """Names of the environments that installed packages register."""
    return sorted(entry_points(group=GROUP).names)


def check_name(name: str) -> None:
    """Raise `UnknownNameError` unless a package registers `name`, or the part of it before the first colon."""
    _entry_point(name)


@cache
def suite(name: str) -> Suite:
    """The suite called `name`, or the one that `name:text` describes.

    Raises `UnknownNameError` with the known names, `SystemSetupError` naming the package of a suite that does not load.
    """
    entry = _entry_point(name)
    try:
        made = _make(entry.load(), name)
    except EmuRobotError:
        raise
    except Exception as error:  # a plug-in may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise SystemSetupError(f"environment {name!r} of {_owner(entry)} cannot be loaded ({reason})") from error
    check_members(f"environment {name!r} of {_owner(entry)}", made, Suite)
    return made


def make(name: str, tasks: str | Sequence[str] = (), split: str = SEEN) -> Environment:
    """Open a world of the environment called `name`. The caller closes it.

    tasks: tasks or groups; the suite's defaults if empty. Several tasks need a suite that mixes them.
    Raises `UnknownNameError` for a name, task or split, `InvalidValueError` for several tasks where one is possible.
    """
    found = suite(name)
    wanted = [tasks] if isinstance(tasks, str) else list(tasks)
    chosen = [task.name for task in select_tasks(found.tasks, wanted or found.default_tasks, split)]
    if len(chosen) == 1:
        return open_task(found, chosen[0], split)
    if isinstance(found, MixesTasks):
        return found.open_mixed(chosen, split)
    raise InvalidValueError(f"environment {name!r} opens one task at a time; name one of: {', '.join(chosen)}")


def _make(loaded: type[Suite], name: str) -> Suite:
    base, colon, text = name.partition(":")
    if isinstance(loaded, MadeByText):
        return loaded.from_text(text)
    if colon:
        raise InvalidValueError(f"environment {base!r} takes no text after its name, got {name!r}")
    return loaded()


def _entry_point(name: str) -> EntryPoint:
    found = list(entry_points(group=GROUP, name=name.partition(":")[0]))
    if not found:
        raise UnknownNameError("environment", name, names())
    if len({entry.value for entry in found}) > 1:
        owners = " and ".join(f"{_owner(entry)} ({entry.value})" for entry in found)
        raise SystemSetupError(f"environment {name!r} is registered twice: by {owners}; uninstall one of them")
    return found[0]


def _owner(entry: EntryPoint) -> str:
    """Name and version of the distribution that registers an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
