"""The gate between action chunks and a robot: checks, limits, holds, latches. Numpy only; knows no middleware.

    DISARMED --arm--> HOLDING <--chunk / out of chunks, silence, stale state--> TRACKING
    armed states --fault--> FAULT --reset--> HOLDING
    any state --estop--> ESTOP, also over restarts --reset--> DISARMED

Armed, it gives one command per control tick: along the chunks in TRACKING, at rest where the joints were measured in
every other state, grippers as they were commanded last. Not safety-rated: hardware limits and the vendor's emergency
stop stay authoritative.

All times are seconds of one steady clock, which the caller reads; nothing here does.
"""

import os
from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.errors import InvalidValueError, SystemSetupError
from emu_robot.trajectory import ChunkPlayer, Floats, MotionLimiter, MotionLimits, TimedChunk

AT_REST = 0.01
"""Speed of a joint's commands below which they count as resting [rad/s]."""


class GateState(StrEnum):
    DISARMED = "disarmed"
    HOLDING = "holding"
    TRACKING = "tracking"
    FAULT = "fault"
    ESTOP = "estop"

    @property
    def is_armed(self) -> bool:
        """Whether chunks may come to be executed."""
        return self in (GateState.HOLDING, GateState.TRACKING)


class Rejection(StrEnum):
    """Why a chunk was not taken. The first group is only counted: what runs goes on. The second says that its sender is
    wrong: the robot holds, and it is a fault when it does not end.
    """

    NOT_ARMED = "not armed"
    NO_STATE = "joint states are stale"
    OTHER_SESSION = "another session holds the robot"
    STALE = "too old"
    REORDERED = "not newer than one before"
    BEFORE_RESET = "captured before the last stop"

    SHAPE = "wrong number of dimensions or actions"
    NOT_FINITE = "not finite"
    FUTURE = "captured in the future"
    TIMING = "wrong time between actions"
    JUMP = "jumps"
    NO_DEADMAN = "teleoperation without its deadman"

    @property
    def is_harmless(self) -> bool:
        return self in _HARMLESS


_HARMLESS = frozenset(
    {
        Rejection.NOT_ARMED,
        Rejection.NO_STATE,
        Rejection.OTHER_SESSION,
        Rejection.STALE,
        Rejection.REORDERED,
        Rejection.BEFORE_RESET,
    }
)


def parameter(default: float, low: float, high: float, description: str) -> Any:
    """A field of a dataclass of settings, with its range and what it means in its metadata."""
    return field(default=default, metadata={"low": low, "high": high, "description": description})


def check_ranges(settings: Any, name: str) -> None:
    """Raise `InvalidValueError` naming the first `parameter` of a dataclass that is out of its range."""
    for setting in fields(settings):
        value, low, high = getattr(settings, setting.name), setting.metadata["low"], setting.metadata["high"]
        if not low <= value <= high:
            raise InvalidValueError(f"{name}.{setting.name} is {value}, must lie in [{low}, {high}]")


@dataclass(kw_only=True)
class SafetyConfig:
    """Every parameter of the gate, each with its range and what it means in its metadata."""

    control_hz: float = parameter(50.0, 10.0, 1000.0, "commands per second [Hz]")
    max_chunk_age_s: float = parameter(0.5, 0.01, 5.0, "oldest observation a chunk may answer to [s]")
    future_tolerance_s: float = parameter(0.02, 0.0, 0.2, "how far ahead a capture time may lie [s]")
    heartbeat_timeout_s: float = parameter(0.15, 0.02, 2.0, "silence of the policy after which the robot holds [s]")
    state_timeout_s: float = parameter(0.1, 0.01, 1.0, "age of the joint states after which the robot holds [s]")
    driver_timeout_s: float = parameter(2.0, 0.1, 60.0, "age of the joint states that is a fault: no driver [s]")
    deadman_timeout_s: float = parameter(0.2, 0.02, 1.0, "silence of the deadman switch that counts as released [s]")
    max_jump: float = parameter(0.35, 0.001, 3.2, "largest step of a joint between actions, or to the first [rad]")
    max_tracking_error: float = parameter(0.5, 0.01, 3.2, "largest distance of a joint from its command [rad]")
    max_rejections: int = parameter(5, 1, 1000, "wrong chunks in a row that make a fault")
    clock_jump_s: float = parameter(0.05, 0.001, 10.0, "jump of the wall clock that is a fault [s]")
    blend_s: float = parameter(0.1, 0.0, 1.0, "how long a new chunk is faded in [s]")
    max_chunk_actions: int = parameter(1000, 1, 100_000, "most actions of a chunk")

    def __post_init__(self) -> None:
        check_ranges(self, "safety")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkMessage:
    """A chunk as it arrives. session: of its sender, new at every start; sequence: rises within it.

    source: "policy" or "teleop". captured: when the observation was taken that it answers to; its first action is meant
    for that time, the others for every dt [s] after it. actions: (T, A), all dimensions in physical units.
    """

    session: int
    sequence: int
    captured: float
    dt: float
    actions: NDArray[np.floating[Any]]
    source: str = "policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Position (A,) and velocity (A,) to be reached one tick from now, and why the robot holds, if it does."""

    position: Floats
    velocity: Floats
    state: GateState
    reason: str = ""


