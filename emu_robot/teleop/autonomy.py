"""A policy that drives the arm of a session, in LeRobot's DAgger phases. Reads no clock and never waits.

    AUTONOMOUS --pause, take over, the deadman--> PAUSED --correct--> CORRECTING --correct--> PAUSED
    PAUSED, CORRECTING --resume--> AUTONOMOUS

The policy's chunks pass the safety gate like the operator's. It never goes on by itself: a stop, a failure, a
computation that takes too long, another scene and an operator's hand all pause it until a person resumes it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from emu_robot.control.safety import ChunkMessage, GateState, Rejection, SafetyGate
from emu_robot.core import ActionChunk, Floats, Observation, PolicyEvent
from emu_robot.errors import ConfigError
from emu_robot.robots.arm import Arm, HasOwnUnits
from emu_robot.shared.settings import check_ranges, number
from emu_robot.teleop.thinking import Answer, Question, Thinking

KEPT_STATES = 64
"""Positions kept, to find the one at the time of a picture."""
RESTED = 0.01
"""Motion of every joint since a picture below which the arm counts as having rested [rad]."""
SLOW = 3
"""Chunks in a row that come too late, after which that is said."""


class DAggerPhase(StrEnum):
    """Who has the arm; names and values are those of LeRobot."""

    AUTONOMOUS = "autonomous"
    """The policy drives."""
    PAUSED = "paused"
    """The policy rests. The operator may drive; nothing is recorded."""
    CORRECTING = "correcting"
    """The operator drives, and what he does is recorded as an intervention."""


@dataclass(frozen=True, kw_only=True)
class AutonomyConfig:
    """When a policy that computes is held."""

    stall_s: float = number(0.4, 0.05, 5.0)
    """Time of a computation after which the arm holds; the chunk before may have ended already [s]."""
    patience_s: float = number(10.0, 0.5, 120.0)
    """Time of a computation after which the policy is paused [s]."""

    def __post_init__(self) -> None:
        check_ranges(self, "autonomy")


class Autonomy:
    """Asks a policy for chunks, and offers them to the gate while the phase is AUTONOMOUS."""

    def __init__(
        self, thinking: Thinking, arm: Arm, config: AutonomyConfig, *, session: int, say: Callable[[str], None]
    ) -> None:
        """session: number of the policy at the gate. say: tells the operator a line.

        Raises `ConfigError` if the policy is not for this arm.
        """
        _require_fit(thinking, arm)
        self._thinking, self._config, self._id, self._say = thinking, config, session, say
        self._joints = len(arm.home)
        self._units = arm if isinstance(arm, HasOwnUnits) else None
        self._names, self._hz = arm.layout.action_names, thinking.policy.control_hz
        self._period = thinking.policy.n_action_steps / self._hz
        self._gate: SafetyGate | None = None
        self._states: deque[tuple[float, Floats]] = deque(maxlen=KEPT_STATES)
        self._task, self._wanted = "", ""
        self._sequence = self._late = 0
        self._asked_at = self._since = -np.inf
        self._busy_since: float | None = None
        self.phase = DAggerPhase.PAUSED
        """Who has the arm."""
        self.coached = ""
        """The subtask in a person's words that the policy shall pursue; empty: the planner's."""

    @property
    def is_driving(self) -> bool:
        """Whether the policy has the arm."""
        return self.phase is DAggerPhase.AUTONOMOUS

    @property
    def subtask(self) -> str:
        """What the policy wants, in words; empty before its first plan."""
        return self.coached or self._wanted

    def begin(self, gate: SafetyGate, task: str) -> None:
        """Another scene or task, behind this gate. The policy waits to be resumed."""
        self._gate, self._task, self._wanted, self.coached = gate, task, "", ""
        self.phase = DAggerPhase.PAUSED
        self._states.clear()
        if task:
            self._thinking.reset(task)

    # -- what a person decides

    def pause(self, now: float, why: str) -> None:
        """Brake and hold; the operator may drive. why: told to the operator."""
        if self.is_driving and self._gate is not None:
            self._gate.on_idle(self._id, now)
            self._thinking.drop()
        self.phase = DAggerPhase.PAUSED
        self._say(why)

    def resume(self, now: float, operator: int) -> bool:
        """Let the policy plan from the present picture and drive. Returns whether it may.

        operator: session of the operator's hand at the gate, which lets go.
        """
        if not self._task:
            self._say("name the task first")
        elif self._gate is None or not self._gate.state.is_armed:
            self._say("the arm is stopped: resume it first, then the policy")
        else:
            self._gate.on_idle(operator, now)
            self.phase, self._since, self._asked_at = DAggerPhase.AUTONOMOUS, now, -np.inf
            self._busy_since, self._late = None, 0
            self._thinking.coach(self.coached)
            self._say("the policy drives")
            return True
        return False

    def correct(self, now: float) -> None:
        """Begin a correction, or end it."""
        if self.phase is DAggerPhase.CORRECTING:
            self.pause(now, "correction ended; P hands the arm back to the policy")
        else:
            self.pause(now, "correcting: hold the deadman to drive; C ends it, P hands back")
            self.phase = DAggerPhase.CORRECTING

    def coach(self, subtask: str) -> None:
        """Let the policy pursue these words until they are reached; empty: the planner's again."""
        self.coached = subtask
        self._say(f"the policy shall: {subtask}" if subtask else "the planner chooses the subtask")
        if self.is_driving:  # else when it is resumed
            self._thinking.coach(subtask)
            self._asked_at = -np.inf

    # -- every tick

    def on_state(self, position: Floats, at: float) -> None:
        """Take a believed position (A,)."""
        self._states.append((at, position))

    def drive(self, observation: Observation | None, captured: float, now: float) -> None:
        """Ask the policy, and offer what it answered. captured: time of the observation's pictures [s]."""
        gate, thinking = self._gate, self._thinking
        if not self.is_driving or gate is None:
            return
        if not gate.state.is_armed:
            self.pause(now, f"stopped: {gate.reason}; resume the arm, then the policy")
            return
        answer = thinking.take()
        if answer is not None:
            self._use(answer, gate, now)
        self._busy_since = (now if self._busy_since is None else self._busy_since) if thinking.is_busy else None
        waited = self._waited(now)
        if waited > self._config.patience_s:
            self.pause(now, f"the policy is paused: it has computed one chunk for {waited:.0f} s")
        elif waited <= self._config.stall_s:
            gate.on_heartbeat(self._id, now)
        is_due = self.is_driving and now - self._asked_at >= self._period and not thinking.is_busy
        if is_due and observation is not None and captured > self._since:
            self._asked_at = now
            thinking.ask(Question(observation=self._at(observation, captured), captured=captured))

    def reason(self, now: float) -> str:
        """Why the arm does not move though the policy has it; empty if it moves."""
        if self._gate is None or self._gate.state is GateState.TRACKING:
            return ""
        waited = self._waited(now)
        return f"the policy has computed for {waited:.1f} s" if waited else self._gate.reason

    def _waited(self, now: float) -> float:
        """For how long the policy has computed its next chunk [s]; 0 if it does not."""
        return 0.0 if self._busy_since is None else now - self._busy_since

    def _at(self, observation: Observation, captured: float) -> Observation:
        """The observation with the position at the time of its pictures."""
        position = self._position_at(captured)
        if position is None:
            return observation
        own = position if self._units is None else self._units.to_own(position)
        return replace(observation, state=own.astype(np.float32))

    def _position_at(self, time: float) -> Floats | None:
        return min(self._states, key=lambda kept: abs(kept[0] - time))[1] if self._states else None

    def _begin_of(self, captured: float, gate: SafetyGate, now: float) -> float:
        """When a chunk begins: with its pictures, or now if the arm has rested since then, so that it need not hurry.

        Pictures that are too old stay so.
        """
        then, known = self._position_at(captured), self._position_at(now)
        if gate.state is GateState.TRACKING or then is None or known is None:
            return captured
        moved = float(np.abs(known - then)[: self._joints].max())
        return now if moved < RESTED and now - captured <= gate.config.max_chunk_age_s else captured

    def _use(self, answer: Answer, gate: SafetyGate, now: float) -> None:
        chunk = answer.chunk
        if chunk is None:
            self.pause(now, f"the policy is paused: {answer.problem}")
            return
        self._hear(chunk)
        self._sequence += 1
        actions = chunk.actions
        if self._units is not None:
            actions = np.stack([self._units.from_own(action) for action in actions.astype(np.float64)])
        message = ChunkMessage(
            session=self._id,
            sequence=self._sequence,
            captured=self._begin_of(answer.captured, gate, now),
            dt=1.0 / self._hz,
            actions=actions,
            names=self._names,
        )
        why = gate.offer(message, now)
        self._late = self._late + 1 if why is Rejection.STALE else 0
        if self._late >= SLOW:
            age = now - answer.captured
            self._say(f"the policy is too slow here: its chunks answer pictures of {age:.1f} s ago")
        elif why is not None and not why.is_harmless:
            self._say(f"the safety gate refused a chunk of the policy: {why.value}")

    def _hear(self, chunk: ActionChunk) -> None:
        """Take what the policy decided."""
        if {PolicyEvent.SWITCHED, PolicyEvent.TIMEOUT} & set(chunk.events):
            self.coached = ""
        if PolicyEvent.COMPLETE in chunk.events:
            self._say("the policy holds the task complete")
        if PolicyEvent.PLAN_FAILED in chunk.events:
            self._say("the planner gave no plan")
        self._wanted = chunk.step.subtask if chunk.step is not None else self._wanted


def _require_fit(thinking: Thinking, arm: Arm) -> None:
    policy = thinking.policy
    if policy.action_names != arm.layout.action_names:
        theirs, ours = ", ".join(policy.action_names), ", ".join(arm.layout.action_names)
        raise ConfigError(f"the policy commands {theirs}; {arm.name} has {ours}")
    missing = [name for name in policy.cameras if name not in arm.cameras]
    if missing:
        raise ConfigError(f"the policy sees {', '.join(missing)}; {arm.name} has the cameras {', '.join(arm.cameras)}")
