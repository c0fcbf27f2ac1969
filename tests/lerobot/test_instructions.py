"""Instructions under LeRobot: text queries about the next subtask, and a task that changes while the arm moves."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from emu_robot.core import Plan, PlanStep
from emu_robot.errors import InvalidValueError
from emu_robot.lerobot.checkpoint import to_lerobot
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.modeling_emu_robot import EmuRobotPolicy


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> EmuRobotPolicy:
    folder = tmp_path_factory.mktemp("released")
    to_lerobot("mini", folder)
    return EmuRobotPolicy.from_pretrained(folder)


class Steps:
    """In place of a planner: names the step of each instruction, and notes the questions."""

    config = SimpleNamespace(camera="front")

    def __init__(self, **steps: str) -> None:
        self.steps, self.asked = steps, list[str]()

    def plan(self, observation, instruction, max_steps=None, *, seed=0, past=(), doubt=0.0):
        step = self.next_steps([observation.images["front"]], [instruction], [seed])[0]
        return Plan(instruction=instruction, steps=() if step is None else (step,))

    def next_steps(self, images, instructions, seeds):
        self.asked += instructions
        said = self.steps.get(instructions[0])
        return [PlanStep(subtask=said, subgoal=images[0]) if said else None]


def test_text_queries_are_answered_as_lerobot_asks_them(released, monkeypatch):
    """As `SyncInferenceEngine._generate_text` of LeRobot after 0.6.1 asks: one batch, str or an error for an answer."""
    policy, planner = released, Steps(tidy="open the drawer")
    monkeypatch.setattr(policy, "_acting_planner", lambda: planner)
    policy.reset()
    seen = front_and_wrist() | {"task": ["rest"]}
    assert policy.supports_text_generation()
    with torch.inference_mode():
        assert policy.generate_text(seen | {"query_kind": "next_subtask", "query_text": "tidy"}) == "open the drawer"
        with pytest.raises(InvalidValueError, match="judges 'rest' complete"):
            policy.generate_text(seen)
    assert not policy._here.queue and not policy._here.drivers  # a question changes nothing of the episode
    config = EmuRobotConfig(**{**vars(policy.config), "goal": "none"})
    assert not EmuRobotPolicy(config).supports_text_generation()


def test_another_task_is_followed_at_once_and_an_unchanged_one_changes_nothing(released, monkeypatch):
    policy, planner = released, Steps(tidy="open the drawer", rest="close the drawer")
    monkeypatch.setattr(policy, "_acting_planner", lambda: planner)
    policy.reset()
    seen = front_and_wrist()
    for task, calls in (("tidy", 10), ("rest", 3)):
        for _ in range(calls):
            policy.select_action(seen | {"task": [task]})
    assert planner.asked == ["tidy"]  # the rest of a chunk of 8 comes first
    policy.drop_queued_actions()  # as LeRobot does at set_task
    policy.select_action(seen | {"task": ["rest"]})
    assert planner.asked == ["tidy", "rest"]


def front_and_wrist() -> dict[str, Any]:
    pictures = {f"observation.images.{name}": torch.full((1, 3, 128, 128), 0.5) for name in ("front", "wrist")}
    return {**pictures, "observation.state": torch.zeros(1, 8)}
