"""The clock that stamps are of, watched against the steady one."""

from collections import deque
from statistics import median

SLEW = 0.1
"""Share of its speed by which a system clock may be slewed: chrony's default limit is 0.083."""
KEPT_STEPS = 20
"""Steps of a simulated clock from which its usual step is taken."""
FIRST_STEP_S = 1.0
"""Longest step of a simulated clock that is believed before its usual one is known [s]."""
STEPS_AT_ONCE = 3
"""Steps of a simulated clock that a busy node may miss without calling it a jump."""


class ClockWatch:
    """Tells a jump from slewing, and from the steps of a simulated clock, which moves only when /clock is published.

    tolerance: jump that is none yet [s]. simulated: whether the clock is /clock.
    step: how coarse the clock is [s]; a stamp may be wrong by so much. 0 for the system clock.
    """

    def __init__(self, tolerance: float, *, simulated: bool) -> None:
        self._tolerance, self._simulated = tolerance, simulated
        self._steps: deque[float] = deque(maxlen=KEPT_STEPS)
        self._offset: float | None = None
        self._before: tuple[float, float] | None = None
        self.step = 0.0

    def look(self, stamped: float, steady: float) -> float:
        """By how much the clock has jumped since the last look [s]; 0 if it has not. stamped, steady: both [s]."""
        before, self._before = self._before, (stamped, steady)
        if before is None:
            self._offset = stamped - steady
            return 0.0
        return self._look_simulated(stamped - before[0]) if self._simulated else self._look_system(before[1])

    def uncertain(self, age: float) -> float:
        """An age by this clock [s], towards 0 by what the clock's steps leave open."""
        return age - min(max(age, -self.step), self.step)

    def _look_system(self, looked: float) -> float:
        assert self._before is not None and self._offset is not None
        stamped, steady = self._before
        drift = stamped - steady - self._offset
        if abs(drift) > self._tolerance:
            self._offset += drift
            return drift
        slewed = SLEW * max(steady - looked, 0.0)
        self._offset += min(max(drift, -slewed), slewed)
        return 0.0

    def _look_simulated(self, step: float) -> float:
        if step == 0:
            return 0.0
        usual = STEPS_AT_ONCE * self.step if len(self._steps) >= 3 else FIRST_STEP_S
        if step < 0 or step > usual + self._tolerance:
            self._steps.clear()
            self.step = 0.0
            return step
        self._steps.append(step)
        self.step = median(self._steps)
        return 0.0
