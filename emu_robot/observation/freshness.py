"""Whether the messages of one topic are recent, by their stamps and by their arrival."""

from typing import NamedTuple

from emu_robot.observation.config import ObservationConfig


class Moment(NamedTuple):
    """The present time on two clocks."""

    stamped: float
    """Time on the clock of the stamps, which may be set or simulated [s]."""
    steady: float
    """Time on the steady clock [s]."""
    step: float = 0.0
    """Step of the clock of the stamps [s]: time between two messages of a simulated clock, 0 for a system clock."""


class _Taken(NamedTuple):
    """The last message taken."""

    stamp: float
    """Its stamp [s]."""
    captured: float
    """Its stamp, but not later than its arrival [s]."""
    arrival: float
    """Its arrival on the steady clock [s]."""


class Freshness:
    """Judges the messages of one topic. A refused message counts as missing, but gives the reason in `problem`.

    Stamps must lie between `max_age_s` before now and a small tolerance after now, plus one step of a coarse clock.
    Stamps must rise: one that stands still or goes back shows an old message, or two senders on one topic. After the
    clock of the stamps was set back, earlier messages are forgotten.
    """

    def __init__(self, what: str, config: ObservationConfig) -> None:
        """what: name of a message, for instance "picture of camera front"."""
        self._what, self._config = what, config
        self._taken: _Taken | None = None
        self._heard, self._looked, self._refusal = float("-inf"), float("-inf"), ""

    @property
    def captured(self) -> float:
        """Stamp of the last message taken [s], never later than its arrival. There must be one."""
        assert self._taken is not None
        return self._taken.captured

    def objection(self, stamp: float, now: Moment) -> str:
        """Why a message with this stamp must not be used, for instance "is not stamped"; empty if it may."""
        self._look_at_clock(now)
        ahead, most = stamp - now.stamped, self._config.max_age_s
        if stamp <= 0:
            return "is not stamped"
        if ahead > self._tolerance(now):
            return f"is stamped {ahead:.2f} s ahead"
        if self._taken is not None and stamp == self._taken.stamp:
            return "has a stamp that stands still"
        if -ahead > most:
            return f"is {-ahead:.2f} s old when it comes"
        return "is stamped before one that came already" if self._taken and stamp < self._taken.stamp else ""

    def take(self, stamp: float, now: Moment) -> None:
        """Take the message as the last one."""
        self._taken, self._heard = _Taken(stamp, min(stamp, now.stamped), now.steady), now.steady
        self._refusal = ""

    def refuse(self, reason: str, now: Moment) -> None:
        """Refuse the message. reason: from `objection`, or in such words."""
        self._heard, self._refusal = now.steady, reason

    def problem(self, now: Moment) -> str:
        """Why the last message taken cannot be acted on now; empty if it can."""
        self._look_at_clock(now)
        most, silence = self._config.max_age_s, now.steady - self._heard
        if self._taken is not None:
            age = max(now.stamped - self._taken.captured, now.steady - self._taken.arrival)
            if age <= most:
                return ""
            if silence > most:
                return f"no {self._what} came for {silence:.2f} s"
            return f"the {self._what} {self._refusal or f'is {age:.2f} s old'}"
        return f"the {self._what} {self._refusal}" if self._refusal else f"no {self._what} yet"

    def _tolerance(self, now: Moment) -> float:
        """How far apart clocks may be [s]. A clock with steps longer than `max_age_s` shows no age."""
        return self._config.future_tolerance_s + min(now.step, self._config.max_age_s)

    def _look_at_clock(self, now: Moment) -> None:
        if now.stamped < self._looked - self._tolerance(now):
            self._taken, self._refusal = None, ""
        self._looked = now.stamped
