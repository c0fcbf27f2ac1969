"""Smoothness of the simulated arm at borders of action chunks, for several ways to play them.

python benchmarks/smoothness.py [--episodes 10] [--paths 10]        two Markdown tables, equal at every run

Physics, gate and policy run in one process in simulated time, without middleware. A chunk is requested every 0.4 s and
arrives 0.1 s later, as after inference and transport. The gate commands at 50 Hz, and each command is reached within
20 ms, as in sim_bridge. Raw actions come at 20 Hz, as in the training of policies.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from emu_robot.control.safety import ChunkMessage, SafetyConfig, SafetyGate
from emu_robot.core import Floats
from emu_robot.errors import InvalidValueError
from emu_robot.policy.config import PolicyConfig
from emu_robot.policy.emu_policy import EmuPolicy, load_policy
from emu_robot.robots.deployment import read_deployment
from emu_robot.robots.spec import PANDA
from emu_sim.environment import TabletopEnvironment
from emu_sim.world import SUBSTEP_S

DT, CHUNK_PERIOD_S, DELAY_S = 1 / PANDA.control_hz, 0.4, 0.1
HORIZON = 16
"""Actions of a scripted chunk, as many as the released head predicts."""
TICK_S = 0.02
"""Time between two commands of the gate, and between two measurements [s]."""
SUBSTEPS = round(TICK_S / SUBSTEP_S)
BORDER_S = 0.15
"""Length of a border from a chunk's arrival on: blending and one action [s]."""
SETTLE_S = 0.3
"""Time before the first chunk, in which the arm rests and its joint states arrive [s]."""
FIRST_SEED = 10_000_000
DISAGREEMENT = 0.04
"""Difference between two neighbouring scripted chunks in every joint [rad]."""
PATH_S = 8.0
"""Length of a scripted motion [s]."""

type Chunks = Callable[[float], Floats]
"""Time since the beginning [s] -> the chunk (T, 8) for an observation at that time."""


class Player(Protocol):
    """Turns chunks into the servos' targets."""

    def take(self, actions: Floats, captured: float, now: float) -> None:
        """Take a chunk (T, 8) with its first action for the time `captured` [s]."""
        ...

    def tick(self, state: Floats, now: float) -> Floats:
        """Targets (SUBSTEPS, 8) of the physics steps until the next tick, from the measured state (8,)."""
        ...


class Raw:
    """Plays the newest chunk's raw actions, each for DT. gradual: move linearly within DT, else jump."""

    def __init__(self, state: Floats, *, gradual: bool) -> None:
        self._gradual, self._captured, self._actions = gradual, 0.0, state[None]
        self._origin = self._goal = state
        self._turn = -1

    def take(self, actions: Floats, captured: float, now: float) -> None:
        self._actions, self._captured = actions, captured

    def tick(self, state: Floats, now: float) -> Floats:
        return np.stack([self._target(now + i * SUBSTEP_S) for i in range(SUBSTEPS)])

    def _target(self, now: float) -> Floats:
        turn = int(now / DT + 1e-6)
        if turn != self._turn:
            index = round(turn - self._captured / DT)
            self._origin, self._turn = self._goal, turn
            self._goal = self._actions[min(max(index, 0), len(self._actions) - 1)]
        share = (now - turn * DT + SUBSTEP_S) / DT if self._gradual else 1.0
        return self._origin + share * (self._goal - self._origin)


class Gated:
    """Plays chunks through the safety gate. Each command is reached within a tick."""

    def __init__(self, state: Floats, *, blend_s: float) -> None:
        robot = read_deployment("panda_sim")
        config = SafetyConfig(blend_s=blend_s, control_hz=1 / TICK_S)
        self._gate = SafetyGate(config=config, limits=robot.limits, joints=len(robot.joints.names))
        self._origin, self._sequence = state, 0

    def take(self, actions: Floats, captured: float, now: float) -> None:
        self._sequence += 1
        why = self._gate.offer(
            ChunkMessage(session=1, sequence=self._sequence, captured=captured, dt=DT, actions=actions), now
        )
        if why is not None:
            raise InvalidValueError(f"the gate refused a chunk: {why.value}")

    def tick(self, state: Floats, now: float) -> Floats:
        self._gate.on_state(state, now)
        self._gate.on_heartbeat(1, now)
        if not self._sequence and not self._gate.state.is_armed and now > SETTLE_S - 2 * TICK_S:
            self._gate.arm(now)
        command = self._gate.tick(now)
        goal = self._origin if command is None else command.position
        targets = self._origin + np.linspace(0, 1, SUBSTEPS + 1)[1:, None] * (goal - self._origin)
        self._origin = goal
        return targets


