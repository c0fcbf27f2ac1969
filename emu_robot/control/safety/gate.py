"""The gate between action chunks and a robot: limits, holds, latches.

    DISARMED --arm--> HOLDING <--chunk / out of chunks, silence, stale state--> TRACKING
    armed states --fault--> FAULT --reset--> HOLDING
    any state --estop--> ESTOP, also over restarts --reset--> DISARMED

An armed gate gives one command per control tick. In TRACKING it follows the chunks. In other states it brakes along the
direction of travel and stays; grippers keep their last command. It does not pull back a robot that was moved: when the
robot rests away from its command, commands end until a person resets.

All times are seconds of one steady clock. The caller reads it; this module reads no clock.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.safety.chunks import SOURCES, ChunkMessage, Rejection, judge_content
from emu_robot.control.safety.commands import CommandStream
from emu_robot.control.safety.config import SafetyConfig
from emu_robot.control.safety.following import Following
from emu_robot.control.safety.holder import Holder
from emu_robot.control.safety.latch import EstopLatch
from emu_robot.control.safety.measured import STALE, MeasuredJoints
from emu_robot.control.safety.states import Command, GateState
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits

STATES_BACK = "joint states are back, no chunk yet"
MOVED = "the robot was moved: no commands until reset"


class SafetyGate:
    """Takes chunks, joint states and heartbeats; gives commands."""

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
        """joints: number of leading dimensions that are joints. Jump and tracking limits hold for these alone.

        names: names of the dimensions; a chunk that gives names must give these. sources: senders that may send chunks.
        Raises `InvalidValueError` if joints or names do not fit the limits.
        """
        self.config, self._joints, self._sources = config, joints, frozenset(sources)
        self._latch = latch or EstopLatch(None)
        self._stream = CommandStream(limits, 1.0 / config.control_hz, config.blend_s)
        self._holder = Holder(config)
        self.measured = MeasuredJoints(config, limits, names, joints)
        """The joint states that the gate believes."""
        self._following = Following(config, self.measured, self._stream, joints)
        self.counts: Counter[str] = self.measured.counts
        """Number of chunks taken, chunks rejected by reason, faults and holds."""
        self.state = GateState.ESTOP if self._latch.reason else GateState.DISARMED
        self.reason = self._latch.reason or "not armed"
        self._strikes, self._chunk_age = 0, np.nan
        self._commanding = self._leaving = self._moves_gripper = False
        self._ticked_at = self._awake_since = -np.inf
        self._resumes_after: float | None = None

    @property
    def is_commanding(self) -> bool:
        """Whether `tick` gives commands."""
        return self._commanding

    # -- what comes in

    def on_state(self, position: NDArray[np.floating[Any]], now: float, age: float = 0.0) -> bool:
        """Take the position (A,) measured `age` seconds ago. Returns False, and counts it, if it is not believed."""
        return self.measured.take(position, now, age)

    def on_heartbeat(self, session: int, now: float) -> None:
        """The sender of the chunks is alive."""
        self._holder.on_heartbeat(session, now)

    def on_idle(self, session: int, now: float) -> None:
        """The sender of the chunks has stopped: hold, and let another sender come next.

        Chunks captured before `now` are refused. An idle sender that does not hold the robot changes nothing.
        """
        if self._holder.on_idle(session):
            if self.state is GateState.TRACKING:
                self._hold("the policy stopped")
            self._forget(now)

    def on_deadman(self, pressed: bool, now: float) -> None:
        """The operator pressed or released the deadman switch. A release stops teleoperation."""
        self._holder.on_deadman(pressed, now)

    def offer(self, chunk: ChunkMessage, now: float) -> Rejection | None:
        """Take a chunk, or return why it is refused."""
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
        """The command for now, to be sent at once; None while there is none.

        Call it every 1 / control_hz. An extra call, for a chunk that was just taken, gives a smaller motion.
        """
        self._notice_gap(now)
        if self.state.is_armed:
            self._supervise(now)
        if self._commanding:
            self._notice_being_moved(now)
        if not self._commanding or not self._resume(now):
            return None
        self._stream.next(now)
        command = Command(
            position=self._stream.position.copy(),
            velocity=self._stream.velocity.copy(),
            state=self.state,
            reason=self.reason,
            moves_gripper=self._moves_gripper,
        )
        if self._leaving and self._stream.at_rest:
            self._let_go()
        return command

    def sent(self, now: float) -> None:
        """The last command went out at `now`; the limits count time from there."""
        self._stream.sent(now)

    # -- what a person, or the node around it, decides

    def arm(self, now: float) -> None:
        """Begin to command, at rest where the robot is. Raises `InvalidValueError` if that is not allowed."""
        if self.state is not GateState.DISARMED:
            raise InvalidValueError(
                f"cannot arm: {self.state.value} ({self.reason})" if self.reason else "armed already"
            )
        if why := self.measured.why_not_known(now):
            raise InvalidValueError(f"cannot arm: {why}")
        self._moves_gripper = False
        self._begin(now, "armed, no chunk yet", self._following.place(keep_grippers=False))

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
        """Hold until reset, also after a restart. Raises `InvalidValueError` if the stop will not outlive a restart."""
        self.counts["estop"] += 1
        self._stop(GateState.ESTOP, reason or "emergency stop")
        self._latch.set(self.reason)

    def reset(self, now: float) -> None:
        """Go from FAULT to HOLDING, or from ESTOP to DISARMED. Chunks captured before `now` are refused.

        Raises `InvalidValueError` in other states, without a known position, or while the robot still brakes.
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
        stays = self._commanding and self._following.error <= self.config.max_hold_error
        measured = self._following.place(keep_grippers=self._moves_gripper)
        self._begin(now, "reset, no chunk yet", self._stream.position if stays else measured)

    def close(self) -> None:
        """Release the file of the emergency stop, so that another gate may use it."""
        self._latch.close()

    def diagnostics(self, now: float) -> dict[str, str]:
        """State, reason, ages and counts as text."""
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
        if why := judge_content(chunk, self.config, names=self.measured.names, joints=self._joints, now=now):
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

    def _notice_gap(self, now: float) -> None:
        """After a gap in its own ticks the gate does not resume: the robot has stopped meanwhile."""
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
        """Whether commands may go on. After a gap they begin where the robot is, once that is known."""
        if self._resumes_after is None:
            return True
        if self.measured.at < self._resumes_after or not self.measured.is_fresh(now):
            return False
        self._rest_at(self._following.place(keep_grippers=self._moves_gripper))
        return True

    def _notice_being_moved(self, now: float) -> None:
        """End commands to a robot that was moved: once released, it would leap back."""
        if self._following.was_moved(now, tracking=self.state is GateState.TRACKING):
            self.fault("the robot was moved while it held")
            self._commanding = False
            self.reason = f"{self.reason}; {MOVED}"

    # -- rules

    def _supervise(self, now: float) -> None:
        """Apply the rules that end motion between chunks."""
        config, measured = self.config, self.measured
        heard = max(measured.at, self._awake_since)
        if now - heard > config.driver_timeout_s:
            why = measured.why_stale(now)
            self.fault("the robot's driver is silent" if why == STALE else why)
        elif measured.contradicts(now):
            self.fault(f"joint states contradict each other: {measured.refusal}")
        elif now - heard > config.state_timeout_s:
            self._hold(measured.why_stale(now))
        elif self._resumes_after is None and self._following.error > config.max_tracking_error:
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

    def _hold(self, reason: str) -> None:
        if self.state is GateState.TRACKING:
            self.counts["hold"] += 1
        if self.state.is_armed and not self._leaving:
            self._stop(GateState.HOLDING, reason)

    def _stop(self, state: GateState, reason: str) -> None:
        """Brake, and stay. Grippers keep their last command: an opening gripper would drop its object."""
        self._stream.stop()
        self._enter(state, reason)

    def _begin(self, now: float, reason: str, place: Floats) -> None:
        """Command from rest at `place`, and take the first sender that comes."""
        self._rest_at(place)
        self._commanding, self._leaving = True, False
        self._forget(now, pardon=True)
        self._enter(GateState.HOLDING, reason)

    def _rest_at(self, position: Floats) -> None:
        self._stream.rest_at(position)
        self._following.restart()
        self._resumes_after = None

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
