"""The process that writes a recording session: `python -m emu_robot.data.session_writer FD`, started by `WriterLink`.

Reads orders from an inherited socket until it closes. A running episode is forgotten then; ended ones are committed.
"""

import errno
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

import av.logging

from emu_robot.data.session_folder import SessionFolder, software
from emu_robot.errors import DataError, EmuRobotError, SystemSetupError
from emu_robot.recording.messages import (
    Close,
    Committed,
    Discard,
    End,
    Failed,
    Flag,
    Frame,
    Loaded,
    Mark,
    News,
    Order,
    Setup,
    Start,
)
from emu_robot.recording.writer_link import read_orders
from emu_robot.shared.scheduling import forbid_realtime
from emu_robot.shared.typed import first_line

NICENESS = 5
"""The control loop comes first."""


class SessionWriter:
    """Does orders, one after the other. After an episode failed, they are ignored up to the next start."""

    def __init__(self, link: Connection, setup: Setup) -> None:
        self._link, self._folder = link, SessionFolder(setup)
        self._tell_committed()
        from emu_robot.data.session_episode import RunningEpisode  # takes seconds, for which the session does not wait

        self._make, self._software = RunningEpisode, software()
        self._tell(Loaded())
        av.logging.set_libav_level(av.logging.ERROR)  # statistics of every video
        self._episode: RunningEpisode | None = None

    def do(self, order: Order) -> None:
        """Do one order and tell what came of it."""
        try:
            self._do(order)
        except Exception as error:  # LeRobot, PyAV, pyarrow and the system each raise their own kinds
            self._drop()
            error = self._explained(error)
            self._tell(Failed(type(error), str(error), was_ended=isinstance(order, End)))

    def close(self) -> None:
        """Forget a running episode and let the session go."""
        self._drop()
        self._folder.close()

    def _do(self, order: Order) -> None:
        episode = self._episode
        match order:
            case Start():
                self._drop()
                self._episode = self._make(self._folder, order, self._software)
            case Frame() if episode:
                episode.add(order)
            case Mark(subtask) if episode:
                episode.mark(subtask)
            case Flag(text) if episode:
                episode.flag(text)
            case End():
                if episode is None:
                    raise DataError("it was dropped before it ended")
                episode.commit(order)
                self._episode = None
                self._tell_committed()
            case Discard():
                self._drop()
            case _:
                pass  # of an episode that failed

    def _drop(self) -> None:
        if self._episode is not None:
            self._episode.drop()
            self._episode = None

    def _tell_committed(self) -> None:
        self._tell(Committed(self._folder.episodes, self._folder.bytes_per_frame))

    def _tell(self, news: News) -> None:
        tell(self._link, news)

    def _explained(self, error: Exception) -> EmuRobotError:
        """The error as one line. Encoder threads tell of a full disk in words only."""
        kept = f"the episode is lost, the {self._folder.episodes} before are intact"
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_full or os.strerror(errno.ENOSPC) in str(error):
            return SystemSetupError(f"{self._folder.root}: the disk is full; {kept}")
        kind = type(error) if isinstance(error, EmuRobotError) else SystemSetupError
        failure = kind.__new__(kind)
        Exception.__init__(failure, f"{self._folder.root}: {first_line(error)}; {kept}")
        return failure


def tell(link: Connection, news: News) -> None:
    """Send news, if the other process still is there."""
    with suppress(OSError):
        link.send(news)


def main(link: Connection) -> None:
    """Serve one session."""
    setup = read_orders(link)
    assert isinstance(setup, Setup)
    try:
        writer = SessionWriter(link, setup)
    except EmuRobotError as error:
        tell(link, Failed(type(error), str(error), was_ended=False))
        return
    except OSError as error:
        tell(link, Failed(SystemSetupError, f"{setup.root}: {error.strerror or error}", was_ended=False))
        return
    try:
        while not isinstance(order := read_orders(link), Close):
            writer.do(order)
    except EOFError:
        pass  # the session's process has ended
    finally:
        writer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    forbid_realtime()
    main(Connection(int(sys.argv[1])))
