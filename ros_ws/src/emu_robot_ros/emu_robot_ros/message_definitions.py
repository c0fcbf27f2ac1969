"""Texts and hashes of message types from installed packages. They make a recording readable without these packages."""

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from emu_robot.errors import UnknownNameError

SEPARATOR = "=" * 80


def message_class(name: str) -> Any:
    """The message class of "package/msg/Name". Raises `UnknownNameError`."""
    package, _, kind = name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError):
        raise UnknownNameError("message type", name, ["those of installed packages"]) from None


def message_name(kind: Any) -> str:
    """ "package/msg/Name" of a message class."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


@cache
def definition_of(name: str) -> tuple[str, str]:
    """Definition of "package/msg/Name" followed by the definitions of its parts, and its RIHS01 hash.

    Raises `UnknownNameError` if it is not installed with its definitions.
    """
    message_class(name)
    described = json.loads(_file(name, "json").read_text())
    hashes = {row["type_name"]: row["hash_string"] for row in described["type_hashes"]}
    inner = [row["type_name"] for row in described["type_description_msg"]["referenced_type_descriptions"]]
    texts = [_file(name, "msg").read_text()]
    texts += [f"{SEPARATOR}\nMSG: {one.replace('/msg/', '/')}\n{_file(one, 'msg').read_text()}" for one in inner]
    return "\n".join(texts), hashes[name]


def package_version(package: str) -> str:
    """Version of an installed package in its package.xml."""
    return ElementTree.parse(_shared(package, "package.xml")).findtext("version", "")


def _file(name: str, suffix: str) -> Path:
    package, _, kind = name.partition("/msg/")
    return _shared(package, f"msg/{kind}.{suffix}")


def _shared(package: str, file: str) -> Path:
    """Path of share/package/file below the prefix of the package's Python module."""
    module = Path(importlib.import_module(package).__file__ or "")
    for prefix in module.parents:
        if (prefix / "share" / package / file).is_file():
            return prefix / "share" / package / file
    raise UnknownNameError("file", f"share/{package}/{file}", [f"those in a share folder above {module}"])
