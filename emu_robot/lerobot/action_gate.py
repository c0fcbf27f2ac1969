"""The safety gate for callers that give one action at a time, by name and in their arm's own units. Numpy only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot.control.safety import ChunkMessage, Command, EstopLatch, GateState, SafetyConfig, SafetyGate
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.lerobot.arm_limits import ArmLimits

SESSION = 1
"""Session of the only sender."""
START_MARGIN = 0.05
"""Distance beyond its limits at which a joint may be taken over, as servos sag, in the gate's numbers [rad]."""
RESTING = 0.01
"""Largest speed of a command that counts as rest, in the gate's numbers [rad/s]."""


class ActionGate:
    """One `SafetyGate` for one action at a time.

    Times are seconds of one steady clock. Positions by name are in the units of `limits`.
    problem: fault of the last action; empty if none. stop_file: its presence is an emergency stop.
    """

    def __init__(self, limits: ArmLimits, config: SafetyConfig, stop_file: Path | None) -> None:
        self._limits, self._config, self._stop_file = limits, config, stop_file
        self._latch = EstopLatch(stop_file)
        self._sequence, self.problem = 0, ""
        self._seen = np.full(len(limits.names), np.nan)
        self._seen_at = -np.inf
        self._command: Command | None = None
        self.forget()

    def forget(self) -> None:
        """Forget the arm's position and command nothing until `begin`. An emergency stop stays."""
        limits = self._limits
        self._gate = SafetyGate(
            config=self._config, limits=limits.scaled, joints=limits.joints, names=limits.names, latch=self._latch
        )
        self._command = None

    def close(self) -> None:
        """Release the e-stop file for another gate."""
        self._gate.close()

    # -- what is known

    @property
    def is_stopped(self) -> bool:
        """Whether only a person may release the arm."""
        return self._gate.state in (GateState.FAULT, GateState.ESTOP)

    @property
    def is_estopped(self) -> bool:
        return self._gate.state is GateState.ESTOP

    @property
    def is_holding(self) -> bool:
        return self._gate.state is GateState.HOLDING

    @property
    def reason(self) -> str:
        """Why the arm is stopped or holds, in one line."""
        said = self._gate.reason.splitlines()[0] if self._gate.reason else ""
        if self.is_holding and self.problem:
            return self.problem
        return f"{said}: {self.problem}" if self.problem and not self.is_estopped else said

    @property
    def at_rest(self) -> bool:
        """Whether the last command has no speed left."""
        return self._command is None or bool(np.abs(self._command.velocity).max() <= RESTING)

    def state_age(self, now: float) -> float:
        """Age of the last accepted state, since its request [s]."""
        return now - self._seen_at

    # -- what comes in

    def observe(self, observation: Mapping[str, Any], at: float, now: float) -> None:
        """Take the arm's state, requested at the time `at`; missing positions count as NaN."""
        seen = np.array([_number(observation.get(name)) for name in self._limits.names])
        if self._gate.on_state(self._limits.to_gate(seen), now, now - at):
            self._seen, self._seen_at = seen, at

    def begin(self, now: float) -> str:
        """Begin to command, at rest at the arm's last position; the reason if this is refused, else ""."""
        try:
            self._gate.arm(now)
        except InvalidValueError as error:
            return str(error)
        place = self._limits.to_gate(self._seen)
        self._command = Command(position=place, velocity=np.zeros(len(place)), state=self._gate.state)
        return ""

    def outside(self, observation: Mapping[str, Any]) -> str:
        """The first position of an observation beyond its limits or not a number, with advice; empty if none is."""
        motion = self._limits.motion
        slack = START_MARGIN * self._limits.scale
        for i, name in enumerate(self._limits.names):
            place, low, high = _number(observation.get(name)), float(motion.lower[i]), float(motion.upper[i])
            if not low - slack[i] <= place <= high + slack[i]:
                remedy = "move it inside by hand, or correct its limits or unit"
                return f"{name} is at {place:.4g}, outside [{low:.4g}, {high:.4g}]: {remedy}"
        return ""

    def watch_stop_file(self) -> None:
        """Stop if the e-stop file has appeared."""
        if self._stop_file is not None and not self.is_estopped and self._stop_file.exists():
            try:
                reason = self._stop_file.read_text(errors="replace").strip()
            except OSError as error:
                reason = str(error)
            self._gate.estop(reason or f"{self._stop_file} is there")

    def estop(self, reason: str) -> None:
        """Stop until a person clears it. Raises `InvalidValueError` if the stop holds, but not over a restart."""
        self._gate.estop(reason)

    # -- what goes out

    def step(self, action: Mapping[str, Any], now: float) -> dict[str, float] | None:
        """The command for this action: towards it, or a hold; None where nothing may be sent."""
        wanted, self.problem = self._wanted(action)
        jumps = "" if self.problem else self._jumps(wanted)
        if jumps:
            self.problem = jumps
            self._gate.on_idle(SESSION, now)
        else:
            self._sequence += 1
            dt = 1.0 / self._config.control_hz
            actions = self._limits.to_gate(wanted)[np.newaxis]
            self._gate.offer(
                ChunkMessage(session=SESSION, sequence=self._sequence, captured=now, dt=dt, actions=actions), now
            )
        return self._tick(now)

    def brake(self, now: float) -> dict[str, float] | None:
        """The next command on the way to rest."""
        self._gate.on_idle(SESSION, now)
        return self._tick(now)

    def _tick(self, now: float) -> dict[str, float] | None:
        command = self._gate.tick(now)
        if command is None:
            return None
        self._command = command
        values = self._limits.from_gate(command.position).tolist()
        return dict(zip(self._limits.names, values, strict=True))

    # -- by name

    def _wanted(self, action: Mapping[str, Any]) -> tuple[Floats, str]:
        """The action (A,) and its fault, "" if none; an action with wrong names is all NaN."""
        names = self._limits.names
        missing = [name for name in names if name not in action]
        extra = sorted(str(name) for name in action if name not in names)
        if missing or extra:
            parts = (f"lacks {', '.join(missing)}" if missing else "", f"has {', '.join(extra)}" if extra else "")
            said = f"the action {' and '.join(filter(None, parts))}; it must name {', '.join(names)}"
            return np.full(len(names), np.nan), said
        values = np.array([_number(action[name]) for name in names])
        wrong = [f"{names[i]}={action[names[i]]!r}" for i in np.flatnonzero(~np.isfinite(values))]
        return values, f"the action is not finite: {', '.join(wrong)}" if wrong else ""

    def _jumps(self, wanted: Floats) -> str:
        """The joints whose targets are too far from the last command, in words; "" if none is."""
        assert self._command is not None
        limits, last = self._limits, self._limits.from_gate(self._command.position)
        far = np.flatnonzero(np.abs(wanted - last)[: limits.joints] > limits.max_jump[: limits.joints])
        said = [
            f"{limits.names[i]} from {last[i]:.4g} to {wanted[i]:.4g} (at most {limits.max_jump[i]:.4g})" for i in far
        ]
        return f"the action leaps, {', '.join(said)}; bring the two together" if said else ""


def _number(value: Any) -> float:
    """The value as a float; NaN for text and all else that is no number."""
    try:
        return float("nan" if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