class EstopLatch:
    """Keeps an emergency stop over restarts: a file that is there while stopped; without a path in memory only.

    Raises `SystemSetupError` where the file could not be written when it matters.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.reason = ""
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.reason = path.read_text().strip() or "stopped before a restart"
        except OSError as error:
            raise SystemSetupError(f"{path} cannot keep an emergency stop: {error}") from error
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise SystemSetupError(f"{path} cannot keep an emergency stop: {path.parent} is not writable")

    def set(self, reason: str) -> None:
        """Raises `InvalidValueError` if it will not outlive this process."""
        self.reason = reason
        if self._path is not None:
            try:
                self._path.write_text(reason + "\n")
            except OSError as error:
                raise InvalidValueError(f"stopped, but not over a restart: {error}") from error

    def clear(self) -> None:
        """Raises `InvalidValueError`, and stays set, if the file will not go."""
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise InvalidValueError(f"still stopped: {error}") from error
        self.reason = ""


class SafetyGate:
    """Takes chunks, joint states and heartbeats; gives commands.

    joints: how many of the first dimensions are joints; `max_jump` and `max_tracking_error` hold for these, the others
    are grippers. counts: chunks taken, chunks rejected by reason, faults, holds.
    """

    def __init__(
        self, *, config: SafetyConfig, limits: MotionLimits, joints: int, latch: EstopLatch | None = None
    ) -> None:
        if not 0 < joints <= len(limits.lower):
            raise InvalidValueError(f"joints is {joints}; there are {len(limits.lower)} dimensions")
        self.config, self._joints, self._latch = config, joints, latch or EstopLatch(None)
        self._size = len(limits.lower)
        self._limiter = MotionLimiter(limits, 1.0 / config.control_hz)
        self._player = ChunkPlayer(config.blend_s)
        self.counts: Counter[str] = Counter()
        self.state = GateState.ESTOP if self._latch.reason else GateState.DISARMED
        self.reason = self._latch.reason or "not armed"
        self._measured: Floats | None = None
        self._measured_at = self._heartbeat_at = self._deadman_at = self._not_before = -np.inf
        self._session: int | None = None
        self._sequence, self._source = -1, ""
        self._strikes, self._chunk_age = 0, np.nan
        self._hold_at: Floats | None = None

    # -- what comes in

    def on_state(self, position: NDArray[np.floating[Any]], now: float, age: float = 0.0) -> bool:
        """The position (A,) measured `age` seconds ago; False, and counted, if it cannot be one.

        One from the future comes from a clock that is not ours: how old it is, nobody knows.
        """
        if position.shape != (self._size,) or not np.isfinite(position).all():
            self.counts["bad joint state"] += 1
            return False
        if not age >= -self.config.future_tolerance_s:
            self.counts["bad joint state"] += 1
            return False
        self._measured, self._measured_at = position.astype(np.float64), now - max(age, 0.0)
        return True

    def on_heartbeat(self, session: int, now: float) -> None:
        """The sender of the chunks is alive; another session takes over once that one is silent."""
        if session == self._session or self._session is None:
            self._heartbeat_at = now

    def on_idle(self, session: int, now: float) -> None:
        """The sender of the chunks says that it has stopped: hold, and let anyone come next who looks after now.

        Of any other session it says nothing that matters: idle ones claim no robot.
        """
        if session == self._session:
            if self.state is GateState.TRACKING:
                self._hold("the policy stopped")
            self._forget(now)

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The operator's switch; released stops what teleoperation began."""
        self._deadman_at = now if pressed else -np.inf

    def offer(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """Take a chunk, or say why not."""
        why = self._judge(chunk, now)
        if why is None:
            self.counts["chunk taken"] += 1
            self._session, self._sequence, self._source = chunk.session, chunk.sequence, chunk.source
            self._strikes, self._heartbeat_at, self._chunk_age = 0, now, now - chunk.captured
            self._player.play(
                TimedChunk(start=chunk.captured, dt=chunk.dt, actions=chunk.actions.astype(np.float64)), now
            )
            self._enter(GateState.TRACKING, "")
            return None
        self.counts[f"chunk {why.value}"] += 1
        if not why.is_harmless:
            self._strikes += 1
            if self._strikes >= self.config.max_rejections:
                self.fault(f"{self._strikes} wrong chunks in a row, the last one: {why.value}")
            else:
                self._hold(f"chunk {why.value}")
        return why

    # -- what goes out

    def tick(self, now: float) -> Command | None:
        """The command of this control tick; None while disarmed, or stopped before it was ever armed."""
        if self.state.is_armed:
            self._supervise(now)
        if self.state is GateState.DISARMED or self._measured is None or self._hold_at is None:
            return None
        target = self._player.target(now) if self.state is GateState.TRACKING else None
        position, velocity = target or (self._hold_at, np.zeros(self._size))
        command = self._limiter.step(position, velocity)
        return Command(position=command, velocity=self._limiter.velocity.copy(), state=self.state, reason=self.reason)

    def tick_early(self, now: float, after: float) -> Command | None:
        """As `tick`, for a chunk that has just been taken, `after` seconds after the last command and less than a tick;
        the next `tick` is due a whole one from now. None, and the next tick stays when it was due, while there is
        nothing to follow, or where it would take the next command beyond limits.
        """
        if self.state.is_armed:
            self._supervise(now)
        ends = now + 1.0 / self.config.control_hz - after  # the last command
        target = self._player.target(ends) if self.state is GateState.TRACKING else None
        command = self._limiter.step_early(*target, after) if target else None
        if command is None:
            return None
        return Command(position=command, velocity=self._limiter.velocity.copy(), state=self.state, reason=self.reason)

    # -- what a person, or the node around it, decides

    def arm(self, now: float) -> None:
        """Begin to command, at rest where the robot is. Raises `InvalidValueError` if it may not."""
        if self.state is not GateState.DISARMED:
            raise InvalidValueError(
                f"cannot arm: {self.state.value} ({self.reason})" if self.reason else "armed already"
            )
        self._require_fresh_state(now)
        assert self._measured is not None
        self._rest_at(self._measured)
        self._forget(now)
        self._enter(GateState.HOLDING, "armed, no chunk yet")

    def disarm(self) -> None:
        """Give no more commands. An emergency stop stays one."""
        self._player.stop()
        self._let_go(self.state if self.state is GateState.ESTOP else GateState.DISARMED)

    def fault(self, reason: str) -> None:
        """Hold until reset."""
        if self.state.is_armed:
            self.counts["fault"] += 1
            self._stop(GateState.FAULT, reason)

    def estop(self, reason: str) -> None:
        """Hold until reset, also over a restart. Raises `InvalidValueError` if it has stopped, but only until then."""
        self.counts["estop"] += 1
        self._stop(GateState.ESTOP, reason or "emergency stop")
        self._latch.set(self.reason)

    def reset(self, now: float) -> None:
        """Leave FAULT for HOLDING where the robot is now, ESTOP for DISARMED. No chunk captured before now will run.

        Raises `InvalidValueError` in other states, without a fresh joint state, or while commands still slow down.
        """
        if self.state not in (GateState.FAULT, GateState.ESTOP):
            raise InvalidValueError(f"nothing to reset: {self.state.value}")
        self._require_fresh_state(now)
        assert self._measured is not None
        if np.abs(self._limiter.velocity[: self._joints]).max() > AT_REST:
            raise InvalidValueError("the robot is still coming to rest")
        if self.state is GateState.ESTOP:
            self._latch.clear()
            self._let_go(GateState.DISARMED)
        else:
            self._rest_at(np.concatenate([self._measured[: self._joints], self._limiter.position[self._joints :]]))
            self._enter(GateState.HOLDING, "reset, no chunk yet")
        self._forget(now)

    def diagnostics(self, now: float) -> dict[str, str]:
        """State, reason, ages and counts, as text."""
        ages = {
            "joint state": now - self._measured_at,
            "heartbeat": now - self._heartbeat_at,
            "the last chunk's observation when it came": self._chunk_age,
        }
        return {
            "state": self.state.value,
            "reason": self.reason,
            **{f"age of {name} [ms]": f"{1000 * age:.0f}" for name, age in ages.items() if np.isfinite(age)},
            **{name: str(count) for name, count in sorted(self.counts.items())},
        }

    # -- rules

    def _judge(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """The first rule that a chunk breaks."""
        config, actions = self.config, chunk.actions
        if not self.state.is_armed:
            return Rejection.NOT_ARMED
        if now - self._measured_at > config.state_timeout_s:
            return Rejection.NO_STATE
        if actions.ndim != 2 or actions.shape[1] != self._size or not 1 <= len(actions) <= config.max_chunk_actions:
            return Rejection.SHAPE
        if not (np.isfinite(actions).all() and np.isfinite([chunk.captured, chunk.dt]).all()):
            return Rejection.NOT_FINITE
        if not 0.001 <= chunk.dt <= 1.0:
            return Rejection.TIMING
        if chunk.captured > now + config.future_tolerance_s:
            return Rejection.FUTURE
        if chunk.captured <= self._not_before:
            return Rejection.BEFORE_RESET
        if now - chunk.captured > config.max_chunk_age_s:
            return Rejection.STALE
        if chunk.source == "teleop" and now - self._deadman_at > config.deadman_timeout_s:
            return Rejection.NO_DEADMAN
        if self._session is not None and chunk.session != self._session:
            if now - self._heartbeat_at <= config.heartbeat_timeout_s:
                return Rejection.OTHER_SESSION
        elif chunk.sequence <= self._sequence:
            return Rejection.REORDERED
        return Rejection.JUMP if self._jumps(chunk, now) else None

    def _jumps(self, chunk: ChunkMessage, now: float) -> bool:
        """Whether joints leap within the chunk, or it passes nowhere near the last command between capture and now.

        One that comes late, from a robot at rest, began where the robot is; what it is behind the limiter makes up.
        """
        joints = chunk.actions[:, : self._joints].astype(np.float64)
        timed = TimedChunk(start=chunk.captured, dt=chunk.dt, actions=joints)
        elapsed = np.append(np.arange(chunk.captured, now, chunk.dt), now)
        passed = np.stack([timed.at(time)[0] for time in elapsed.tolist()])
        away = np.abs(passed - self._limiter.position[: self._joints]).max(axis=1).min()
        return max(np.abs(np.diff(joints, axis=0)).max(initial=0.0), away) > self.config.max_jump

    def _supervise(self, now: float) -> None:
        """What may end motion between chunks."""
        config = self.config
        if now - self._measured_at > config.driver_timeout_s:
            self.fault("the robot's driver is silent")
        elif now - self._measured_at > config.state_timeout_s:
            self._hold("joint states are stale")
        elif self._tracking_error() > config.max_tracking_error:
            self.fault("the robot does not follow its commands")
        elif self.state is not GateState.TRACKING:
            return
        elif self._source == "teleop" and now - self._deadman_at > config.deadman_timeout_s:
            self._hold("deadman released")
        elif now - self._heartbeat_at > config.heartbeat_timeout_s:
            self._hold("the policy is silent")
        elif self._player.target(now) is None:
            self._hold("no action left")

    def _tracking_error(self) -> float:
        if self._measured is None:
            return 0.0
        return float(np.abs(self._measured - self._limiter.position)[: self._joints].max())

    def _hold(self, reason: str) -> None:
        if self.state is GateState.TRACKING:
            self.counts["hold"] += 1
        if self.state.is_armed:
            self._stop(GateState.HOLDING, reason)

    def _stop(self, state: GateState, reason: str) -> None:
        """Come to rest, from motion where the joints were measured; where they hold already, they go on holding.

        Grippers keep their last command: one that gave way to what is between its fingers would let it fall.
        """
        if self.state is GateState.TRACKING and self._measured is not None:
            self._hold_at = np.concatenate([self._measured[: self._joints], self._limiter.position[self._joints :]])
        self._player.stop()
        self._enter(state, reason)

    def _rest_at(self, position: Floats) -> None:
        self._limiter.reset(position)
        self._hold_at = position.copy()

    def _let_go(self, state: GateState) -> None:
        """Without a place to hold, a stop that comes later does not pull back a robot that somebody has moved since."""
        self._hold_at = None
        self._enter(state, self.reason if state is GateState.ESTOP else "not armed")

    def _enter(self, state: GateState, reason: str) -> None:
        self.state, self.reason = state, reason

    def _forget(self, now: float) -> None:
        """Whoever sends next is the first one, and must have looked after now."""
        self._player.stop()
        self._session, self._sequence, self._strikes, self._not_before = None, -1, 0, now

    def _require_fresh_state(self, now: float) -> None:
        if self._measured is None or now - self._measured_at > self.config.state_timeout_s:
            raise InvalidValueError("no fresh joint state: the robot's position is not known")
