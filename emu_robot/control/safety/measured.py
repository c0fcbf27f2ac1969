"""Joint states as they arrive, and which of them the gate believes."""

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emu_robot.control.safety.config import SafetyConfig
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.robots.limits import MotionLimits

REORDERED_S = 0.002
"""How much older than the state before a state may seem: two clocks are read one after the other [s]."""
SLACK = 0.05
"""Distance between two states that noise and uneven stamps explain [rad]."""
GRIPPER_MARGIN = 1.0
"""How far outside [0, 1] a gripper's opening may be measured: calibrations are rough."""
MEMORY_S = 1.0
"""How long a refused state counts [s]."""
STILL_S, STILL = 0.2, 0.02
"""A robot is still if it moved by less than STILL [rad] within STILL_S [s]."""
STALE = "joint states are stale"
AT_LIMIT = 0.01
"""How far outside its limits a joint may be at arming [rad]. The first command brings it back."""


class MeasuredJoints:
    """Checks each joint state against the limits, the time, and the state before; keeps the last one believed."""

    def __init__(self, config: SafetyConfig, limits: MotionLimits, names: Sequence[str], joints: int) -> None:
        """names: names of the dimensions, numbered if empty. joints: number of leading dimensions that are joints.

        The other dimensions are gripper openings. Raises `InvalidValueError` if joints or names do not fit the limits.
        """
        size = len(limits.lower)
        if not 0 < joints <= size:
            raise InvalidValueError(f"joints is {joints}; there are {size} dimensions")
        if names and len(names) != size:
            raise InvalidValueError(f"{len(names)} names for {size} dimensions")
        self.names = tuple(names) or tuple(f"dimension {i + 1}" for i in range(size))
        """Names of the A dimensions."""
        self._config, self._joints = config, joints
        margin = np.full(size, GRIPPER_MARGIN)
        margin[:joints] = config.state_margin
        self._limits, self._lowest, self._highest = limits, limits.lower - margin, limits.upper + margin
        self.position: Floats | None = None
        """Position (A,) of the last state believed; None before the first."""
        self.at = -np.inf
        """When that state was measured, on the steady clock [s]."""
        self.refusal = ""
        """Why the last refused state was refused; empty if there was none."""
        self.counts: Counter[str] = Counter()
        self._refused_at = -np.inf
        self._returned_at: deque[float] = deque(maxlen=config.max_bad_states)
        self._refusing = False
        self._path: deque[tuple[float, Floats]] = deque()
        self._since = np.inf

    def take(self, position: NDArray[np.floating], now: float, age: float) -> bool:
        """Take a state (A,) measured `age` seconds ago. Returns False, and counts it, if it is not believed."""
        why = self._why_not(position, now, age)
        if why:
            self.refuse(why, now)
            return False
        at = now - max(age, 0.0)
        if at < self.at - REORDERED_S:
            self.counts["joint state older than one before"] += 1
            return False
        if at - self.at > self._config.driver_timeout_s:
            self._since = at
            self._path.clear()
        if self._refusing:
            self._returned_at.append(now)
        self._refusing = False
        self.position, self.at = position.astype(np.float64), max(at, self.at)
        self._path.append((self.at, self.position[: self._joints]))
        while self._path[0][0] < self.at - STILL_S:
            self._path.popleft()
        return True

    def refuse(self, why: str, now: float) -> None:
        """Count a state that is not believed, or that its reader could not read."""
        self.counts["bad joint state"] += 1
        self.refusal = why
        self._refused_at, self._refusing = now, True

    def is_fresh(self, now: float) -> bool:
        """Whether the last believed state is young enough to act on."""
        return now - self.at <= self._config.state_timeout_s

    def contradicts(self, now: float) -> bool:
        """Whether refused and believed states alternate so often that neither can be trusted."""
        returned = self._returned_at
        return len(returned) == returned.maxlen and now - returned[0] <= MEMORY_S

    def why_stale(self, now: float) -> str:
        """Why there is no fresh state, in words."""
        if now - self._refused_at <= self._config.state_timeout_s:
            return f"joint states are refused: {self.refusal}"
        return STALE

    def why_not_known(self, now: float) -> str:
        """Why the measured position is not good enough to begin commanding; empty if it is."""
        if now - self._refused_at <= MEMORY_S:
            return f"a joint state was refused just now: {self.refusal}"
        if self.position is None or not self.is_fresh(now):
            return "no fresh joint state: the robot's position is not known"
        if self.at - self._since < STILL_S:
            return f"joint states are heard since {max(self.at - self._since, 0.0):.2f} s only"
        return self._why_not_ready()

    def _why_not_ready(self) -> str:
        assert self.position is not None
        limits, n = self._limits, self._joints
        outside = np.maximum(limits.lower - self.position, self.position - limits.upper)[:n]
        worst = int(outside.argmax())
        if outside[worst] > AT_LIMIT:
            return f"{self._told(worst, self.position)}; move it inside first"
        moved = np.ptp([place for _, place in self._path], axis=0)
        if moved.max() > STILL:
            return f"by its joint states the robot moves: {self.names[int(moved.argmax())]}"
        return ""

    def _why_not(self, position: NDArray[np.floating], now: float, age: float) -> str:
        """Why a state is impossible; empty if it is possible."""
        if position.shape != (len(self.names),) or not np.isfinite(position).all():
            return "not finite, or of another size"
        if not -self._config.future_tolerance_s <= age < np.inf:
            return f"stamped {-age:.3f} s ahead; do the machines' clocks agree?"
        outside = np.maximum(self._lowest - position, position - self._highest)
        worst = int(outside.argmax())
        if outside[worst] > 0:
            return self._told(worst, position)
        if self.position is None:
            return ""
        reach = SLACK + self._config.max_state_speed * max(now - max(age, 0.0) - self.at, 0.0)
        moved = np.abs(position - self.position)[: self._joints]
        fastest = int(moved.argmax())
        if moved[fastest] > reach:
            return f"{self.names[fastest]} leaps by {moved[fastest]:.3g} rad; are there two publishers?"
        return ""

    def _told(self, dimension: int, position: NDArray[np.floating]) -> str:
        lower, upper, value = self._limits.lower[dimension], self._limits.upper[dimension], float(position[dimension])
        if dimension >= self._joints:
            return f"{self.names[dimension]} is {value:.3g} open, far outside [0, 1]"
        degrees = lower - 0.2 <= np.radians(value) <= upper + 0.2 and abs(value) > 2 * max(-lower, upper, 1.0)
        hint = " (in degrees?)" if degrees else ""
        return f"{self.names[dimension]} is at {value:.3g} rad{hint}, outside [{lower:.3g}, {upper:.3g}]"