PLAYERS: dict[str, Callable[[Floats], Player]] = {
    "gate, blended over 0.1 s (default)": lambda state: Gated(state, blend_s=0.1),
    "gate, not blended": lambda state: Gated(state, blend_s=0.0),
    "raw actions, straight to each within 50 ms": lambda state: Raw(state, gradual=True),
    "raw actions, each held for 50 ms": lambda state: Raw(state, gradual=False),
}


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The joints of one episode at every tick from the second chunk on, because the first one has no border."""

    targets: Floats
    """(N, 7) joint targets [rad]."""
    positions: Floats
    """(N, 7) joint positions [rad]."""
    times: Floats
    """(N,) times of the positions after the first observation [s]."""
    border: NDArray[np.int_]
    """(N,) number of the chunk that has just replaced another, from 1; 0 elsewhere."""
    success: bool
    """Whether the task succeeded."""

    @property
    def steps(self) -> Floats:
        """(N - 1,) largest change of a joint's target within a tick [mrad]."""
        return 1000 * np.abs(np.diff(self.targets, axis=0)).max(axis=1)

    @property
    def border_steps(self) -> list[float]:
        """The largest step at each border [mrad]."""
        steps, border = self.steps, self.border[1:]
        return [float(steps[border == i].max()) for i in np.unique(border[border > 0])]


def play(environment: TabletopEnvironment, chunks: Chunks, player: Player, seconds: float) -> Motion:
    """Play from a reset environment until the task is done or the time is over."""
    world, targets, positions, arrivals = environment.world, list[Floats](), list[Floats](), list[float]()
    on_way: tuple[Floats, float] | None = None
    for i in range(round((SETTLE_S + seconds) / TICK_S)):
        now = i * TICK_S
        since = now - SETTLE_S
        if since > -1e-9 and round(since / TICK_S) % round(CHUNK_PERIOD_S / TICK_S) == 0:
            on_way = chunks(since), now
        if on_way is not None and now - on_way[1] > DELAY_S - 1e-9:
            player.take(*on_way, now)
            arrivals, on_way = [*arrivals, now], None
        state = world.state.astype(np.float64)
        targets.append(_advance(environment, player.tick(state, now)))
        positions.append(world.joints)
        if environment.success:
            break
    ticks, first = np.asarray(TICK_S * np.arange(len(targets)), np.float64), round(arrivals[1] / TICK_S) - 1
    border = np.zeros(len(targets), int)
    for i, at in enumerate(arrivals[1:], start=1):
        border[(ticks >= at - 1e-9) & (ticks < at + BORDER_S)] = i
    return Motion(
        targets=np.stack(targets)[first:, :-1],
        positions=np.stack(positions)[first:],
        times=np.asarray(ticks[first:] + TICK_S - SETTLE_S, np.float64),
        border=border[first:],
        success=environment.success,
    )


def _advance(environment: TabletopEnvironment, targets: Floats) -> Floats:
    """Run the physics through the targets (SUBSTEPS, 8). Returns the last one."""
    for target in targets:
        environment.advance(target, 1)
    return targets[-1]


def scripted(seed: int) -> tuple[Chunks, Callable[[Floats], Floats]]:
    """A policy with another error off its path in every chunk; and the path: (N,) times [s] -> (N, 7) [rad].

    Each chunk is off the path by half of DISAGREEMENT in every joint, with alternating sign.
    """
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.15, 0.35, 7), rng.uniform(0, 2 * np.pi, 7)
    side = rng.choice([-1.0, 1.0], 7)

    def way(times: Floats) -> Floats:
        angle = 2 * np.pi * frequency * times[:, None]
        return np.array(PANDA.home) + 0.15 * (np.sin(angle + phase) - np.sin(phase))

    def chunk(now: float) -> Floats:
        error = side * (DISAGREEMENT / 2 if round(now / CHUNK_PERIOD_S) % 2 else -DISAGREEMENT / 2)
        joints = way(np.asarray(now + DT * np.arange(0.5, HORIZON), np.float64)) + error
        return np.column_stack([joints, np.ones(HORIZON)])

    return chunk, way


