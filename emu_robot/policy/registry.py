"""Finds policies of other packages by names of the form `kind:name`, through the entry points of installed packages.

A package registers a kind in its pyproject.toml: `[project.entry-points."emu_robot.policies"]`, one line
`kind = "module:Source"`. This module knows no policy itself.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from emu_robot.core import Policy
from emu_robot.environments.contract import EnvironmentSpec
from emu_robot.errors import EmuRobotError, SystemSetupError

GROUP = "emu_robot.policies"


class PolicySource(Protocol):
    """The class behind a registered kind. It is made without arguments."""

    def check(self, name: str, spec: EnvironmentSpec) -> None:
        """Raise a typed error unless the policy `name` exists and can play in worlds of this description."""
        ...

    def load(self, name: str, spec: EnvironmentSpec) -> Policy:
        """The policy, which `check` accepts."""
        ...

    def made_with(self, name: str) -> Mapping[str, str]:
        """Name -> hash or version of everything in the policy that results depend on."""
        ...


def is_foreign(policy: str) -> bool:
    """Whether a policy's name begins with a registered kind."""
    return _entry(policy) is not None


def source_of(policy: str) -> tuple[PolicySource, str]:
    """The source of a foreign policy, and the policy's name there. Raises `SystemSetupError` if it does not load."""
    kind, _, name = policy.partition(":")
    return _source(kind), name


@cache
def _source(kind: str) -> PolicySource:
    entry = _entry(f"{kind}:")
    assert entry is not None, "only foreign policies have a source"
    try:
        return entry.load()()
    except EmuRobotError:
        raise
    except Exception as error:  # a plug-in may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise SystemSetupError(f"policies of kind {kind!r} cannot be loaded ({reason})") from error


def _entry(policy: str) -> EntryPoint | None:
    kind, colon, _ = policy.partition(":")
    return next(iter(entry_points(group=GROUP, name=kind)), None) if colon else None
