"""Claims beside the truth: what counts as true, early, false and missed, and the figures of whole episodes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest

from emu_robot.core import ActionChunk, Observation, PlanStep, PolicyEvent
from emu_robot.errors import ConfigError, InvalidValueError
from emu_robot.evaluation.claims import ClaimLog, Verdict, judge
from emu_robot.evaluation.completion import CompletionConfig, completion
from emu_robot.policy.config import GoalMode

RED, BLUE = "put the red cube on the plate", "put the blue can on the plate"
REACHED, SWITCHED, TIMEOUT = PolicyEvent.REACHED, PolicyEvent.SWITCHED, PolicyEvent.TIMEOUT
PLANNED, COMPLETE = PolicyEvent.PLANNED, PolicyEvent.COMPLETE


def held(*stretches: tuple[bool, int]) -> list[bool]:
    return [value for value, ticks in stretches for _ in range(ticks)]


@pytest.mark.parametrize(
    ("holds", "claimed", "verdict"),
    [
        (held((False, 20), (True, 20)), 26, Verdict(True, True, 6)),
        (held((False, 20), (True, 20)), 10, Verdict(True, True, -10)),
        (held((False, 20), (True, 20)), 9, Verdict(True, False)),
        (held((False, 20), (True, 20)), None, Verdict(True)),
        (held((False, 40)), 10, Verdict(False, False)),
        (held((False, 40)), None, Verdict(False)),
        (held((False, 5), (True, 9), (False, 5), (True, 9), (False, 20)), None, Verdict(False)),
        (held((False, 5), (True, 10), (False, 20)), 15, Verdict(True, False)),
        (held((False, 5), (True, 10), (False, 5), (True, 5)), 22, Verdict(True, True, 2)),
        (held((True, 30)), 7, Verdict(True, True, 7)),
        (held((False, 30), (True, 1)), 30, Verdict(True, True, 0)),
        ([], None, Verdict(False)),
    ],
    ids=[
        "late", "half a second early", "too early", "missed", "false", "never", "it only flickered", "already lost",
        "after a second time", "from the start", "at the last tick", "nothing",
    ],
)  # fmt: skip
def test_a_claim_is_judged_by_the_stretch_that_it_falls_into(
    holds: Sequence[bool], claimed: int | None, verdict: Verdict
) -> None:
    assert judge(holds, claimed, 10) == verdict


class World:
    """Subtasks that hold from a tick on."""

    now = 0

    def holds(self, subtask: str) -> bool | None:
        return {"a": self.now >= 8, "b": self.now >= 20}.get(subtask)


def chunk(words: str | None, *events: PolicyEvent) -> ActionChunk:
    step = None if words is None else PlanStep(subtask=words)
    return ActionChunk(actions=np.zeros((4, 1), np.float32), step=step, events=events)


def followed(*chunks: ActionChunk, confirmations: int = 2) -> ClaimLog:
    """The log of chunks of four ticks each."""
    world = World()
    log = ClaimLog(world, "do it", confirmations=confirmations, tolerance=4)
    for i, one in enumerate(chunks):
        log.on_chunk(4 * i, one)
        for tick in range(4 * i + 1, 4 * i + 5):
            world.now = tick
            log.on_tick(tick, tick >= 20)
    return log


def test_a_pursuit_is_the_time_of_the_same_words() -> None:
    log = followed(
        chunk("a", PLANNED), chunk("A "), chunk("a", REACHED), chunk("a", REACHED), chunk("b", SWITCHED, PLANNED),
        chunk("b", TIMEOUT, PLANNED, REACHED), chunk("b", SWITCHED, PLANNED), chunk("c", TIMEOUT, PLANNED),
        chunk("b", REACHED, SWITCHED, PLANNED),
    )  # fmt: skip
    told = [(one.words, one.first, one.claimed, one.ended, one.is_known) for one in log.pursuits]
    assert told == [
        ("a", 0, 8, 16, True),
        ("b", 16, 20, 24, True),
        ("b", 24, None, 28, True),
        ("c", 28, 32, 32, False),
        ("b", 32, None, None, True),
    ]
    assert [one.judged(4).delay for one in log.pursuits] == [0, 0, None, None, None]
    assert [one.judged(4).is_true for one in log.pursuits] == [True, True, None, False, None]


def test_a_declaration_that_is_taken_back_counts_and_is_no_confirmation() -> None:
    log = followed(
        chunk("a", PLANNED), chunk("a", REACHED, COMPLETE), chunk("a", SWITCHED, PLANNED),
        chunk("a", REACHED, COMPLETE), chunk("b", SWITCHED, PLANNED), chunk("b"), chunk("b", REACHED, COMPLETE),
        chunk(None, SWITCHED, COMPLETE), chunk(None),
    )  # fmt: skip
    assert [(one.first, one.claimed, one.ended) for one in log.declared] == [(0, 4, 8), (8, 12, 16), (16, 24, None)]
    assert [one.judged(4) for one in log.declared] == [Verdict(False, False)] * 2 + [Verdict(True, True, 4)]
    assert log.confirmed.claimed == 28 and log.confirmed.judged(4) == Verdict(True, True, 8)
    assert not log.is_over(31) and log.is_over(32)


def test_two_declarations_at_once_confirm() -> None:
    log = followed(chunk("a", PLANNED), chunk(None, REACHED, COMPLETE, SWITCHED, COMPLETE))
    assert log.declared[0].claimed == log.confirmed.claimed == 4


class Scripted:
    """Plays a script: (words, events, whether the gripper is closed) of each chunk of ten ticks; then the last goes on
    without events."""

    def __init__(self, scripts: dict[int, list[tuple[str | None, tuple[PolicyEvent, ...], bool]]]) -> None:
        self._scripts = scripts

    def seed(self, seed: int) -> None:
        self._script = list(self._scripts[seed % 10])

    def reset(self, instruction: str) -> None: ...

    def act(self, observation: Observation) -> ActionChunk:
        words, events, shut = self._script[0]
        if len(self._script) > 1:
            self._script.pop(0)
        else:
            self._script[0] = (words, (), shut)
        actions = np.full((10, 8), 0.0 if shut else 1.0, np.float32)
        step = None if words is None else PlanStep(subtask=words)
        return ActionChunk(actions=actions, step=step, events=events)


DOWN = (None, (), False)
SCRIPTS = {
    # Red is claimed 10 ticks after it is done, blue at once; the task is declared at once, and confirmed later.
    0: [
        (RED, (PLANNED,), True), (RED, (), False), (RED, (REACHED,), False), (BLUE, (SWITCHED, PLANNED), True),
        (BLUE, (REACHED, COMPLETE), False), (BLUE, (), False), (None, (SWITCHED, COMPLETE), False), DOWN,
    ],
    # Red and the task are claimed without being done.
    1: [(RED, (PLANNED,), False), (None, (REACHED, SWITCHED, COMPLETE), False), (None, (COMPLETE,), False), DOWN],
    # Both are done under words of no subtask, and nothing is claimed.
    2: [("tidy up", (PLANNED,), True), ("tidy up", (), True), ("tidy up", (), False)],
}  # fmt: skip


def make(config: CompletionConfig, source: Any) -> Scripted:
    return Scripted(SCRIPTS)


def measured(out: Path, **changes: Any) -> dict[str, Any]:
    config = CompletionConfig(**({"env": "fake", "tasks": ["both"], "n": 3, "workers": 0, "out": out} | changes))
    return completion(config, make)


def test_figures_of_whole_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = measured(tmp_path)
    reached, complete, confirmed = summary["reached"], summary["complete"], summary["confirmed"]
    assert reached["precision"]["text"].endswith("(2/3)") and reached["recall"]["text"].endswith("(2/2)")
    assert reached["delay_s"] == {"median": 0.25, "p90": pytest.approx(0.45), "n": 2}
    assert (reached["false"], reached["missed"], reached["of_unknown_words"]) == (1, 0, 1)
    for kind, delay in ((complete, 0.0), (confirmed, 1.0)):
        assert kind["precision"]["text"].endswith("(1/2)") and kind["recall"]["text"].endswith("(1/2)")
        assert (kind["delay_s"]["median"], kind["early"]) == (delay, 0)
    assert summary["success"]["text"].endswith("(2/3)")
    wrong = [(one["claim"], one["error"], one["index"], one["claimed_s"]) for one in summary["wrong"]]
    assert wrong == [
        ("reached", "false", 1, 0.5),
        ("complete", "false", 1, 0.5),
        ("confirmed", "false", 1, 1.0),
        ("complete", "missed", 2, None),
        ("confirmed", "missed", 2, None),
    ]
    assert json.loads((tmp_path / "completion.json").read_text())["per_task"]["both"]["complete"] == complete
    assert "success 66.7%" in capsys.readouterr().out


class Silent(fakes.FakeEnvironment):
    holds = None  # pyright: ignore[reportAssignmentType]


def test_an_environment_that_judges_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.FakeSuite, "open", lambda suite, task, split: Silent(task))
    with pytest.raises(InvalidValueError, match="measuring completion needs a judgement of any subtask, which"):
        measured(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("goal", [GoalMode.NONE, GoalMode.ORACLE])
def test_a_goal_without_a_planner_is_refused(tmp_path: Path, goal: GoalMode) -> None:
    with pytest.raises(ConfigError, match=f"goal={goal} claims nothing of its own; .* needs planner, text or auto"):
        measured(tmp_path, goal=goal)


def test_the_expert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policy=expert claims nothing"):
        measured(tmp_path, policy="expert")
