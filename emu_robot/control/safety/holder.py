"""Which sender of chunks holds the robot, and how the robot passes to another sender."""

import numpy as np

from emu_robot.control.safety.chunks import ChunkMessage, Rejection
from emu_robot.control.safety.config import SafetyConfig


class Holder:
    """The session that holds the robot, its heartbeat and its deadman switch.

    The robot passes to another session when its holder says that its task has ended, when a person arms again or
    resets, or when an operator presses the deadman switch. After an operator took the robot from a policy, that policy
    must end its task before it may begin another one.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._heartbeat_at = self._deadman_at = self._not_before = -np.inf
        self._session: int | None = None
        self._superseded: set[int] = set()
        self._sequence, self._source = -1, ""

    @property
    def heartbeat_at(self) -> float:
        """Time of the holder's last heartbeat on the steady clock [s]."""
        return self._heartbeat_at

    def on_heartbeat(self, session: int, now: float) -> None:
        """A sender is alive. Heartbeats of other sessions are ignored."""
        if session == self._session:
            self._heartbeat_at = now

    def on_idle(self, session: int) -> bool:
        """A sender has ended its task, and may begin another one later. Returns whether it held the robot."""
        self._superseded.discard(session)
        return session == self._session

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The operator pressed or released the deadman switch."""
        self._deadman_at = now if pressed else -np.inf

    def judge(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """Why this sender may not command now; None if it may."""
        pressed = chunk.source == "policy" or self._deadman_pressed(now)
        if not self._may_command(chunk, pressed, now):
            return Rejection.OTHER_SESSION
        if not pressed:
            return Rejection.NO_DEADMAN
        if chunk.session == self._session and chunk.sequence <= self._sequence:
            return Rejection.REORDERED
        return None

    def captured_too_early(self, chunk: ChunkMessage) -> bool:
        """Whether the chunk's observation is older than the last stop."""
        return chunk.captured <= self._not_before

    def take(self, chunk: ChunkMessage, now: float) -> None:
        """Make this chunk's sender the holder."""
        if self._session is not None and chunk.session != self._session:
            self._superseded.add(self._session)
        self._session, self._sequence, self._source = chunk.session, chunk.sequence, chunk.source
        self._heartbeat_at = now

    def forget(self, now: float, *, pardon: bool = False) -> None:
        """Clear the session; the next sender's observation must be newer than `now`.

        pardon: whether superseded senders may come, too.
        """
        self._session, self._sequence, self._not_before = None, -1, now
        if pardon:
            self._superseded.clear()

    def is_silent(self, now: float) -> bool:
        """Whether the holder's heartbeat is missing."""
        return now - self._heartbeat_at > self._config.heartbeat_timeout_s

    def has_released(self, now: float) -> bool:
        """Whether the holder needs the deadman switch and it is not pressed."""
        return self._source != "policy" and not self._deadman_pressed(now)

    def _may_command(self, chunk: ChunkMessage, pressed: bool, now: float) -> bool:
        if self._session is None or chunk.session == self._session:
            return chunk.session not in self._superseded
        return chunk.source != "policy" and pressed and (self._source == "policy" or self.is_silent(now))

    def _deadman_pressed(self, now: float) -> bool:
        return now - self._deadman_at <= self._config.deadman_timeout_s
