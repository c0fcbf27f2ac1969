"""The gate between a policy and a simulated world."""

from dataclasses import replace

import numpy as np
import pytest
from obedient_world import HOME, ObedientWorld, ScriptedPolicy, towards

from emu_robot.control.episode_loop import run_episode
from emu_robot.control.safety import GateState, SafetyGate
from emu_robot.core import ActionChunk
from emu_robot.environments.capabilities import RendersOnDemand
from emu_robot.errors import ConfigError
from emu_robot.robots.deployment import read_deployment
from emu_robot.robots.spec import ActionKind
from emu_robot.watch.watched_world import WatchedWorld, require_gate

ROBOT = read_deployment("panda_sim")


def played(chunk: ActionChunk, *, gated: bool = True, every: int = 0) -> tuple[ObedientWorld, list[tuple[str, str]]]:
    """The world after an episode, and what the gate said at each tick."""
    world, said = ObedientWorld(), list[tuple[str, str]]()

    def on_gate(gate: SafetyGate) -> None:
        said.append((gate.state.value, gate.reason))

    watched = WatchedWorld(world, ROBOT if gated else None, every=every, on_gate=on_gate)
    assert isinstance(watched, RendersOnDemand)
    result = run_episode(watched, ScriptedPolicy([chunk]), 0, [watched], n_action_steps=8)
    assert result.success and result.n_steps == 24
    return world, said


def test_slow_chunks_reach_the_arm_through_the_gate() -> None:
    world, said = played(ActionChunk(actions=towards(0.4)))
    assert {state for state, _ in said} == {"tracking"} and len(said) == 24
    turned = np.array(world.told)[:, 0] - HOME[0]
    np.testing.assert_allclose(turned[:8], np.linspace(0.025, 0.2, 8), atol=0.02)
    assert np.abs(np.diff(turned)).max() <= ROBOT.limits.velocity[0] / 20 + 1e-6  # also as the next chunk begins


def test_a_leap_never_reaches_the_arm() -> None:
    actions = towards(0.4)
    actions[3:, 2] += 1.0
    world, said = played(ActionChunk(actions=actions))
    assert np.abs(np.array(world.told)[:, :7] - HOME[:7]).max() < 1e-6
    assert ("holding", "chunk jumps") in said
    world, said = played(ActionChunk(actions=actions), gated=False)
    assert np.abs(np.array(world.told)[:, 2] - HOME[2]).max() == pytest.approx(1.0) and said == []


def test_wrong_chunks_again_and_again_are_a_fault() -> None:
    world, gates = ObedientWorld(), list[SafetyGate]()
    watched = WatchedWorld(world, ROBOT, every=0, on_gate=gates.append)
    leap = towards(0.4)
    leap[3:, 2] += 1.0
    run_episode(watched, ScriptedPolicy([ActionChunk(actions=leap)]), 0, [watched], n_action_steps=2)
    assert gates[-1].state is GateState.FAULT and gates[-1].counts["chunk jumps"] >= 5


def test_without_a_gate_actions_pass_as_they_are() -> None:
    chunk = ActionChunk(actions=towards(0.4))
    world, _ = played(chunk, gated=False)
    np.testing.assert_array_equal(world.told[:8], chunk.actions[:8])


def test_pictures_come_steadily_if_asked_for() -> None:
    chunk = ActionChunk(actions=towards(0.4))
    assert played(chunk, every=2)[0].rendered == [0, *range(2, 25, 2)]
    assert played(chunk)[0].rendered == [0, 8, 16, 24]


def test_each_episode_has_a_gate_of_its_own() -> None:
    gates = list[SafetyGate]()
    watched = WatchedWorld(ObedientWorld(), ROBOT, every=0, on_gate=gates.append)
    for _ in range(2):
        run_episode(watched, ScriptedPolicy([ActionChunk(actions=towards(0.4))]), 0, [watched], n_action_steps=8)
    assert gates[0] is not gates[-1] and gates[-1].state is GateState.TRACKING


def test_actions_that_the_gate_does_not_understand_are_refused() -> None:
    spec = ObedientWorld.spec
    require_gate(ROBOT, spec)
    delta = replace(spec, layout=replace(spec.layout, action_kind=ActionKind.DELTA, action_kinds=()))
    with pytest.raises(ConfigError, match=r"needs targets of joints.*robot= plays without a gate"):
        require_gate(ROBOT, delta)
    with pytest.raises(ConfigError, match=r"act on 8 dimensions.*; robot= plays without a gate"):
        require_gate(read_deployment("so101"), spec)
