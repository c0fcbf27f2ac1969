"""Read Parquet, JSON and JSON lines of a LeRobotDataset, with errors of one line. Knows nothing of episodes."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emu_robot.errors import DataError
from emu_robot.shared.typed import first_line, whole_number


def read_table(path: Path) -> pa.Table:
    """A whole parquet file. The last few stay in memory until they are written again."""
    try:
        written = path.stat()
        return _read_table(path, written.st_mtime_ns, written.st_size)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from error


@lru_cache(maxsize=4)
def _read_table(path: Path, _written_ns: int, _size: int) -> pa.Table:
    return pq.read_table(path)


def column_of(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DataError(f"{path}: no column {name!r}; it has {', '.join(table.column_names)}")
    return table.column(name)


def check_feature(path: Path, key: str, feature: Any) -> None:
    if not isinstance(feature, Mapping) or not isinstance(feature.get("dtype"), str):
        raise DataError(f"{path}: the feature {key} is {str(feature)[:80]!r}, expected an object with a dtype")
    shape = feature.get("shape") or []
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise DataError(f"{path}: shape of {key} is {str(shape)[:80]}, expected a list of numbers")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(), parse_int=whole_number)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; not a LeRobotDataset") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected an object")
    return value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = (line for line in path.read_text().splitlines() if line.strip())
        rows = [json.loads(line, parse_int=whole_number) for line in lines]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable JSON lines ({first_line(error)})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: holds a line that is no object")
    return rows


def read_field(path: Path, values: dict[str, Any], name: str, kind: Any) -> Any:
    if not isinstance(values.get(name), kind):
        raise DataError(f"{path}: {name} is {values.get(name)!r}")
    return values[name]


def read_texts(root: Path, name: str, column: str) -> dict[int, str]:
    """meta/<name>.parquet or .jsonl of a set: index -> text; empty if there is none."""
    table, lines = root / f"meta/{name}.parquet", root / f"meta/{name}.jsonl"
    if table.exists():
        rows = read_table(table)
        texts = "__index_level_0__" if column not in rows.column_names else column
        pairs = zip(column_of(table, rows, f"{column}_index"), column_of(table, rows, texts), strict=True)
        return {index.as_py(): text.as_py() for index, text in pairs}
    if lines.exists():
        try:
            return {int(row[f"{column}_index"]): str(row[column]) for row in read_json_lines(lines)}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{lines}: {first_line(error)}") from error
    return {}