def released(policy: EmuPolicy, environment: TabletopEnvironment) -> Chunks:
    """The released policy on this environment."""
    policy.reset(environment.instruction)
    return lambda now: policy.act(environment.observe()).actions.astype(np.float64)


def jerk(positions: Floats) -> Floats:
    """Jerk (N - 3, 7) [rad/s^3] of positions (N, 7), by differences over ticks."""
    return np.diff(positions, n=3, axis=0) / TICK_S**3


def row(name: str, motions: list[Motion], last: str) -> str:
    border = [step for motion in motions for step in motion.border_steps]
    within = np.concatenate([motion.steps[motion.border[1:] == 0] for motion in motions])
    asked = np.concatenate([jerk(motion.targets) for motion in motions])
    moved = np.concatenate([jerk(motion.positions) for motion in motions])
    behind = np.concatenate([motion.positions - motion.targets for motion in motions])
    steps = [f"{np.median(border):.1f}, {max(border):.1f}", f"{np.median(within):.1f}, {within.max():.1f}"]
    figures = [*steps, _sizes(asked), _sizes(moved), _sizes(1000 * behind), last]
    return f"| {name} | {' | '.join(figures)} |"


def _sizes(values: Floats) -> str:
    return f"{_rms(values):.0f}, {np.abs(values).max():.0f}"


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))


def table(title: str, last: str, rows: list[str]) -> None:
    heads = ["largest step in 20 ms at a border, median and max [mrad]", "step elsewhere, median and max"]
    heads += ["jerk of targets, rms and max [rad/s^3]"]
    heads += ["jerk of the arm", "arm behind its targets, rms and max [mrad]", last]
    print(f"\n{title}\n\n| {' | '.join(['chunks are played by', *heads])} |\n|{'---|' * (len(heads) + 1)}")
    print("\n".join(rows), flush=True)


def measure_paths(environment: TabletopEnvironment, n: int) -> None:
    rows = []
    for name, make in PLAYERS.items():
        motions, off = [], []
        for seed in range(FIRST_SEED, FIRST_SEED + n):
            environment.reset(seed, observe=False)
            chunks, way = scripted(seed)
            motions.append(play(environment, chunks, make(environment.world.state.astype(np.float64)), PATH_S))
            off.append(motions[-1].positions - way(motions[-1].times))
        rows.append(row(name, motions, f"{1000 * _rms(np.concatenate(off)):.1f}"))
    title = f"Scripted chunks, neighbours {DISAGREEMENT} rad apart in each joint: n = {n} paths of {PATH_S:g} s"
    table(f"{title}, seeds {FIRST_SEED} on.", "arm off the way, rms [mrad]", rows)


def measure_policy(environment: TabletopEnvironment, n: int) -> None:
    policy = load_policy("mini", config=PolicyConfig(whole_chunks=True, n_action_steps=round(CHUNK_PERIOD_S / DT)))
    rows = []
    for name, make in PLAYERS.items():
        motions = []
        for seed in range(FIRST_SEED, FIRST_SEED + n):
            environment.reset(seed, observe=False)
            player = make(environment.world.state.astype(np.float64))
            motions.append(play(environment, released(policy, environment), player, environment.max_steps * DT))
        rows.append(row(name, motions, f"{sum(motion.success for motion in motions)} of {n}"))
    table(f"The policy `mini`, single tasks: n = {n} episodes, seeds {FIRST_SEED} on.", "tasks done", rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=10, help="of the released policy")
    parser.add_argument("--paths", type=int, default=10, help="scripted ones")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    environment = TabletopEnvironment()
    if arguments.paths > 0:
        measure_paths(environment, arguments.paths)
    if arguments.episodes > 0:
        measure_policy(environment, arguments.episodes)
    environment.close()


if __name__ == "__main__":
    main()
