"""The simulated arm and its scripted teleoperator as LeRobot devices, up to a dataset recorded by LeRobot itself."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.robots import make_robot_from_config
from lerobot.scripts import lerobot_record
from lerobot.teleoperators import make_teleoperator_from_config
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from lerobot.utils.utils import log_say
from lerobot_recordings import short_recording

from emu_robot.errors import InvalidValueError, UnknownNameError
from emu_robot.lerobot import EmuSimExpert, EmuSimExpertConfig, EmuSimPanda, EmuSimPandaConfig
from emu_robot.lerobot.robot import REST_TICKS
from emu_robot.robots.spec import PANDA
from emu_sim.environment import TabletopEnvironment

ROOT = Path(__file__).parents[2]
WORDS = "open the drawer"
HOME = dict(zip(PANDA.action_names, [*PANDA.home, 1.0], strict=True))


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[EmuSimPanda]:
    robot = make_robot_from_config(EmuSimPandaConfig(families="open_drawer", id="arm", calibration_dir=tmp_path))
    assert isinstance(robot, EmuSimPanda)
    robot.connect()
    yield robot
    if robot.is_connected:
        robot.disconnect()


@pytest.fixture
def expert(tmp_path: Path) -> EmuSimExpert:
    teleop = make_teleoperator_from_config(EmuSimExpertConfig(robot_id="arm", calibration_dir=tmp_path))
    assert isinstance(teleop, EmuSimExpert)
    teleop.connect()
    return teleop


def test_observation_and_action_are_as_announced(robot: EmuSimPanda) -> None:
    observation = robot.get_observation()
    assert observation.keys() == robot.observation_features.keys()
    for key, kind in robot.observation_features.items():
        value = observation[key]
        assert isinstance(value, float) if kind is float else (value.shape, value.dtype) == (kind, np.uint8)
    assert list(robot.action_features) == list(PANDA.action_names)


def test_what_is_sent_is_within_the_limits_and_returned(robot: EmuSimPanda) -> None:
    sent = robot.send_action(HOME | {"joint2.pos": 9.0, "joint4.pos": -9.0, "gripper.pos": 1.5})
    clipped = {"joint2.pos": PANDA.joint_upper[1], "joint4.pos": PANDA.joint_lower[3], "gripper.pos": 1.0}
    assert sent == pytest.approx(HOME | clipped)


def test_wrong_actions_are_refused(robot: EmuSimPanda) -> None:
    with pytest.raises(InvalidValueError, match=r"action is not finite: joint3.pos=nan, gripper.pos=inf"):
        robot.send_action(HOME | {"joint3.pos": np.nan, "gripper.pos": np.inf})
    with pytest.raises(UnknownNameError, match="unknown action 'joint8.pos'; known: joint1.pos"):
        robot.send_action(HOME | {"joint8.pos": 0.0})
    with pytest.raises(InvalidValueError, match=r"action lacks joint2.pos; it must name joint1.pos"):
        robot.send_action({name: value for name, value in HOME.items() if name != "joint2.pos"})


def test_connections(robot: EmuSimPanda, expert: EmuSimExpert, tmp_path: Path) -> None:
    with pytest.raises(DeviceAlreadyConnectedError):
        robot.connect()
    with pytest.raises(InvalidValueError, match="robot id 'arm' is connected already"):
        EmuSimPanda(robot.config).connect()
    other = EmuSimExpert(EmuSimExpertConfig(robot_id="leg", calibration_dir=tmp_path))
    with pytest.raises(DeviceNotConnectedError):
        other.get_action()
    other.connect()
    with pytest.raises(DeviceNotConnectedError, match="no emu_sim_panda with id 'leg' is connected here; known: 'arm'"):
        other.get_action()
    robot.disconnect()
    for method in (robot.get_observation, robot.disconnect, expert.get_action):
        with pytest.raises(DeviceNotConnectedError):
            method()
    expert.disconnect()
    assert not expert.is_connected


def test_each_connection_and_episode_takes_the_next_seed_with_the_words_asked_for(tmp_path: Path) -> None:
    robot = EmuSimPanda(EmuSimPandaConfig(families="open_drawer", instruction=WORDS, calibration_dir=tmp_path))
    starts = []
    for _ in range(2):
        robot.connect()
        starts.append(robot.environment.world.save())
        robot.new_episode()
        starts.append(robot.environment.world.save())
        assert robot.instruction == WORDS
        robot.disconnect()
    ours, expected = TabletopEnvironment(["open_drawer"]), []
    for seed in range(30):
        ours.reset(seed, observe=False)
        expected += [ours.world.save()] if ours.instruction == WORDS else []
    np.testing.assert_array_equal(starts, expected[:4])


def test_settings_that_no_task_fits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'kitchen'; known: pick_place"):
        EmuSimPandaConfig(families="kitchen")
    with pytest.raises(InvalidValueError, match="seed is -1; it must not be negative"):
        EmuSimPandaConfig(seed=-1)
    monkeypatch.setattr("emu_robot.lerobot.robot.SEARCHED_SEEDS", 50)
    config = EmuSimPandaConfig(families="open_drawer", instruction="dance", calibration_dir=tmp_path)
    with pytest.raises(
        InvalidValueError, match=r"seeds 0..49 is asked for with 'dance'; for example: .*open the drawer"
    ):
        EmuSimPanda(config).connect()


def test_expert_does_the_task_rests_and_meets_the_next_layout(robot: EmuSimPanda, expert: EmuSimExpert) -> None:
    def tick() -> dict[str, float]:
        return robot.send_action(expert.get_action())

    while robot.environment.subtask is not None:
        tick()
    assert robot.environment.success
    assert [tick() for _ in range(REST_TICKS)] == [pytest.approx(HOME)] * REST_TICKS
    robot.get_observation()
    assert not robot.environment.success and robot.environment.subtask is not None


def test_noise_moves_the_arm_not_the_record(tmp_path: Path) -> None:
    settings = {"families": "open_drawer", "instruction": WORDS, "calibration_dir": tmp_path}
    robots = [EmuSimPanda(EmuSimPandaConfig(id=str(noise), noise=noise, **settings)) for noise in (0.0, 0.01)]
    for robot in robots:
        robot.connect()
    sent = [[robot.send_action(HOME) for _ in range(5)] for robot in robots]
    assert sent[0] == sent[1] == [pytest.approx(HOME)] * 5
    steady, disturbed = (robot.environment.world.state for robot in robots)
    assert 1e-4 < np.abs(steady - disturbed)[:7].max() < 0.1
    for robot in robots:
        robot.disconnect()
    with pytest.raises(InvalidValueError, match="noise is -0.1; it must be in"):
        EmuSimPandaConfig(noise=-0.1)


def test_announced_resets_bring_layouts_and_rest(robot: EmuSimPanda, expert: EmuSimExpert, caplog) -> None:
    caplog.set_level(logging.INFO)

    def layout() -> bytes:
        robot.get_observation()
        return robot.environment.world.save().tobytes()

    first = layout()
    log_say("Recording episode 0", play_sounds=False)
    assert layout() == first and expert.get_action() != pytest.approx(HOME)
    log_say("Reset the environment", play_sounds=False)
    second = layout()
    assert second != first and layout() == second and expert.get_action() == pytest.approx(HOME)
    log_say("Recording episode 1", play_sounds=False)
    assert layout() == second and expert.get_action() != pytest.approx(HOME)


def test_lerobot_records_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(lerobot_record, "init_logging", lambda: caplog.set_level(logging.INFO))
    dataset = short_recording("test/drawer", tmp_path / "set", WORDS)
    config = lerobot_record.RecordConfig(
        robot=EmuSimPandaConfig(families="open_drawer", instruction=WORDS, seed=5, calibration_dir=tmp_path),
        teleop=EmuSimExpertConfig(calibration_dir=tmp_path),
        dataset=dataset,
        play_sounds=False,
    )
    recorded = lerobot_record.record(config)
    check_replays(LeRobotDataset(recorded.repo_id, root=tmp_path / "set"), seed=5)


def check_replays(dataset: LeRobotDataset, seed: int) -> list[bool]:
    """Recorded actions replayed from the layouts' seeds give the recorded states; whether they solve the task."""
    environment, successes = TabletopEnvironment(["open_drawer"]), []
    first: dict[str, Any] = dataset[0]  # type: ignore[assignment]
    assert dataset.num_episodes == 2 and first["task"] == WORDS
    assert first["observation.images.front"].shape == (3, 128, 128)
    episodes = np.array(dataset.hf_dataset["episode_index"])
    states, actions = (np.array(dataset.hf_dataset[key]) for key in ("observation.state", "action"))
    for episode in range(2):
        while environment.reset(seed) and environment.instruction != WORDS:
            seed += 1
        for state, action in zip(states[episodes == episode], actions[episodes == episode], strict=True):
            np.testing.assert_allclose(environment.world.state, state, atol=1e-5)
            environment.step(action, observe=False)
        successes.append(environment.success)
        seed += 1
    environment.close()
    return successes


@pytest.mark.slow
def test_lerobot_record_as_a_command_solves_the_tasks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_record", "--robot.type=emu_sim_panda"]
    command += ["--robot.families=open_drawer", f"--robot.instruction={WORDS}", f"--dataset.single_task={WORDS}"]
    command += ["--robot.discover_packages_path=emu_robot.lerobot", "--teleop.type=emu_sim_expert"]
    command += ["--dataset.repo_id=test/drawer", f"--dataset.root={tmp_path / 'set'}", "--dataset.push_to_hub=false"]
    command += ["--dataset.fps=20", "--dataset.num_episodes=2", "--dataset.episode_time_s=10"]
    command += ["--dataset.reset_time_s=0", "--dataset.rgb_encoder.vcodec=h264", "--play_sounds=false"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert check_replays(LeRobotDataset("test/drawer", root=tmp_path / "set"), seed=0) == [True, True]
