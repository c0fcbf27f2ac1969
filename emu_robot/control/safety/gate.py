"""The gate between action chunks and a robot: limits, holds, latches.

    DISARMED --arm--> HOLDING <--chunk / out of chunks, silence, stale state--> TRACKING
    armed states --fault--> FAULT --reset--> HOLDING
    any state --estop--> ESTOP, also over restarts --reset--> DISARMED

Armed, it gives one command per control tick: along the chunks in TRACKING; in every other state it brakes along the
direction of travel and stays there, grippers as they were commanded last. A robot that was moved by something else is
not pulled back: where it rests away from its command, commands end until a person resets.

All times are seconds of one steady clock, which the caller reads; nothing here does.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.safety.chunks import SOURCES, ChunkMessage, Rejection, judge_content
from emu_robot.control.safety.commands import CommandStream
from emu_robot.control.safety.config import SafetyConfig
from emu_robot.control.safety.holder import Holder
from emu_robot.control.safety.latch import EstopLatch
from emu_robot.control.safety.measured import STALE, MeasuredJoints
from emu_robot.control.safety.states import Command, GateState
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits

HOLD_ERROR_S = 0.3
"""How long a robot may rest away from its command before it counts as moved by something else [s]."""
STATES_BACK = "joint states are back, no chunk yet"
MOVED = "the robot was moved: no commands until reset"


class SafetyGate:
    """Takes chunks, joint states and heartbeats; gives commands.

    joints: how many of the first dimensions are joints; `max_jump` and `max_tracking_error` hold for these, the others
    are grippers. names: of the dimensions, for messages. sources: who may send chunks.
    counts: chunks taken, chunks rejected by reason, faults, holds. measured: joint states that are believed.
    """

    def __init__(
        self,
        *,
        config: SafetyConfig,
        limits: MotionLimits,
        joints: int,
        names: Sequence[str] = (),
        latch: EstopLatch | None = None,
        sources: Collection[str] = SOURCES,
    ) -> None:
        size = len(limits.lower)
        if not 0 < joints <= size:
            raise InvalidValueError(f"joints is {joints}; there are {size} dimensions")
        if names and len(names) != size:
            raise InvalidValueError(f"{len(names)} names for {size} dimensions")
        self.config, self._size, self._joints, self._sources = config, size, joints, frozenset(sources)
        self._latch = latch or EstopLatch(None)
        self._stream = CommandStream(limits, 1.0 / config.control_hz, config.blend_s)
        self._holder = Holder(config)
        self.measured = MeasuredJoints(config, limits, tuple(names) or _numbered(size), joints)
        self.counts: Counter[str] = self.measured.counts
        self.state = GateState.ESTOP if self._latch.reason else GateState.DISARMED
        self.reason = self._latch.reason or "not armed"
        self._strikes, self._chunk_age = 0, np.nan
        self._commanding = self._leaving = self._moves_gripper = False
        self._ticked_at = self._awake_since = -np.inf
        self._away_since: float | None = None
        self._resumes_after: float | None = None

    @property
    def is_commanding(self) -> bool:
        """Whether `tick` gives commands."""
        return self._commanding

    # -- what comes in

    def on_state(self, position: NDArray[np.floating[Any]], now: float, age: float = 0.0) -> bool:
        """The position (A,) measured `age` seconds ago; False, and counted, if it is not believed."""
        return self.measured.take(position, now, age)

    def on_heartbeat(self, session: int, now: float) -> None:
        """The sender of the chunks is alive."""
        self._holder.on_heartbeat(session, now)

    def on_idle(self, session: int, now: float) -> None:
        """The sender of the chunks says that it has stopped: hold, and let another one come next.

        Chunks captured before now start nothing again. Idle senders that do not hold the robot change nothing.
        """
        if self._holder.on_idle(session):
            if self.state is GateState.TRACKING:
                self._hold("the policy stopped")
            self._forget(now)

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The operator's switch; released stops what teleoperation began."""
        self._holder.on_deadman(pressed, now)

    def offer(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """Take a chunk, or say why not."""
        why = self._judge(chunk, now)
        if why is not None:
            self._refuse(why, now)
            return why
        self.counts["chunk taken"] += 1
        self._holder.take(chunk, now)
        self._strikes, self._chunk_age, self._moves_gripper = 0, now - chunk.captured, True
        self._stream.play(chunk.captured, chunk.dt, chunk.actions, now)
        self._enter(GateState.TRACKING, "")
        return None

    # -- what goes out

    def tick(self, now: float) -> Command | None:
        """The command of this moment, to be sent at once; None while there is none.

        It is meant for every 1 / control_hz; one that comes sooner, for a chunk that has just been taken, moves less.
        """
        self._notice_gap(now)
        if self.state.is_armed:
            self._supervise(now)
        if self._commanding:
            self._notice_being_moved(now)
        if not self._commanding or not self._resume(now):
            return None
        command = self._command(now)
        if self._leaving and self._stream.at_rest:
            self._let_go()
        return command

    def sent(self, now: float) -> None:
        """The last command has gone out by now; limits hold from then on to the next one."""
        self._stream.sent(now)

    # -- what a person, or the node around it, decides

    def arm(self, now: float) -> None:
        """Begin to command, at rest where the robot is. Raises `InvalidValueError` if it may not."""
        if self.state is not GateState.DISARMED:
            raise InvalidValueError(
                f"cannot arm: {self.state.value} ({self.reason})" if self.reason else "armed already"
            )
        if why := self.measured.why_not_known(now):
            raise InvalidValueError(f"cannot arm: {why}")
        self._moves_gripper = False
        self._begin(now, "armed, no chunk yet", self._measured_place())

    def disarm(self, now: float) -> None:
        """Come to rest, then give no more commands. An emergency stop stays one."""
        self._forget(now)
        if self._commanding and not self._stream.at_rest and self._resumes_after is None:
            self._leaving = True
            if self.state.is_armed:
                self._stop(GateState.HOLDING, "disarming")
        else:
            self._let_go()

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

        Raises `InvalidValueError` in other states, where it is not known where the robot is, while commands slow down.
        """
        if self.state not in (GateState.FAULT, GateState.ESTOP):
            raise InvalidValueError(f"nothing to reset: {self.state.value}")
        if not self.measured.is_fresh(now):
            raise InvalidValueError(f"cannot reset: no fresh joint state: {self.measured.why_stale(now)}")
        if self._commanding and not self._stream.at_rest:
            raise InvalidValueError("the robot is still coming to rest")
        if self.state is GateState.ESTOP:
            self._latch.clear()
            self._forget(now)
            self._enter(GateState.DISARMED, "not armed")
            self._let_go()
            return
        if why := self.measured.why_not_known(now):
            raise InvalidValueError(f"cannot reset: {why}")
        stays = self._commanding and self._error() <= self.config.max_hold_error
        self._begin(now, "reset, no chunk yet", self._stream.position if stays else self._measured_place())

    def close(self) -> None:
        """Let another gate keep the memory of this robot's emergency stop."""
        self._latch.close()

    def diagnostics(self, now: float) -> dict[str, str]:
        """State, reason, ages and counts, as text."""
        ages = {
            "joint state": now - self.measured.at,
            "heartbeat": now - self._holder.heartbeat_at,
            "the last chunk's observation when it came": self._chunk_age,
        }
        return {
            "state": self.state.value,
            "reason": self.reason,
            "commanding": "yes" if self._commanding else "no",
            **({"last joint state refused": self.measured.refusal} if self.measured.refusal else {}),
            **{f"age of {name} [ms]": f"{1000 * age:.0f}" for name, age in ages.items() if np.isfinite(age)},
            **{name: str(count) for name, count in sorted(self.counts.items())},
        }

    # -- chunks

    def _judge(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """The first rule that a chunk breaks."""
        if not self.state.is_armed or self._leaving:
            return Rejection.NOT_ARMED
        if not self.measured.is_fresh(now) or self._resumes_after is not None:
            return Rejection.NO_STATE
        if chunk.source not in self._sources:
            return Rejection.SOURCE
        if why := self._holder.judge(chunk, now):
            return why
        if why := judge_content(chunk, self.config, size=self._size, joints=self._joints, now=now):
            return why
        if self._holder.captured_too_early(chunk):
            return Rejection.BEFORE_RESET
        if now - chunk.captured > self.config.max_chunk_age_s:
            return Rejection.STALE
        joints = chunk.actions[:, : self._joints]
        leaps = self._stream.distance(chunk.captured, chunk.dt, joints, now) > self.config.max_jump
        return Rejection.JUMP if leaps else None

    def _refuse(self, why: Rejection, now: float) -> None:
        self.counts[f"chunk {why.value}"] += 1
        if why is Rejection.OTHER_SESSION and self.state is GateState.HOLDING and self._holder.is_silent(now):
            self.reason = "the policy before is silent and another one asks: disarm and arm to hand over"
        if why.is_harmless:
            return
        self._strikes += 1
        if self._strikes >= self.config.max_rejections:
            self.fault(f"{self._strikes} wrong chunks in a row, the last one: {why.value}")
        else:
            self._hold(f"chunk {why.value}")

    # -- commands

    def _command(self, now: float) -> Command:
        self._stream.next(now)
        return Command(
            position=self._stream.position.copy(),
            velocity=self._stream.velocity.copy(),
            state=self.state,
            reason=self.reason,
            moves_gripper=self._moves_gripper,
        )

    def _notice_gap(self, now: float) -> None:
        """A gate that stood still itself does not go on where it was: the robot has stopped meanwhile."""
        gap, self._ticked_at = now - self._ticked_at, now
        if gap <= self.config.gap_timeout_s:
            return
        self._awake_since = now
        if not self._commanding or self._stream.at_rest or self._resumes_after is not None:
            return
        self.counts["gap"] += 1
        if self._leaving:
            self._let_go()
        else:
            self._hold(f"the gate stood still for {gap:.2f} s")
            self._resumes_after = now

    def _resume(self, now: float) -> bool:
        """Whether commands may go on; after a gap from where the robot is, once that is known."""
        if self._resumes_after is None:
            return True
        if self.measured.at < self._resumes_after or not self.measured.is_fresh(now):
            return False
        self._rest_at(self._measured_place())
        return True

    def _notice_being_moved(self, now: float) -> None:
        """End commands to a robot that rests away from them: released, it would leap back."""
        away = self._stream.at_rest and self.measured.is_fresh(now) and self.state is not GateState.TRACKING
        if not away or self._error() <= self.config.max_hold_error:
            self._away_since = None
            return
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= HOLD_ERROR_S:
            self.fault("the robot was moved while it held")
            self._commanding = False
            self.reason = f"{self.reason}; {MOVED}"

    # -- rules

    def _supervise(self, now: float) -> None:
        """What may end motion between chunks."""
        config, measured = self.config, self.measured
        heard = max(measured.at, self._awake_since)
        if now - heard > config.driver_timeout_s:
            why = measured.why_stale(now)
            self.fault("the robot's driver is silent" if why == STALE else why)
        elif measured.contradicts(now):
            self.fault(f"joint states contradict each other: {measured.refusal}")
        elif now - heard > config.state_timeout_s:
            self._hold(measured.why_stale(now))
        elif self._error() > config.max_tracking_error:
            self.fault("the robot does not follow its commands")
        elif self.state is not GateState.TRACKING:
            if self.reason.startswith("joint states are"):
                self.reason = STATES_BACK
        elif self._holder.has_released(now):
            self._hold("deadman released")
        elif self._holder.is_silent(now):
            self._hold("the policy is silent")
        elif not self._stream.has_target(now):
            self._hold("no action left")

    def _error(self) -> float:
        """Largest distance of a joint from its command [rad]."""
        if self.measured.position is None or self._resumes_after is not None:
            return 0.0
        return float(np.abs(self.measured.position - self._stream.position)[: self._joints].max())

    def _hold(self, reason: str) -> None:
        if self.state is GateState.TRACKING:
            self.counts["hold"] += 1
        if self.state.is_armed and not self._leaving:
            self._stop(GateState.HOLDING, reason)

    def _stop(self, state: GateState, reason: str) -> None:
        """Brake, and stay. Grippers keep their last command: one that gave way would let fall what it holds."""
        self._stream.stop()
        self._enter(state, reason)

    def _begin(self, now: float, reason: str, place: Floats) -> None:
        """Command from rest at `place`, for the first sender to come."""
        self._rest_at(place)
        self._commanding, self._leaving = True, False
        self._forget(now, pardon=True)
        self._enter(GateState.HOLDING, reason)

    def _measured_place(self) -> Floats:
        """Where the robot is; grippers as they were commanded, once they were."""
        assert self.measured.position is not None
        grippers = self._stream.position if self._moves_gripper else self.measured.position
        return np.concatenate([self.measured.position[: self._joints], grippers[self._joints :]])

    def _rest_at(self, position: Floats) -> None:
        self._stream.rest_at(position)
        self._away_since = self._resumes_after = None

    def _let_go(self) -> None:
        """Give no more commands."""
        self._commanding = self._leaving = False
        self._resumes_after = None
        if self.state is not GateState.ESTOP:
            self._enter(GateState.DISARMED, "not armed")

    def _enter(self, state: GateState, reason: str) -> None:
        self.state, self.reason = state, reason

    def _forget(self, now: float, *, pardon: bool = False) -> None:
        """Let any sender come next; its observation must be newer than `now`."""
        self._stream.stop()
        self._holder.forget(now, pardon=pardon)
        self._strikes = 0


def _numbered(size: int) -> tuple[str, ...]:
    return tuple(f"dimension {i + 1}" for i in range(size))
