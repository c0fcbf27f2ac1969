"""Names of namespaces and topics by the rules of ROS 2. Knows no middleware."""

import re

from emu_robot.errors import ConfigError

MOST_CHARACTERS = 150
"""Longest namespace; the middleware allows 247 for a whole name, and the longest name of a driver has about 90."""
_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def read_namespace(given: str, key: str = "namespace") -> str:
    """The absolute form of a namespace: "left" and "/left" give "/left"; "" and "/" give "", the root.

    Raises `ConfigError` naming `key` if ROS 2 does not allow it.
    """
    if given in ("", "/"):
        return ""
    if not _NAMESPACE.fullmatch(given):
        rule = "letters, digits and _ between single slashes, no digit behind a slash or in front, no slash at the end"
        raise ConfigError(f"{key}={given!r}: must be {rule}")
    if len(given) > MOST_CHARACTERS:
        raise ConfigError(f"{key}={given[:20]!r}… has {len(given)} characters, must have at most {MOST_CHARACTERS}")
    return f"/{given.lstrip('/')}"


def absolute(name: str, namespace: str) -> str:
    """A topic's whole name. namespace: from `read_namespace`. Absolute names stay as they are."""
    return name if name.startswith("/") else f"{namespace}/{name}"


def node_label(name: str, namespace: str) -> str:
    """Label of a node's lines: "left/safety", or "safety" in the root."""
    return absolute(name, namespace).lstrip("/")
