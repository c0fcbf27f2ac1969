"""A safety gate on a clock that the test moves, and a robot that goes where it is told."""

from dataclasses import replace
from typing import Any

import numpy as np

from emu_robot.control.safety import ChunkMessage, Command, EstopLatch, Rejection, SafetyConfig, SafetyGate
from emu_robot.robots.limits import MotionLimits

A, J, DT = 3, 2, 0.02
"""Dimensions, of which the first J are joints; the last one is a gripper. DT: between commands [s]."""
NAMES = ("j1", "j2", "grip")
LIMITS = MotionLimits(
    lower=np.array([-1.0, -1.0, 0.0]),
    upper=np.array([1.0, 1.0, 1.0]),
    velocity=np.array([2.0, 2.0, 4.0]),
    acceleration=np.array([10.0, 10.0, 40.0]),
)
TINY = 1e-9


class Rig:
    """A gate, a clock, and a robot that is where it was last told to be.

    follows: whether the robot obeys; alive: whether the policy beats; sensed: whether joint states come.
    commands: all of them, sent: when each was [s].
    """

    def __init__(self, latch: EstopLatch | None = None, **settings: Any) -> None:
        config = SafetyConfig(**settings)
        self.gate = SafetyGate(config=config, limits=LIMITS, joints=J, names=NAMES, latch=latch)
        self.now, self.position, self.sequence = 100.0, np.zeros(A), 0
        self.follows = self.alive = self.sensed = True
        self.commands: list[Command] = []
        self.sent: list[float] = []

    def armed(self, at: float | None = None) -> "Rig":
        """at: where the first joint is [rad]."""
        if at is not None:
            self.position = np.array([at, 0.0, 0.0])
        self.watch()
        self.gate.arm(self.now)
        self.run(DT)
        return self

    def watch(self) -> None:
        """Joint states for so long that they are believed."""
        for _ in range(13):
            self.now += DT
            self.gate.on_state(self.position, self.now)

    def chunk(self, goal: float = 0.2, **changes: Any) -> ChunkMessage:
        """On from the last command, over 20 actions, straight to `goal` in the first dimension."""
        self.sequence += 1
        begin = self.commands[-1].position if self.commands else self.position
        actions = np.repeat(begin[None], 20, axis=0)
        actions[:, 0] = np.linspace(begin[0], goal, 20)
        message = ChunkMessage(session=1, sequence=self.sequence, captured=self.now, dt=0.05, actions=actions)
        return replace(message, **changes)

    def offer(self, goal: float = 0.2, **changes: Any) -> Rejection | None:
        return self.gate.offer(self.chunk(goal, **changes), self.now)

    def moving(self, goal: float = 0.9, seconds: float = 0.4) -> "Rig":
        """On the way to `goal`, for so long."""
        assert self.offer(goal) is None
        self.run(seconds)
        return self

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / DT)):
            self.now += DT
            if self.sensed:
                self.gate.on_state(self.position, self.now)
            if self.alive:
                self.gate.on_heartbeat(1, self.now)
            self.tick()

    def tick(self) -> None:
        command = self.gate.tick(self.now)
        if command is not None:
            self.commands.append(command)
            self.sent.append(self.now)
            if self.follows:
                self.position = command.position

    def path(self, since: int = 0) -> np.ndarray:
        """(T,) of the first joint, from that command on [rad]."""
        return np.array([command.position[0] for command in self.commands[since:]])


def braking_distance(speed: np.ndarray) -> np.ndarray:
    """The farthest that dimensions go on from these speeds: at most one tick, then braking."""
    return np.abs(speed) * DT + speed**2 / (2 * LIMITS.acceleration)


def check_limits(commands: list[Command], sent: list[float]) -> None:
    """Position, velocity and acceleration of commands given in one go, by what they say and by when they were sent."""
    for k, command in enumerate(commands):
        position, velocity = command.position, command.velocity
        assert np.isfinite(position).all() and np.isfinite(velocity).all()
        assert (position >= LIMITS.lower).all() and (position <= LIMITS.upper).all()
        assert (np.abs(velocity) <= LIMITS.velocity + TINY).all()
        if k == 0:
            continue
        before, elapsed = commands[k - 1], sent[k] - sent[k - 1]
        went = np.abs(position - before.position)
        assert (went <= LIMITS.velocity * elapsed + TINY).all(), "velocity by publication time"
        assert (went <= np.abs(velocity) * DT + TINY).all(), "velocity by what the command says"
        change = np.abs(velocity - before.velocity)
        assert (change <= LIMITS.acceleration * min(elapsed, DT) + TINY).all(), "acceleration, by both"
