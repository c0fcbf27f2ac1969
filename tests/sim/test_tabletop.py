"""The simulated tabletop: Gymnasium's own checker, determinism, oracle, experts, speed and bad input."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from emu_robot import environments
from emu_robot.errors import InvalidValueError, ShapeError, SystemSetupError, UnknownNameError
from emu_sim.bench import bench
from emu_sim.environment import TabletopEnvironment
from emu_sim.grammar import TABLETOP, TABLETOP2, Grammar, subtasks_of
from emu_sim.layout import Layout
from emu_sim.tabletop import TabletopEnv, make_resting
from emu_sim.world import World

FAMILIES = [task.name for task in TABLETOP.tasks]


def _expert_rollout(environment: TabletopEnvironment, seed: int, noise: float = 0.0) -> bool:
    """Whether the expert succeeds, with correlated joint noise of standard deviation `noise` [rad] if asked."""
    environment.reset(seed, observe=False)
    expert, rng, drift = environment.expert(), np.random.default_rng(seed), np.zeros(7)
    for _ in range(environment.max_steps):
        action = expert.action()
        drift = 0.9 * drift + np.sqrt(1 - 0.81) * noise * rng.normal(size=7)
        action[:7] += drift
        if environment.step(action, observe=False).success:
            return True
    return False


@pytest.mark.parametrize("action_mode", ["joint", "ee_delta"])
def test_gymnasium_checker_passes(action_mode: str) -> None:
    env = gym.make("emu_sim/Tabletop-v0", action_mode=action_mode)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_same_seed_same_episode() -> None:
    def frames() -> list[np.ndarray]:
        env = TabletopEnv(families=["all"])
        observation, _ = env.reset(seed=11)
        seen = [observation["pixels"]["front"]]
        for i in range(5):
            action = observation["agent_pos"] + np.float32(0.02 * i)
            observation = env.step(action)[0]
            seen.append(observation["pixels"]["wrist"])
        env.close()
        return seen

    for a, b in zip(frames(), frames(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_oracle_shows_the_completed_subtask_and_restores_the_world() -> None:
    environment = TabletopEnvironment(["pick_place"])
    environment.reset(3)
    before, pixels = environment.world.save(), environment.object_pixels()
    step = environment.oracle_step()
    assert step is not None and step.subgoal is not None
    assert step.subtask == environment.current_subtask
    np.testing.assert_array_equal(before, environment.world.save())
    name = str(environment.task.subtasks[0].object)
    u, v = pixels[name] or (0, 0)
    now = environment.render()
    moved = np.abs(now.astype(int) - step.subgoal.astype(int)).sum(axis=2)
    assert moved[int(v) - 2 : int(v) + 3, int(u) - 2 : int(u) + 3].mean() > 60, "the object has left its place"
    environment.close()


@pytest.mark.parametrize("grammar", [TABLETOP, TABLETOP2], ids=lambda one: one.name)
def test_every_subtask_is_judged_by_its_words(grammar: Grammar) -> None:
    environment = TabletopEnvironment(["all"], grammar=grammar)
    for seed in range(30):
        environment.reset(seed, observe=False)
        known = subtasks_of(environment.task)
        assert all(environment.holds(f" {words.upper()}") is not None for words in environment.subtasks)
        assert set(environment.task.subtasks) <= set(known.values())
    for words in ("", "put the red cube", "put the black cube in the bowl", "close the door"):
        assert environment.holds(words) is None
    environment.close()


def test_a_subtask_holds_once_the_expert_has_done_it() -> None:
    environment = TabletopEnvironment(["sort"])
    environment.reset(4, observe=False)
    first, second, *_ = environment.subtasks
    expert, told = environment.expert(), []
    while environment.subtask_index < 2:
        environment.step(expert.action(), observe=False)
        told.append((environment.holds(first), environment.holds(second)))
    assert list(dict.fromkeys(told)) == [(False, False), (True, False), (True, True)]
    environment.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_succeed(family: str) -> None:
    environment = TabletopEnvironment([family])
    assert sum(_expert_rollout(environment, 20_000_000 + seed) for seed in range(6)) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.97), (0.01, 0.90)])
@pytest.mark.parametrize("family", FAMILIES)
def test_expert_success_rates(family: str, noise: float, least: float) -> None:
    environment = TabletopEnvironment([family])
    assert np.mean([_expert_rollout(environment, 30_000_000 + seed, noise) for seed in range(50)]) >= least


def test_expert_retries_after_the_object_is_taken_away() -> None:
    environment = TabletopEnvironment(["pick_place"])
    environment.reset(1, observe=False)
    expert, dropped = environment.expert(), False
    for _ in range(environment.max_steps + 100):
        action = expert.action()
        if not dropped and environment.world.pinch_pos[2] > 0.12 and environment.world.grasped:
            dropped, forced = True, 12
        if dropped and forced:
            action[-1], forced = 1.0, forced - 1
        if environment.step(action, observe=False).success:
            break
    assert dropped and environment.success


def test_only_a_can_has_a_lid() -> None:
    world = World()

    def pixels(name: str) -> np.ndarray:
        world.reset(Layout({name: (0.5, -0.05, 0.0)}, {}, 0.0))
        uv = world.object_pixels("front")[name]
        assert uv is not None
        column, row = (round(x) for x in uv)
        return world.render("front")[row - 5 : row - 1, column - 1 : column + 2].astype(float)

    for colour in ("red", "yellow"):
        can, cube = (np.ptp(pixels(f"{colour} {shape}"), axis=2).min() for shape in ("can", "cube"))
        assert can < 30 < 100 < cube  # a lid is grey, the rest has the object's colour
    world.close()


def test_end_effector_action_moves_the_fingertips() -> None:
    env = TabletopEnv(action_mode="ee_delta")
    env.reset(seed=0)
    start = env.environment.world.pinch_pos
    for _ in range(10):
        env.step(np.array([0.4, 0.0, -0.4, 1.0], np.float32))
    moved = env.environment.world.pinch_pos - start
    assert moved[0] > 0.03 and moved[2] < -0.03 and abs(moved[1]) < 0.01
    env.close()


def test_seed_offset_is_added_to_every_seed() -> None:
    offset, plain = TabletopEnv(seed_offset=10_000_000), TabletopEnv()
    a, b = offset.reset(seed=5)[0], plain.reset(seed=10_000_005)[0]
    np.testing.assert_array_equal(a["pixels"]["front"], b["pixels"]["front"])
    assert offset.task_description == plain.task_description and offset.task == plain.environment.task.family
    seeds: list[int] = []
    offset.environment.reset = lambda seed, **_: seeds.append(seed) or plain.environment.observe()  # type: ignore[method-assign]
    for _ in range(5):
        offset.reset()
    assert min(seeds) >= 10_000_000 and len(set(seeds)) == 5
    with pytest.raises(InvalidValueError, match="seed_offset is -1"):
        TabletopEnv(seed_offset=-1)


def test_an_ended_episode_rests_until_it_is_reset_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu_sim.environment.STEPS_PER_SUBTASK", 2)
    env = make_resting(families=["push"])
    first, _ = env.reset(seed=1)
    words, action = env.get_wrapper_attr("task_description"), first["agent_pos"]
    assert env.step(action)[2:4] == (False, False)
    end = env.step(action)
    assert end[2:4] == (False, True)
    for observation in (env.reset()[0], env.step(action + 0.1)[0]):
        np.testing.assert_array_equal(observation["pixels"]["front"], end[0]["pixels"]["front"])
    assert env.get_wrapper_attr("task_description") == words
    env.reset(options={})
    assert env.get_wrapper_attr("task_description") != words and not env.step(action)[3]
    env.close()


def test_heldout_environment_asks_only_heldout_compositions() -> None:
    environment = TabletopEnvironment(["pick_place"], "heldout")
    for seed in range(10):
        environment.reset(seed, observe=False)
        step = environment.task.subtasks[0]
        assert (step.object, step.target) in TABLETOP.kept["heldout"].pairs


def test_throughput_is_measured() -> None:
    rates = bench(steps=20)
    assert 0 < rates["env_steps_per_cpu_second"] < rates["physics_only_steps_per_cpu_second"]


def test_bad_input_names_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown environment 'kitchen'; known: .*tabletop"):
        environments.make("kitchen")
    with pytest.raises(UnknownNameError, match="robot of environment tabletop 'ur5e'; known: panda"):
        TabletopEnvironment(robot="ur5e")
    with pytest.raises(UnknownNameError, match="unknown camera 'top'; known: front, wrist"):
        TabletopEnvironment(cameras=["top"])
    with pytest.raises(UnknownNameError, match="unknown action mode 'torque'; known: joint, ee_delta"):
        TabletopEnv(action_mode="torque")
    environment = TabletopEnvironment()
    environment.reset(0, observe=False)
    with pytest.raises(ShapeError, match=r"action: got \(7,\), expected \(8,\)"):
        environment.step(np.zeros(7))
    with pytest.raises(InvalidValueError, match="not finite"):
        environment.step(np.full(8, np.nan))

    def no_gl(*args: object) -> None:
        raise RuntimeError("no EGL")

    monkeypatch.setattr("mujoco.Renderer", no_gl)
    with pytest.raises(SystemSetupError, match="apt-get install libegl1"):
        environment.observe()
