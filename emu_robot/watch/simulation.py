"""Tells a board what a policy does in a simulated episode."""

import time

import numpy as np

from emu_robot.control.episode_loop import EpisodeResult, Subscriber
from emu_robot.control.safety import SafetyGate
from emu_robot.core import ActionChunk, Floats32, Foresees, Observation, Policy, PolicyEvent, Transition
from emu_robot.environments.contract import EnvironmentSpec
from emu_robot.watch.board import Board
from emu_robot.watch.thought import Ending, Gate


class TimedPolicy:
    """A policy whose chunks are timed. took: time of the last one [s]."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.took = 0.0

    def reset(self, instruction: str) -> None:
        """Start an episode with an instruction."""
        self._policy.reset(instruction)

    def act(self, observation: Observation) -> ActionChunk:
        """The policy's chunk."""
        begun = time.perf_counter()
        chunk = self._policy.act(observation)
        self.took = time.perf_counter() - begun
        return chunk


class Watcher(Subscriber):
    """Tells the board about episodes, and keeps their pace. Times are simulated."""

    def __init__(
        self, board: Board, spec: EnvironmentSpec, policy: TimedPolicy, foresees: Foresees | None, speed: float
    ) -> None:
        """foresees: tells the further subtasks; None: they are not known.

        speed: simulated seconds per second; 0: as fast as it can.
        """
        self._board, self._policy, self._foresees = board, policy, foresees
        self._hz, self._names, self._speed = spec.control_hz, spec.layout.action_names, speed
        self._now = self._due = 0.0

    def on_gate(self, gate: SafetyGate) -> None:
        """Tell what the gate does."""
        self._board.gate(Gate(state=gate.state.value, reason=gate.reason, counts=dict(gate.counts)), self._now)

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self._now, self._due = 0.0, time.monotonic()
        self._board.begin(instruction, 0.0)
        self._show(observation)

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        self._show(observation)
        planned = {PolicyEvent.PLANNED, PolicyEvent.COMPLETE} & set(chunk.events)
        self._board.took("plan and chunk" if planned else "chunk", self._policy.took, self._now)
        for event in chunk.events:
            self._hear(event, chunk)
        if chunk.progress is not None:
            self._board.progress(chunk.progress, self._now)
        self._board.play(self._names, chunk.actions, 1.0 / self._hz, self._now, self._now)
        if PolicyEvent.PLANNED in chunk.events and self._foresees is not None:
            self._board.expect(self._foresees.foresee(observation), self._now)

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        self._now = tick / self._hz
        self._show(transition.observation)
        if transition.subtasks_done:
            done = transition.subtasks_done
            self._board.judge(sum(done), len(done), self._now)
        if self._speed:
            self._wait()

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        self._show(observation)
        if result.success:
            self._board.end_step(Ending.DONE, self._now)
        said = "success" if result.success else f"no success: {result.ending.value}"
        self._board.rest(self._now, f"{said}, by the simulation")
        self._board.count(result.success)

    def _hear(self, event: PolicyEvent, chunk: ActionChunk) -> None:
        board, now = self._board, self._now
        match event:
            case PolicyEvent.PLANNED:
                assert chunk.step is not None
                board.plan(chunk.step, now)
            case PolicyEvent.REACHED:
                board.say("counts as reached", now)
            case PolicyEvent.SWITCHED:
                board.end_step(Ending.REACHED, now)
            case PolicyEvent.TIMEOUT:
                board.end_step(Ending.OVERDUE, now)
            case PolicyEvent.COMPLETE if chunk.step is None:
                board.complete(now)
            case PolicyEvent.COMPLETE:
                board.say("this subtask is the last one", now)
            case PolicyEvent.PLAN_FAILED:
                board.say("the planner gave no plan; the subtask stays", now)

    def _show(self, observation: Observation) -> None:
        if observation.images:
            self._board.see(observation.images, self._now)
        self._board.move(np.asarray(observation.state, np.float64), self._now)

    def _wait(self) -> None:
        """Wait for the tick's time. A slow computation delays the ticks after it, which do not hurry."""
        self._due = max(self._due + 1.0 / (self._hz * self._speed), time.monotonic())
        time.sleep(max(self._due - time.monotonic(), 0.0))
