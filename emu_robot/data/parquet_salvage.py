"""Read a Parquet file whose writer was killed: its whole row groups, without the footer that a closed file has.

Works for columns with the same number of values in every row, as in LeRobot's tables of frames. The footer of a small
file with the same columns serves as a pattern; places and sizes come from the pages that are there.
"""

import io
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emu_robot.data.thrift import I64, Reader, Struct, write
from emu_robot.errors import DataError
from emu_robot.shared.typed import first_line

MAGIC = b"PAR1"
DICTIONARY_PAGE = 2
# Numbers of fields in parquet.thrift: FileMetaData, RowGroup, ColumnChunk, ColumnMetaData, PageHeader
ROWS_OF_FILE, GROUPS = 3, 4
CHUNKS, BYTES_OF_GROUP, ROWS_OF_GROUP, BEGIN_OF_GROUP, PACKED_BYTES_OF_GROUP = 1, 2, 3, 5, 6
BEGIN_OF_CHUNK, CHUNK_META = 2, 3
VALUES, UNPACKED, PACKED, DATA_PAGE, DICTIONARY = 5, 6, 7, 9, 11
KEPT_OF_CHUNK = (1, 2, 3, 4, VALUES, UNPACKED, PACKED, DATA_PAGE, DICTIONARY)
"""Type, encodings, path, codec and the above; without statistics, which were lost."""


@dataclass(frozen=True, kw_only=True)
class _Page:
    begin: int
    end: int
    unpacked: int
    values: int
    is_dictionary: bool


type _Group = list[list[_Page]]
"""Pages of each column of a row group."""


def salvage(path: Path, pattern: pa.Table) -> pa.Table:
    """The rows of an unclosed file. pattern: at least one row of the columns that it has, in their order.

    Raises `DataError` if there is no whole row group of these columns.
    """
    content = path.read_bytes()
    footer, widths = _pattern(pattern)
    groups: list[tuple[int, _Group]] = []
    pages, at = list(_pages(content)), 0
    while (found := _group(pages, at, widths)) is not None:
        n_rows, group = found
        groups.append((n_rows, group))
        at += sum(map(len, group))
    if content[:4] != MAGIC or not groups:
        raise DataError(f"{path}: no whole group of rows is left of it")
    end = groups[-1][1][-1][-1].end
    ending = write(_footer(footer, groups))
    try:
        closed = content[:end] + ending + len(ending).to_bytes(4, "little") + MAGIC
        return pq.read_table(io.BytesIO(closed), schema=pattern.schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: its rows cannot be read without its footer ({first_line(error)})") from error


def _pattern(table: pa.Table) -> tuple[Struct, list[int]]:
    """The footer of a file with one row, and how many values each of its columns has per row."""
    file = io.BytesIO()
    pq.write_table(table.slice(0, 1), file, compression="snappy", use_dictionary=True)
    content = file.getvalue()
    size = int.from_bytes(content[-8:-4], "little")
    footer = Reader(content, len(content) - 8 - size).struct()
    (group,) = footer[GROUPS][1][1]
    return footer, [chunk[CHUNK_META][1][VALUES][1] for chunk in group[CHUNKS][1][1]]


def _pages(content: bytes) -> Iterator[_Page]:
    """All whole pages from the begin of the file."""
    at = len(MAGIC)
    while at < len(content):
        reader = Reader(content, at)
        try:
            header = reader.struct()
            kind, unpacked, packed = (header[field][1] for field in (1, 2, 3))
            values = next(header[field][1][1][1] for field in (5, 7, 8) if field in header)
        except (ValueError, IndexError, KeyError, StopIteration, TypeError):
            return
        end = reader.at + packed
        if packed < 0 or end > len(content):
            return
        yield _Page(
            begin=at,
            end=end,
            unpacked=unpacked + reader.at - at,
            values=values,
            is_dictionary=kind == DICTIONARY_PAGE,
        )
        at = end


def _group(pages: Sequence[_Page], at: int, widths: Sequence[int]) -> tuple[int, _Group] | None:
    """Number of rows and pages of the row group that begins at page `at`; None if it is not whole.

    How many pages the first column has is not written anywhere: the numbers of values of the others tell.
    """
    n_values = 0
    for page in pages[at:]:
        if not page.is_dictionary:
            n_values += page.values
            if n_values % widths[0] == 0 and n_values:
                group = _columns(pages, at, [n_values // widths[0] * width for width in widths])
                if group is not None:
                    return n_values // widths[0], group
        elif n_values:
            return None
    return None


def _columns(pages: Sequence[_Page], at: int, wanted: Sequence[int]) -> _Group | None:
    group: _Group = []
    for n_wanted in wanted:
        chunk: list[_Page] = []
        while sum(page.values for page in chunk if not page.is_dictionary) < n_wanted:
            if at == len(pages) or (chunk and pages[at].is_dictionary):
                return None
            chunk.append(pages[at])
            at += 1
        if sum(page.values for page in chunk if not page.is_dictionary) != n_wanted:
            return None
        group.append(chunk)
    return group


def _footer(pattern: Struct, groups: Sequence[tuple[int, _Group]]) -> Struct:
    footer = deepcopy(pattern)
    kind, (example,) = footer[GROUPS][1]
    footer[ROWS_OF_FILE] = (I64, sum(n_rows for n_rows, _ in groups))
    footer[GROUPS] = (footer[GROUPS][0], (kind, [_row_group(example, n_rows, group) for n_rows, group in groups]))
    return footer


def _row_group(example: Struct, n_rows: int, group: _Group) -> Struct:
    kind, examples = example[CHUNKS][1]
    chunks = [_chunk(one, pages) for one, pages in zip(examples, group, strict=True)]
    unpacked = sum(page.unpacked for pages in group for page in pages)
    packed = group[-1][-1].end - group[0][0].begin
    made: dict[int, Any] = {
        CHUNKS: (example[CHUNKS][0], (kind, chunks)),
        BYTES_OF_GROUP: (I64, unpacked),
        ROWS_OF_GROUP: (I64, n_rows),
        BEGIN_OF_GROUP: (I64, group[0][0].begin),
        PACKED_BYTES_OF_GROUP: (I64, packed),
    }
    return made


def _chunk(example: Struct, pages: Sequence[_Page]) -> Struct:
    meta: Struct = {field: example[CHUNK_META][1][field] for field in KEPT_OF_CHUNK if field in example[CHUNK_META][1]}
    data = [page for page in pages if not page.is_dictionary]
    meta[VALUES] = (I64, sum(page.values for page in data))
    meta[UNPACKED] = (I64, sum(page.unpacked for page in pages))
    meta[PACKED] = (I64, pages[-1].end - pages[0].begin)
    meta[DATA_PAGE] = (I64, data[0].begin)
    meta.pop(DICTIONARY, None)
    if pages[0].is_dictionary:
        meta[DICTIONARY] = (I64, pages[0].begin)
    return {BEGIN_OF_CHUNK: (I64, 0), CHUNK_META: (example[CHUNK_META][0], meta)}
