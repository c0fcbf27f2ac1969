"""Read files from outside: regular files of bounded size, typed values, one line per fault.

Knows formats, not their meaning. Every function raises `WeightsError` naming the file and, if there is one, the field.
"""

import json
import math
import stat
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emu_robot.errors import InvalidValueError, WeightsError
from emu_robot.shared import typed
from emu_robot.shared.typed import first_line, whole_number

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

    try:
        finite = {"parse_constant": _finite_number, "parse_float": _finite_number, "parse_int": whole_number}
        content = json.loads(read_text(path), **finite)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, must hold an object")
    return content


def _finite_number(text: str) -> float:
    """A number of JSON. Raises `ValueError` for NaN, an infinity, and a number beyond floats, as 1e999."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number" if text[-1].isalpha() else f"{text} is too large")
    return value


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
        raise WeightsError(f"{path} is not YAML: {first_line(error)}") from error
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
            raise WeightsError(f"{path} is truncated or damaged: {first_line(error)}") from error

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header."""
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """A tensor of finite floating numbers."""
        try:
            return finite(self.path, name, self._file.get_tensor(name))
        except SafetensorError as error:
            raise WeightsError(f"{self.path}: {name} cannot be read: {first_line(error)}") from error


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
    """A dataclass from values of a file, see `shared.typed.build`."""
    try:
        return typed.build(schema, values, source)
    except InvalidValueError as error:
        raise WeightsError(str(error)) from error
