"""Go through an MCAP file from its beginning: messages in the order in which they were written, also where the file was
never closed. Needs no index and no middleware; rosbags decodes.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import decompress
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from emu_robot.errors import DataError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F


class RecordedMessage(NamedTuple):
    """time_ns: when it was received [ns]; data: CDR."""

    topic: str
    type: str
    time_ns: int
    data: bytes


class McapFile:
    """counts: messages per topic. is_whole: whether it was closed. Both are known once `messages` came to its end."""

    def __init__(self, path: Path) -> None:
        """Raises `DataError` if it is no MCAP file."""
        self.path = path
        self.counts: Counter[str] = Counter()
        self.is_whole = False
        try:
            with path.open("rb") as file:
                begin = file.read(len(MAGIC))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if begin != MAGIC:
            raise DataError(f"{path}: not an MCAP file")
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._channels: dict[int, tuple[str, int]] = {}
        self._texts: dict[str, tuple[str, str]] = {}
        self._store = get_typestore(Stores.EMPTY)

    def messages(self) -> Iterator[RecordedMessage]:
        """All of them, up to the last that is complete if the file was never closed.

        Raises `DataError` for a closed file that is damaged.
        """
        self.counts.clear()
        self.is_whole = False
        try:
            with self.path.open("rb") as file:
                for kind, record in _records(file):
                    if kind == DATA_END:
                        self.is_whole = True
                        return
                    for inner in _contents(record) if kind == CHUNK else [(kind, memoryview(record))]:
                        yield from self._take(*inner)
                file.seek(-len(MAGIC), 2)
                if file.read() == MAGIC:
                    raise DataError(f"{self.path}: damaged, its records do not come to an end")
        except (ReaderError, struct.error, IndexError, KeyError, ValueError) as error:
            raise DataError(f"{self.path}: damaged ({error!r})") from error

    def decode(self, message: RecordedMessage) -> Any:
        """With the fields of its type. Raises `DataError` if definition or data make no sense."""
        try:
            if message.type not in self._store.fielddefs:
                encoding, text = self._texts[message.type]
                found = get_types_from_idl(text) if encoding == "ros2idl" else get_types_from_msg(text, message.type)
                self._store.register({name: one for name, one in found.items() if name not in self._store.fielddefs})
            return self._store.deserialize_cdr(message.data, message.type)
        except (TypesysError, SerdeError, AssertionError, struct.error, ValueError) as error:
            raise DataError(f"{self.path}: {message.type} on {message.topic} cannot be decoded ({error!r})") from error

    def _take(self, kind: int, record: memoryview) -> Iterator[RecordedMessage]:
        if kind == SCHEMA:
            (number,) = struct.unpack_from("<H", record)
            name, offset = _string(record, 2)
            encoding, offset = _string(record, offset)
            self._schemas[number] = (name, encoding, _string(record, offset)[0])
            self._texts[name] = (encoding, self._schemas[number][2])
        elif kind == CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            self._channels[number] = (_string(record, 4)[0], schema)
        elif kind == MESSAGE:
            channel, _, time_ns, _ = struct.unpack_from("<HIQQ", record)
            topic, schema = self._channels[channel]
            self.counts[topic] += 1
            yield RecordedMessage(topic, self._schemas[schema][0], time_ns, bytes(record[22:]))


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the records that are complete."""
    end = file.seek(0, 2)
    offset = file.seek(len(MAGIC))
    while len(head := file.read(9)) == 9:
        kind, size = struct.unpack("<BQ", head)
        offset += 9 + size
        if offset > end:
            return
        yield kind, file.read(size)


def _contents(chunk: bytes) -> Iterator[tuple[int, memoryview]]:
    """Records of a chunk."""
    _, _, size, checksum = struct.unpack_from("<QQQI", chunk)
    compression, offset = _string(memoryview(chunk), 28)
    try:
        inner = memoryview(decompress(chunk[offset + 8 :], compression, size, checksum))
    except Exception as error:  # every compressor has errors of its own
        raise ReaderError(str(error)) from error
    offset = 0
    while offset < len(inner):
        kind, size = struct.unpack_from("<BQ", inner, offset)
        yield kind, inner[offset + 9 : offset + 9 + size]
        offset += 9 + size


def _string(record: memoryview, offset: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<I", record, offset)
    begin = offset + 4
    return bytes(record[begin : begin + size]).decode(), begin + size
