"""Read files from outside: regular files of bounded size, typed values, one line per fault.

Knows formats, not their meaning. Every function raises `WeightsError` naming the file and, if there is one, the field.
"""

import dataclasses
import json
import math
import stat
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emu_robot.errors import EmuRobotError, WeightsError

TEXT_BYTES = 64 * 2**20
"""Largest size of a text file, such as a vocabulary or an index of weights [bytes]."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def regular_file(path: Path, largest: int | None = None) -> Path:
    """The path itself, if it is a regular file of at most `largest` bytes; links are followed."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{path} is not a regular file")
    if largest is not None and status.st_size > largest:
        raise WeightsError(f"{path} has {status.st_size} bytes, must have at most {largest}")
    return path


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """All bytes of a regular file."""
    try:
        return regular_file(path, largest).read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path, largest: int = TEXT_BYTES) -> str:
    """All of a UTF-8 text."""
    try:
        return read_bytes(path, largest).decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not UTF-8 text (byte {error.start})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object whose numbers are finite."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number")

    try:
        content = json.loads(read_text(path), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, must hold an object")
    return content


def read_yaml(path: Path, largest: int = 2**16) -> dict[str, Any]:
    """A YAML table of plain values, without aliases, by which a small file can expand to a huge one."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            return super().compose_node(parent, index)

    try:
        content = yaml.load(read_text(path, largest), Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not YAML: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, must hold a table")
    return content


def plain_name(source: Path, name: Any) -> str:
    """A file's name in `source`, checked to be that of a file beside it."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise WeightsError(f"{source}: {name!r} is not a file beside it")
    return name


class TensorFile:
    """A mapped safetensors file; names and shapes come from its header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(regular_file(path), "pt", device="cpu")
            self.names: set[str] = set(self._file.keys())
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is truncated or damaged: {_first_line(error)}") from error

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """A tensor of finite floating numbers."""
        try:
            return finite(self.path, name, self._file.get_tensor(name))
        except SafetensorError as error:
            raise WeightsError(f"{self.path}: {name} cannot be read: {_first_line(error)}") from error


def finite(path: Path, name: str, tensor: Any) -> Tensor:
    """The tensor, if it holds finite floating numbers of more than 8 bits."""
    if not isinstance(tensor, Tensor):
        raise WeightsError(f"{path}: {name} is a {type(tensor).__name__}, must be a tensor")
    if tensor.dtype not in FLOATS:
        raise WeightsError(f"{path}: {name} is {str(tensor.dtype).removeprefix('torch.')}, must be floating numbers")
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path}: {name} holds values that are not finite")
    return tensor


def build[T](schema: type[T], values: Any, source: str) -> T:
    """A dataclass from values of a file, with checked types and keys; nested dataclasses are built, too.

    source: the file and the place in it. The dataclass itself checks ranges.
    """
    if not isinstance(values, Mapping):
        raise WeightsError(f"{source} is {_short(values)}, must be a table")
    hints = typing.get_type_hints(schema)
    unknown = sorted(str(name) for name in set(values) - set(hints))
    if unknown:
        raise WeightsError(f"{source}: unknown field {unknown[0]!r}; known: {', '.join(hints)}")
    built = {}
    for setting in dataclasses.fields(typing.cast(Any, schema)):
        if setting.name in values:
            built[setting.name] = _typed(hints[setting.name], values[setting.name], f"{source}: {setting.name}")
    try:
        return schema(**built)
    except EmuRobotError as error:
        raise WeightsError(f"{source}: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"{source} describes nothing that can be built: {_first_line(error)}") from error


def _typed(hint: Any, value: Any, source: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, source)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None and types.NoneType in inner else _typed(inner[0], value, source)
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise WeightsError(f"{source} is {_short(value)}, must be a list")
        return origin(_typed(inner[0], one, source) for one in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    wanted = origin or hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise WeightsError(f"{source} is {_short(value)}, must be of type {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise WeightsError(f"{source} is {value}, must be finite")
    return value


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def _first_line(error: BaseException) -> str:
    lines = str(error).split("\n")
    return lines[0][:200] or type(error).__name__
