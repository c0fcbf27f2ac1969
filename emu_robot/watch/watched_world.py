"""A simulated world whose arm is commanded by the safety gate, on the clock of the simulation."""

from collections.abc import Callable

import numpy as np

from emu_robot.control.episode_loop import Subscriber
from emu_robot.control.safety import ChunkMessage, SafetyConfig, SafetyGate
from emu_robot.core import ActionChunk, Floats32, Observation, Transition
from emu_robot.environments.capabilities import step_world, with_images
from emu_robot.environments.contract import Environment, EnvironmentSpec
from emu_robot.errors import ConfigError
from emu_robot.robots.deployment import Deployment
from emu_robot.robots.spec import ActionKind

SESSION = 1
"""Session of the policy, the gate's only sender."""
KNOWN_S = 1.0
"""Time for which the gate is told where the arm rests, before an episode [s]."""


def require_gate(robot: Deployment, spec: EnvironmentSpec) -> None:
    """Raise `ConfigError` unless the robot's gate understands the actions of these worlds."""
    layout, remedy = spec.layout, "robot= plays without a gate"
    try:
        robot.require_actions(layout.action_names, layout.n_grippers)
    except ConfigError as error:
        raise ConfigError(f"{error}; {remedy}") from error
    same = len(layout.state_names) == len(layout.action_names)
    if layout.action_kind is not ActionKind.TARGET or not same or layout.gripper_open != 1.0:
        raise ConfigError(f"the gate needs targets of joints and an opening in [0, 1], others are given; {remedy}")


class WatchedWorld(Subscriber):
    """A `RendersOnDemand` that shows pictures steadily, and whose arm gets the gate's commands in place of the actions.

    Let it subscribe to its own episodes, before others. gate: that of the present episode; None without one.
    commanded: (A,) what the arm was told at the last tick.
    """

    def __init__(
        self, world: Environment, robot: Deployment | None, *, every: int, on_gate: Callable[[SafetyGate], None]
    ) -> None:
        """robot: whose limits the gate keeps; None: there is no gate. every: ticks between two pictures; 0: only those
        that are asked for. on_gate: is called after every tick of the gate.

        Raises `ConfigError` for a robot with other actions.
        """
        if robot is not None:
            require_gate(robot, world.spec)
        self._world, self._robot, self._every, self._on_gate = world, robot, every, on_gate
        self._period = 1.0 / world.spec.control_hz
        self._sequence = self._tick = 0
        self.gate: SafetyGate | None = None
        self.commanded = np.zeros(0, np.float32)

    @property
    def spec(self) -> EnvironmentSpec:
        return self._world.spec

    @property
    def task_name(self) -> str:
        return self._world.task_name

    @property
    def instruction(self) -> str:
        return self._world.instruction

    @property
    def max_steps(self) -> int:
        return self._world.max_steps

    @property
    def _now(self) -> float:
        """Time of the gate [s]; the first action belongs to one tick after it was armed."""
        return (self._tick + 1) * self._period

    def reset(self, seed: int, *, observe: bool = True) -> Observation:
        """Begin an episode, with a gate of its own that is armed where the arm is."""
        self._last = observation = self._world.reset(seed)
        self._tick = self._sequence = 0
        self.commanded = observation.state
        if self._robot is not None:
            self.gate = self._armed_at(observation.state, self._robot)
        return observation

    def _armed_at(self, state: Floats32, robot: Deployment) -> SafetyGate:
        hz, two_ticks = self._world.spec.control_hz, 2.0 * self._period
        config = SafetyConfig(
            control_hz=hz, gap_timeout_s=max(0.1, two_ticks), state_timeout_s=max(0.1, two_ticks),
            heartbeat_timeout_s=max(0.15, two_ticks),
        )  # fmt: skip
        gate = SafetyGate(
            config=config, limits=robot.limits, joints=robot.n_joints, names=robot.dimension_names, sources=("policy",)
        )
        for ago in np.arange(KNOWN_S, -1e-9, -self._period).tolist():
            gate.on_state(state, -ago)
        gate.arm(0.0)
        gate.on_state(state, self._now)
        return gate

    def observe(self) -> Observation:
        return with_images(self._world, self._last)

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        """Offer the policy's chunk to the gate."""
        if self.gate is not None:
            self._sequence += 1
            message = ChunkMessage(
                session=SESSION, sequence=self._sequence, captured=self._now, dt=self._period, actions=chunk.actions
            )
            self.gate.offer(message, self._now)

    def step(self, action: Floats32, *, observe: bool = True) -> Transition:
        """One control tick by the gate's command, or without a gate by the action."""
        gate = self.gate
        if gate is None:
            self.commanded = action
        else:
            gate.on_heartbeat(SESSION, self._now)
            command = gate.tick(self._now)
            self._on_gate(gate)
            if command is not None:  # else the arm stays at the last one
                self.commanded = command.position.astype(np.float32)
        self._tick += 1
        is_due = self._every > 0 and self._tick % self._every == 0
        transition = step_world(self._world, self.commanded, observe=observe or is_due)
        self._last = transition.observation
        if gate is not None:
            gate.on_state(transition.observation.state, self._now)
        return transition

    def close(self) -> None:
        self._world.close()
