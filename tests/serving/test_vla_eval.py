"""vla-eval's own client plays our policy on the simulated table, waiting for it and under its live clock."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import vla_eval
from vla_eval.api import evaluate, run
from vla_eval_tabletop import Tabletop

from emu_robot import environments
from emu_robot.core import Observation
from emu_robot.errors import ConfigError, InvalidValueError, ShapeError, UnknownNameError
from emu_robot.policy.emu_policy import load_policy
from emu_robot.serving.config import VlaEvalConfig
from emu_robot.serving.served_policy import ServedPolicy, check_instruction
from emu_robot.serving.vla_eval import EmuModelServer
from emu_robot.shared.draws import episode_seed

CONFIG = VlaEvalConfig(cameras={"front": "agentview"})


def benchmark(mode: str, max_steps: int, **more: Any) -> dict[str, Any]:
    entry = {"benchmark": "vla_eval_tabletop:Tabletop", "mode": mode, "max_steps": max_steps, "episodes_per_task": 1}
    return {"benchmarks": [entry | more]}


@pytest.fixture(autouse=True)
def forget_episodes() -> None:
    Tabletop.played.clear()


def test_its_client_gets_the_actions_that_the_policy_gives_here() -> None:
    assert vla_eval.__version__ == "0.8.0"
    evaluate(EmuModelServer(CONFIG), benchmark("sync", 20), no_save=True)
    ((first, _action), *_rest) = played = Tabletop.played[0]
    assert len(played) == 20
    world = environments.make("tabletop", "pick_place")
    world.reset(10_000_003)
    policy = load_policy("mini", seed=episode_seed(world.instruction, first, 0))
    policy.reset(world.instruction)
    world.close()
    for begin in range(0, 20, 8):
        ours = policy.act(played[begin][0]).actions
        theirs = np.stack([action for _seen, action in played[begin : begin + 8]])
        np.testing.assert_array_equal(theirs, ours[: len(theirs)])


def test_under_the_live_clock_the_arm_moves_and_no_answer_lags_behind() -> None:
    results = evaluate(EmuModelServer(CONFIG), benchmark("live", 60, hz=10), no_save=True)
    episode = results[0]["tasks"][0]["episodes"][0]
    assert "failure_reason" not in episode, episode
    played = Tabletop.played[0]
    moved = np.abs(played[-1][0].state - played[0][0].state).max()
    assert moved > 0.05
    tracked = [np.abs(action[:7] - seen.state[:7]).max() for seen, action in played[20:]]
    assert np.median(tracked) < 0.3, "actions are for the pose that the arm has now"


def test_the_verb_serves_until_it_is_stopped() -> None:
    words = ["serve-vla-eval", "port=0", "cameras.front=agentview", "goal=none"]
    command = [sys.executable, "-c", "from emu_robot.cli.main import main; raise SystemExit(main())", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.fullmatch(r"policy mini serves vla-eval at (ws://127\.0\.0\.1:\d+)\n", line)
        assert found, line
        results = run(benchmark("sync", 3), server_url=found[1], no_save=True)
        assert len(Tabletop.played[0]) == 3 and results[0]["tasks"]
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130


def test_what_a_benchmark_sends_is_checked() -> None:
    policy = ServedPolicy(CONFIG)
    picture, state = np.zeros((256, 300, 3), np.uint8), np.zeros(8)
    seen = policy.observation({"agentview": picture, "wrist": picture}, state)
    assert isinstance(seen, Observation) and seen.images["front"].shape == (128, 128, 3)
    with pytest.raises(UnknownNameError, match=r"'wrist'; say which one it is: cameras.wrist=NAME.*agentview"):
        policy.observation({"agentview": picture}, state)
    with pytest.raises(ShapeError, match=r"picture of camera 'agentview': got \(3, 9, 9\) uint8"):
        policy.observation({"agentview": np.zeros((3, 9, 9), np.uint8), "wrist": picture}, state)
    with pytest.raises(ShapeError, match=r"state: got \(7,\), expected \(8,\): "):
        policy.observation({"agentview": picture, "wrist": picture}, state[:7])
    with pytest.raises(InvalidValueError, match="state is not finite"):
        policy.observation({"agentview": picture, "wrist": picture}, state * np.nan)
    with pytest.raises(InvalidValueError, match="no task_description in words; it has images, states"):
        check_instruction(None, ["states", "images"])
    with pytest.raises(UnknownNameError, match="camera of the policy 'top'"):
        ServedPolicy(VlaEvalConfig(cameras={"top": "agentview"}))
    with pytest.raises(ConfigError, match="'agentview' of the benchmark stands for two"):
        VlaEvalConfig(cameras={"front": "agentview", "wrist": "agentview"})
