"""Which sender of chunks the robot belongs to, and how it passes from one to another."""

import numpy as np

from emu_robot.control.safety.chunks import ChunkMessage, Rejection
from emu_robot.control.safety.config import SafetyConfig


class Holder:
    """The session that holds the robot, with its heartbeat and its deadman switch.

    The robot passes to another session by a person's word alone: its holder says that its task has ended, a person arms
    again or resets, or an operator presses the deadman switch. A policy that an operator took the robot from must end
    its task before it may begin another one.
    """

    def __init__(self, config: SafetyConfig) -> None:
        self._config = config
        self._heartbeat_at = self._deadman_at = self._not_before = -np.inf
        self._session: int | None = None
        self._superseded: set[int] = set()
        self._sequence, self._source = -1, ""

    @property
    def heartbeat_at(self) -> float:
        """When the holder was last heard of, on the steady clock [s]."""
        return self._heartbeat_at

    def on_heartbeat(self, session: int, now: float) -> None:
        """A sender is alive; only the holder's word counts."""
        if session == self._session:
            self._heartbeat_at = now

    def on_idle(self, session: int) -> bool:
        """A sender has ended its task; whether it held the robot. It may begin another one later."""
        self._superseded.discard(session)
        return session == self._session

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The operator's switch."""
        self._deadman_at = now if pressed else -np.inf

    def judge(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """Why this sender may not command now, if it may not."""
        pressed = chunk.source == "policy" or self._deadman_pressed(now)
        if not self._may_command(chunk, pressed, now):
            return Rejection.OTHER_SESSION
        if not pressed:
            return Rejection.NO_DEADMAN
        if chunk.session == self._session and chunk.sequence <= self._sequence:
            return Rejection.REORDERED
        return None

    def captured_too_early(self, chunk: ChunkMessage) -> bool:
        """Whether a chunk answers to an observation of before the last stop."""
        return chunk.captured <= self._not_before

    def take(self, chunk: ChunkMessage, now: float) -> None:
        """This chunk's sender holds the robot from now on."""
        if self._session is not None and chunk.session != self._session:
            self._superseded.add(self._session)
        self._session, self._sequence, self._source = chunk.session, chunk.sequence, chunk.source
        self._heartbeat_at = now

    def forget(self, now: float, *, pardon: bool = False) -> None:
        """Let any sender come next; its observation must be newer than `now`. pardon: also one that was superseded."""
        self._session, self._sequence, self._not_before = None, -1, now
        if pardon:
            self._superseded.clear()

    def is_silent(self, now: float) -> bool:
        """Whether the holder's heartbeat is missing."""
        return now - self._heartbeat_at > self._config.heartbeat_timeout_s

    def has_released(self, now: float) -> bool:
        """Whether the holder needs a deadman switch that is not pressed."""
        return self._source != "policy" and not self._deadman_pressed(now)

    def _may_command(self, chunk: ChunkMessage, pressed: bool, now: float) -> bool:
        if self._session is None or chunk.session == self._session:
            return chunk.session not in self._superseded
        return chunk.source != "policy" and pressed and (self._source == "policy" or self.is_silent(now))

    def _deadman_pressed(self, now: float) -> bool:
        return now - self._deadman_at <= self._config.deadman_timeout_s
