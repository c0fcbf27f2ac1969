import numpy as np
import pytest

from emu_robot.control.safety import ClockWatch, certain_age


def simulated(period: float, rate: float = 1.0, *, known: bool = True) -> ClockWatch:
    """Looked at every 10 ms for 10 s, of a clock that is published every `period` seconds and runs at `rate`."""
    watch = ClockWatch(0.05, simulated=True)
    for steady in np.arange(0, 10, 0.01).tolist():
        step = period if known and steady > 1 else 0.0
        assert watch.look(period * int(rate * steady / period + 1e-9), steady, step) == 0
    return watch


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("period", [0.002, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("rate", [0.2, 1.0, 3.0])
def test_a_simulated_clock_of_any_rate_does_not_jump_by_moving(period: float, rate: float, known: bool):
    simulated(period, rate, known=known)


def test_an_age_by_a_clock_of_steps_is_certain_up_to_a_step():
    assert certain_age(0.09, 0.1) == 0 == certain_age(-0.09, 0.1)
    assert certain_age(1.1, 0.1) == pytest.approx(1.0) == -certain_age(-1.1, 0.1)
    assert certain_age(0.3, 0.0) == 0.3


def test_a_simulated_clock_at_10_hz_that_is_set_has_jumped():
    for jump in (-1.0, -0.2, 0.6, 100.0):
        assert simulated(0.1).look(9.9 + 0.1 + jump, 10.0, 0.1) == pytest.approx(jump + 0.1)


@pytest.mark.parametrize("jump", [0.06, -0.06, 3600.0, -1e9])
def test_a_system_clock_that_is_set_has_jumped_once(jump: float):
    watch = ClockWatch(0.05, simulated=False)
    for steady in np.arange(0, 1, 0.02).tolist():
        assert watch.look(1.7e9 + steady, steady) == 0
    assert watch.look(1.7e9 + 1.0 + jump, 1.0) == pytest.approx(jump, abs=1e-3)
    assert watch.look(1.7e9 + 1.02 + jump, 1.02) == 0


def test_slewing_is_no_jump_and_creeping_is():
    for slew, jumps in ((0.08, False), (-0.08, False), (-0.4, True), (0.5, True)):
        watch = ClockWatch(0.05, simulated=False)
        seen = [watch.look(1.7e9 + (1 + slew) * steady, steady) for steady in np.arange(0, 5, 0.02).tolist()]
        assert any(seen) is jumps, slew
