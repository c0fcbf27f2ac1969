"""Random joint states, chunks, calls and times, right and wrong, in every state of the gate; see also ros2.py's flood.

100,000 joint states a run, of which one in ten is wrong. What hypothesis finds with few steps it makes smaller.
"""

from typing import Any

import numpy as np
import pytest
from gate_rig import DT, LIMITS, A, J, Rig, check_limits
from hypothesis import given, settings
from hypothesis import strategies as st

from emu_robot.control.safety import Command, GateState
from emu_robot.errors import InvalidValueError

PERIODS, SHARES = (DT, 0.019, 0.021, 0.005, 0.001, 0.04, 0.3), (0.8, 0.05, 0.05, 0.04, 0.04, 0.018, 0.002)
"""Between steps [s], and how often each comes."""
STOPPED = (GateState.FAULT, GateState.ESTOP)


class Storm:
    """Drives a rig at random, one step at a time, and checks every command against all that came before it.

    The robot lags behind its commands as an arm does, or is pushed, or stands.
    """

    def __init__(self, seed: int, *, wrong: float = 0.1) -> None:
        self.rng, self.wrong = np.random.default_rng(seed), wrong
        self.rig = Rig(max_rejections=50, max_bad_states=int(self.rng.choice([3, 10, 1000])))
        self.rig.follows = False
        self.true = np.zeros(A)
        self.states = self.lies = 0
        self.armed = 0
        self.seen: dict[GateState, int] = dict.fromkeys(GateState, 0)
        self.run: list[Command] = []
        self.sent: list[float] = []
        self.gaps = 0

    def step(self) -> None:
        """A joint state, then maybe something else, then a tick."""
        rng, rig = self.rng, self.rig
        rig.now += float(rng.choice(PERIODS, p=SHARES))
        self._sense()
        if rng.random() < 0.97:
            rig.gate.on_heartbeat(1, rig.now)
        self._act()
        self._tick()

    def _sense(self) -> None:
        rng, gate = self.rng, self.rig.gate
        self.states += 1
        told, age = self.true + rng.normal(0, 1e-3, A), 0.0
        calm = self.states // 70 % 3 == 2  # long enough to be armed
        if rng.random() < 1.5 * self.wrong and not calm:
            self.lies += 1
            told, age = self._wrong_state(told)
        gate.on_state(told, self.rig.now, age)

    def _wrong_state(self, told: np.ndarray) -> tuple[np.ndarray, float]:
        rng = self.rng
        kind, k = rng.integers(9), rng.integers(A)
        if kind == 0:
            return np.zeros(A), 0.0
        if kind == 1:
            return np.degrees(told), 0.0
        if kind == 2:
            return told[:-1], 0.0
        if kind == 3:
            return told, float(rng.choice([-1.0, 0.4, np.nan, np.inf, -np.inf, 1e9]))
        if kind == 4:
            return rng.uniform(LIMITS.lower, LIMITS.upper), 0.0
        told[k] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 50.0, 1e-320, 1.09, -1.09])
        return told, 0.0

    def _act(self) -> None:
        rng, rig = self.rng, self.rig
        roll, gate = rng.random(), rig.gate
        try:
            if roll < 0.25:
                rig.gate.offer(rig.chunk(float(rng.uniform(-1, 1)), **self._changes()), rig.now)
            elif roll < 0.255:
                gate.estop("x")
            elif roll < 0.26:
                gate.fault("x")
            elif roll < 0.262:
                gate.disarm(rig.now)
            elif roll < 0.265:
                gate.on_idle(1, rig.now)
            elif roll < 0.27:
                gate.on_deadman(bool(rng.integers(2)), rig.now)
            elif roll < 0.271:
                self.true = np.clip(self.true + rng.normal(0, 0.5, A), LIMITS.lower, LIMITS.upper)
            elif roll < 0.31 and gate.state in STOPPED:
                gate.reset(rig.now)
                self.run, self.sent = [], []
            elif roll < 0.5 and gate.state is GateState.DISARMED:
                gate.arm(rig.now)
                self.armed += 1
                self.run, self.sent = [], []
        except InvalidValueError:
            pass

    def _changes(self) -> dict[str, Any]:
        rng = self.rng
        if rng.random() > 0.15:
            begin = self.run[-1].position if self.run else self.true
            return {"actions": begin + np.cumsum(rng.normal(0, rng.choice([0.01, 0.05, 0.1]), (20, A)), axis=0)}
        spoiled = rng.normal(0, 10.0 ** rng.integers(-2, 300), (rng.integers(0, 9), rng.integers(1, 5)))
        options: list[dict[str, Any]] = [
            {"actions": spoiled},
            {"actions": np.where(rng.random((4, A)) < 0.1, np.nan, 0.0)},
            {"dt": float(rng.choice([np.nan, 0, -1, 1e300, 0.001]))},
            {"captured": self.rig.now + float(rng.choice([1, -1, np.nan, 0.01, -0.4]))},
            {"source": str(rng.choice(["teleop", "hacker", ""]))},
            {"session": int(rng.integers(5))},
        ]
        return options[rng.integers(len(options))]

    def _tick(self) -> None:
        rig, before = self.rig, self.rig.gate.state
        command = rig.gate.tick(rig.now)
        self.seen[rig.gate.state] += 1
        if command is None:
            self.run, self.sent = [], []
            return
        if self.gaps != rig.gate.counts["gap"]:  # from rest where the robot is
            assert not command.velocity.any()
            self.gaps, self.run, self.sent = rig.gate.counts["gap"], [], []
        self.run, self.sent = [*self.run[-1:], command], [*self.sent[-1:], rig.now]
        check_limits(self.run, self.sent)
        self._check_stop(command, before)
        self.true = self.true + np.clip(command.position - self.true, -0.06, 0.06) * 0.6

    def _check_stop(self, command: Command, before: GateState) -> None:
        """Away from TRACKING, a command only goes on the way it went, slower each time."""
        if command.state is GateState.TRACKING or len(self.run) < 2:
            return
        last = self.run[-2]
        step = command.position - last.position
        assert (step * last.velocity >= 0).all(), "it turned back"
        assert (np.abs(command.velocity) <= np.abs(last.velocity)).all(), "it grew faster"
        assert (np.abs(step) <= np.abs(last.velocity) * DT + 1e-9).all(), "it moved by itself"


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_wrong_messages_moves_nothing_that_must_not_move(seed: int):
    total = lies = 0
    seen: dict[GateState, int] = dict.fromkeys(GateState, 0)
    taken = armed = 0
    for run in range(5):
        storm = Storm(1000 * seed + run)
        while storm.states < 5000:
            storm.step()
        total, lies = total + storm.states, lies + storm.lies
        taken += storm.rig.gate.counts["chunk taken"]
        armed += storm.armed
        for state, n in storm.seen.items():
            seen[state] += n
    assert total == 25_000 and lies > total / 11
    assert armed > 40 and taken > 1000, (armed, taken)
    assert all(n > 100 for n in seen.values()), seen


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), wrong=st.floats(0, 0.5), steps=st.integers(1, 400))
def test_any_storm(seed: int, wrong: float, steps: int):
    storm = Storm(seed, wrong=wrong)
    for _ in range(steps):
        storm.step()


positions = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=0, max_size=5)


@settings(max_examples=300, deadline=None)
@given(told=st.lists(positions, max_size=20), ages=st.lists(st.floats(), min_size=20, max_size=20))
def test_no_joint_states_move_an_arm_that_holds(told: list[list[float]], ages: list[float]):
    rig = Rig().armed(0.3)
    rig.follows = False
    place = rig.commands[-1].position
    for position, age in zip(told, ages, strict=False):
        rig.now += DT
        rig.gate.on_state(np.array(position), rig.now, age)
        rig.tick()
    assert all((command.position == place).all() and not command.velocity.any() for command in rig.commands)
    assert rig.gate.measured.position is not None
    assert (rig.gate.measured.position[:J] <= LIMITS.upper[:J] + 0.1).all()
