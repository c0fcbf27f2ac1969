"""Compares the clock of the stamps with the steady clock."""

SLEW = 0.1
"""How fast a system clock may be slewed [s/s]: chrony's default limit is 0.083."""
FIRST_STEP_S = 1.0
"""Longest step of a simulated clock that is believed while its usual step is unknown [s]."""
STEPS_AT_ONCE = 3
"""Steps of a simulated clock that a busy node may miss without calling it a jump."""


class ClockWatch:
    """Tells a jump from slewing, and from the steps of a simulated clock, which moves only when /clock is published."""

    def __init__(self, tolerance: float, *, simulated: bool) -> None:
        """tolerance: largest difference that is no jump [s]. simulated: whether the clock is /clock."""
        self._tolerance, self._simulated = tolerance, simulated
        self._offset = 0.0
        self._before: tuple[float, float] | None = None

    def look(self, stamped: float, steady: float, step: float = 0.0) -> float:
        """The jump of the clock since the last look [s]; 0 if there was none.

        stamped, steady: both clocks [s]. step: usual step of a simulated clock [s], 0 while it is unknown.
        """
        before, self._before = self._before, (stamped, steady)
        if before is None:
            self._offset = stamped - steady
            return 0.0
        if self._simulated:
            went, usual = stamped - before[0], STEPS_AT_ONCE * step if step else FIRST_STEP_S
            return went if went < 0 or went > usual + self._tolerance else 0.0
        return self._drift(stamped - steady, SLEW * max(steady - before[1], 0.0))

    def _drift(self, offset: float, slewed: float) -> float:
        """slewed: largest drift that slewing explains since the last look [s]."""
        drift = offset - self._offset
        if abs(drift) > self._tolerance:
            self._offset = offset
            return drift
        self._offset += min(max(drift, -slewed), slewed)
        return 0.0


def certain_age(age: float, step: float) -> float:
    """The age that is certain on a clock that moves in steps [s]: up to one step nearer to 0."""
    return age - min(max(age, -step), step)
