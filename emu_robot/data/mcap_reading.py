"""Read an MCAP file from its beginning: messages in the order of writing, also where the file was never closed.

Needs no index and no middleware; mcap reads, rosbags decodes.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mcap.records import Channel, DataEnd, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from emu_robot.errors import DataError
from emu_robot.shared.typed import first_line

MAGIC = b"\x89MCAP0\r\n"


class RecordedMessage(NamedTuple):
    """time_ns: when it was received [ns]; data: CDR."""

    topic: str
    type: str
    time_ns: int
    data: bytes


class McapFile:
    """An MCAP file. Known at the end of `messages`: counts, messages per topic; is_whole, whether it was closed."""

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
        self._definitions: dict[str, Schema] = {}
        self._store = get_typestore(Stores.EMPTY)

    def messages(self) -> Iterator[RecordedMessage]:
        """All messages; of a file that was never closed, all complete ones.

        Raises `DataError` for a closed file that is damaged.
        """
        self.counts.clear()
        self.is_whole = False
        try:
            yield from self._read()
        except Exception as error:  # the reader's, and those of every compressor
            with self.path.open("rb") as file:
                file.seek(-len(MAGIC), 2)
                if file.read() == MAGIC:
                    raise DataError(f"{self.path}: damaged ({first_line(error)})") from error

    def _read(self) -> Iterator[RecordedMessage]:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        with self.path.open("rb") as file:
            for record in StreamReader(file, validate_crcs=True).records:
                match record:
                    case Schema():
                        schemas[record.id] = self._definitions[record.name] = record
                    case Channel():
                        channels[record.id] = record
                    case Message():
                        channel = channels[record.channel_id]
                        self.counts[channel.topic] += 1
                        kind = schemas[channel.schema_id].name
                        yield RecordedMessage(channel.topic, kind, record.log_time, record.data)
                    case DataEnd():
                        self.is_whole = True
                        return
                    case _:
                        pass

    def decode(self, message: RecordedMessage) -> Any:
        """The message as an object with the fields of its type. Raises `DataError` for a wrong definition or data."""
        try:
            if message.type not in self._store.fielddefs:
                schema = self._definitions[message.type]
                text, is_idl = schema.data.decode(), schema.encoding == "ros2idl"
                found = get_types_from_idl(text) if is_idl else get_types_from_msg(text, message.type)
                self._store.register({name: one for name, one in found.items() if name not in self._store.fielddefs})
            return self._store.deserialize_cdr(message.data, message.type)
        except (TypesysError, SerdeError, AssertionError, struct.error, ValueError) as error:
            what = f"{message.type} on {message.topic} cannot be decoded"
            raise DataError(f"{self.path}: {what} ({first_line(error)})") from error
