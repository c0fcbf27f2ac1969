"""Language following: a policy that follows words and one that is deaf to them get the figures that they deserve."""

import json

import fakes
import numpy as np
import pytest

from emu_robot.core import ActionChunk, PlanStep, Transition
from emu_robot.environments.capabilities import Variation
from emu_robot.errors import ConfigError, InvalidValueError, SystemSetupError
from emu_robot.evaluation.language import LanguageConfig, language_following
from emu_robot.evaluation.statistics import paired
from emu_robot.policy.config import GoalMode

RED, BLUE = "put the red cube on the plate", "put the blue can on the plate"


class Varied(fakes.FakeEnvironment):
    """Every other scene can ask for the blue can in place of the red cube. action[0] tells the object that is put."""

    looks_different = False

    def variations(self, seed):
        return {} if seed % 2 else {Variation.SWAPPED: BLUE}

    def reset_varied(self, seed, variation):
        observation = super().reset(seed + (self.looks_different and variation is not None))
        self.instruction = BLUE if variation else RED
        self._names = ["blue can"] if variation else ["red cube"]
        self._put = dict.fromkeys(fakes.COLOURS, 0)
        return observation

    def step(self, action, *, observe=True):
        self._put[list(fakes.COLOURS)[int(action[0])]] += 1
        self._done = [self.asked_done]
        return Transition(observation=self.observe(), success=self.asked_done, subtasks_done=(self.asked_done,))

    @property
    def asked_done(self):
        return self._put[self._names[0]] >= 10

    @property
    def original_done(self):
        return self._put["red cube"] >= 10


class Listens:
    """Does what it is asked for. `asked`: the seeds of its episodes."""

    asked: list[int]

    def __init__(self, config, source):
        Listens.asked = []

    def seed(self, seed):
        self.asked.append(seed)

    def reset(self, instruction):
        self.words = instruction

    def act(self, observation):
        return ActionChunk(actions=np.full((5, 8), self.words == BLUE, np.float32), step=PlanStep(subtask=self.words))


class Deaf(Listens):
    """Does the scene's own task, which it has seen in demonstrations."""

    def reset(self, instruction):
        self.words = RED


@pytest.fixture
def measure(monkeypatch, tmp_path):
    monkeypatch.setattr("emu_robot.evaluation.language.check_fit", lambda config: None)
    monkeypatch.setattr(fakes.FakeSuite, "open", lambda self, task, split: opened(Varied(task)))

    def run(policy, **settings):
        given = {"env": "fake", "tasks": ["one"], "n": 16, "workers": 0, "goal": "planner", "out": tmp_path / "out"}
        return language_following(LanguageConfig(**{**given, **settings}), policy)

    return run


def opened(world):
    fakes.FakeSuite.alive += 1
    return world


def counts(arm):
    return {name: (cell["n_success"], cell["n"]) for name, cell in arm.items() if name != "p"}


def test_a_policy_that_follows_words_does_all_of_them(measure, tmp_path, capsys):
    arms = measure(Listens)["arms"]
    every = dict.fromkeys(("asked", "control", "said_asked"), (8, 8))
    assert counts(arms["swapped"]) == every | {"instead": (0, 8), "said_control": (0, 8)}
    assert counts(arms["control"])["asked"] == (16, 16) and arms["swapped"]["p"] == 1
    first, *_ = Listens.asked
    assert Listens.asked[:3] == [first, first, first + 1]  # the arms of a scene share their random numbers
    record = json.loads((tmp_path / "out/language.json").read_text())
    assert [episode["arm"] for episode in record["episodes"][:3]] == ["control", "swapped", "control"]
    assert record["config"]["seed"] == 0 and record["arms"]["swapped"]["asked"]["ci95"][0] == pytest.approx(
        0.676, abs=1e-3
    )
    assert "control on these scenes 100.0% [67.6, 100.0] (8/8), p = 1" in capsys.readouterr().out


def test_a_policy_that_is_deaf_does_the_scenes_own_task(measure):
    arms = measure(Deaf)["arms"]
    all_wrong = {"asked": (0, 8), "control": (8, 8), "instead": (8, 8), "said_asked": (0, 8), "said_control": (8, 8)}
    assert counts(arms["swapped"]) == all_wrong
    assert arms["swapped"]["p"] == pytest.approx(2 * 0.5**8)
    assert counts(measure(Deaf, goal="none", n=4)["arms"]["swapped"])["said_asked"] == (0, 0)  # it names no subtask


def test_what_is_not_the_same_scene_is_refused(measure, monkeypatch):
    monkeypatch.setattr(Varied, "looks_different", True)
    with pytest.raises(SystemSetupError, match="looks different with another instruction"):
        measure(Listens)


def test_an_environment_without_variations_is_named_before_an_episode(measure, monkeypatch, tmp_path):
    monkeypatch.setattr(fakes.FakeSuite, "open", lambda self, task, split: opened(fakes.FakeEnvironment(task)))
    with pytest.raises(InvalidValueError, match="measuring language needs variations of its instructions, which"):
        measure(Listens)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="goal=shuffled shows images of other layouts"):
        LanguageConfig(goal=GoalMode.SHUFFLED)


def test_the_paired_test_counts_the_cases_that_differ():
    assert paired([True] * 5, [True] * 5) == 1
    assert paired([True] * 6 + [False] * 9, [False] * 6 + [False] * 9) == pytest.approx(2 / 64)
    assert paired([True, False], [False, True]) == 1
