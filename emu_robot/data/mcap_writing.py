"""Write a recording, a rosbag2 folder with one MCAP file, in a separate thread. Knows no middleware.

Messages reach the file within a second, in complete chunks. A killed process loses the last second, and the index,
summary and metadata.yaml that `close` writes. `emu-robot data from-mcap` and all readers that start at the beginning of
a file can read the rest.
"""

import json
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, cast

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from emu_robot.data.recording_contract import CONTRACT_KEY, CONTRACT_TOPIC, Contract

CHUNK_S = 0.5
"""Longest that messages wait for their chunk to be written; busy topics fill one (1 MiB) sooner."""
CONTRACT_TYPE = "std_msgs/msg/String"
FOREVER = QosTime(9223372036, 854775807)


class Topic(NamedTuple):
    """A topic. type: "package/msg/Name"; definition: text of the type and of all types in it; digest: RIHS01 hash.

    is_reliable, is_latched: quality of service for playback.
    """

    name: str
    type: str
    definition: str
    digest: str
    is_reliable: bool = True
    is_latched: bool = False

    @property
    def qos(self) -> Qos:
        return Qos(
            QosHistory.KEEP_LAST,
            1 if self.is_latched else 10,
            QosReliability.RELIABLE if self.is_reliable else QosReliability.BEST_EFFORT,
            QosDurability.TRANSIENT_LOCAL if self.is_latched else QosDurability.VOLATILE,
            FOREVER,
            FOREVER,
            QosLiveliness.AUTOMATIC,
            FOREVER,
            False,
        )


class _Message(NamedTuple):
    topic: str
    time: int
    data: bytes


class McapRecording:
    """A recording, open until `close`. `put` never waits for the disk: a full queue drops messages and counts them.

    received: messages taken per topic; dropped: messages dropped per topic; problem: why writing has ended, in words;
    empty while all is well.
    """

    def __init__(self, path: Path, contract: Contract, *, time_ns: int, queue_bytes: int) -> None:
        """path: the folder, which must not exist. time_ns: time of the contract, the first message [ns]."""
        self.path = path
        self.received: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.problem = ""
        self._limit, self._pending, self._ending = queue_bytes, 0, False
        self._queue: deque[Topic | _Message] = deque()
        self._changed = threading.Condition()
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_custom_data(CONTRACT_KEY, without_spaces(contract.to_json()))
        self._writer.open()
        self._connections: dict[str, Connection] = {}
        self._write_contract(contract, time_ns)
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def add(self, topic: Topic) -> None:
        """Add a topic, before its first message."""
        with self._changed:
            self._queue.append(topic)

    def put(self, topic: str, time_ns: int, data: bytes) -> None:
        """Queue a message in CDR, received at `time_ns` [ns]."""
        with self._changed:
            if self.problem or self._ending or self._pending + len(data) > self._limit:
                self.dropped[topic] += 1
                return
            self.received[topic] += 1
            self._pending += len(data)
            self._queue.append(_Message(topic, time_ns, data))
            self._changed.notify()

    def close(self) -> None:
        """Write the queue, index, summary and metadata.yaml; `problem` says if that failed."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    @property
    def _storage(self) -> McapWriter:
        return cast(McapWriter, self._writer.storage)

    def _write_contract(self, contract: Contract, time_ns: int) -> None:
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg("string data\n", CONTRACT_TYPE))
        connection = self._writer.add_connection(CONTRACT_TOPIC, CONTRACT_TYPE, typestore=store)
        data = store.serialize_cdr(store.types[CONTRACT_TYPE](data=contract.to_json()), CONTRACT_TYPE)
        self._writer.write(connection, time_ns, bytes(data))
        self._storage.close_chunk()
        self._storage.bio.flush()

    def _run(self) -> None:
        """The thread: write batches until the end. After a disk error the file ends with its last complete chunk, as
        after a kill."""
        failed = self._attempt(self._write_batches)
        if isinstance(failed, OSError) or self._attempt(self._writer.close) is not None:
            with suppress(Exception):
                self._writer.abort()

    def _attempt(self, step: Callable[[], None]) -> Exception | None:
        """Run a step; return its error, if any, and set `problem`."""
        try:
            step()
        except Exception as error:
            with self._changed:
                self.problem = self.problem or f"nothing more was written: {type(error).__name__}: {error}"
            return error
        return None

    def _write_batches(self) -> None:
        is_last, chunk_due = False, time.monotonic() + CHUNK_S
        while not is_last:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ending, CHUNK_S)
                batch, is_last = list(self._queue), self._ending
                self._queue.clear()
            for item in batch:
                self._write(item)
            if time.monotonic() >= chunk_due and self._storage.chunk.msgs:
                self._storage.close_chunk()
                chunk_due = time.monotonic() + CHUNK_S
            self._storage.bio.flush()
            with self._changed:
                self._pending -= sum(len(item.data) for item in batch if isinstance(item, _Message))

    def _write(self, item: Topic | _Message) -> None:
        if isinstance(item, _Message):
            self._writer.write(self._connections[item.topic], item.time, item.data)
        else:
            self._connections[item.name] = self._writer.add_connection(
                item.name, item.type, msgdef=item.definition, rihs01=item.digest, offered_qos_profiles=[item.qos]
            )


def free_gb(folder: Path) -> float:
    """Free space on the disk of a folder [GB]."""
    return shutil.disk_usage(folder).free / 1e9


def without_spaces(text: str) -> str:
    """Equal JSON without spaces. The YAML writer of rosbags folds long text at spaces and adds a space and a backslash
    there."""
    return json.dumps(json.loads(text), separators=(",", ":")).replace(" ", r"\u0020")
