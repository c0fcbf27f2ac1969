"""What a board makes of news, and how it is written for a page."""

import json

import numpy as np
import pytest
from watch_page import NAMES, STEPS, painted, told

from emu_robot.core import PlanStep
from emu_robot.watch.board import MOST_STEPS, Board
from emu_robot.watch.messages import FIRST_STEP, FIRST_TO_COME, pictures, write_thought
from emu_robot.watch.thought import Ending, Gate, Mind


def colour(image: np.ndarray | None) -> tuple[int, ...]:
    assert image is not None
    return tuple(image[0, 0].tolist())


def test_each_subtask_keeps_what_was_seen_before_predicted_and_achieved() -> None:
    view = told().view
    first, second = view.steps
    assert (first.words, second.words) == STEPS[:2]
    assert (first.ending, second.ending) == (Ending.REACHED, None)
    assert colour(first.before) == (200, 0, 0) and colour(first.predicted) == (200, 200, 0)
    assert colour(first.achieved) == colour(second.before) == (0, 200, 0)
    assert first.lasts_s == pytest.approx(3.0) and second.begun_s == pytest.approx(3.0)
    assert len(first.progress) == 8 and second.progress[-1] == pytest.approx(0.4)
    assert [step.subtask for step in view.to_come] == [STEPS[2]]
    assert view.mind is Mind.PURSUES and view.done == (1, 3)


def test_a_chunk_is_executed_as_time_goes_on() -> None:
    board = told()
    chunk = board.view.chunk
    assert chunk is not None and chunk.executed == 4 and chunk.actions.shape == (16, 8)
    board.tick(14.44)
    assert board.view.chunk is not None and board.view.chunk.executed == 8
    board.tick(99.0)
    assert board.view.chunk is not None and board.view.chunk.executed == 16


def test_a_new_subtask_ends_the_one_before_and_forgets_what_was_expected() -> None:
    board = told()
    board.plan(PlanStep(subtask="wait"), 15.0)
    view = board.view
    assert [step.ending for step in view.steps] == [Ending.REACHED, Ending.LEFT, None]
    assert view.to_come == () and view.steps[-1].predicted is None


def test_a_complete_task_is_told_once_and_its_last_step_is_reached() -> None:
    board = told()
    for now in (15.0, 16.0):
        board.complete(now)
    view = board.view
    assert view.mind is Mind.COMPLETE and view.steps[-1].ending is Ending.REACHED
    assert [words for _, words in view.lines].count("complete: no further subtask") == 1


def test_another_task_begins_with_an_empty_plan() -> None:
    board = told()
    board.begin("open the drawer", 20.0)
    view = board.view
    assert (view.number, view.task, view.steps, view.chunk, view.done) == (2, "open the drawer", (), None, None)
    assert view.seconds == 0 and view.lines == ((0.0, "task: open the drawer"),)
    assert set(view.pictures) == {"front", "wrist"}


def test_the_gate_is_told_when_it_changes() -> None:
    board = told()
    for count in (13, 14):
        board.gate(Gate(state="holding", reason="no action left", counts={"chunk taken": count}), 15.0)
    lines = [words for _, words in board.view.lines]
    assert lines.count("gate: holding, no action left") == 1
    assert board.view.gate.counts == {"chunk taken": 14}


def test_progress_of_no_subtask_is_not_kept() -> None:
    board = told()
    board.end_step(Ending.OVERDUE, 15.0)
    board.progress(0.9, 15.1)
    assert 0.9 not in board.view.steps[-1].progress


def test_delays_have_a_median() -> None:
    board = told()
    for value in (0.03, 0.05):
        board.took("chunk", value, 15.0)
    (delay,) = board.view.delays
    assert (delay.name, delay.n, delay.last_s, delay.median_s) == ("chunk", 3, 0.05, 0.03)


def test_watchers_hear_of_every_change_until_they_leave() -> None:
    board, heard = told(), []
    on_change = lambda: heard.append(board.view.seconds)  # noqa: E731
    board.watch(on_change)
    board.tick(15.0)
    board.say("look", 16.0)
    board.unwatch(on_change)
    board.tick(17.0)
    assert heard == [5.0, 6.0]


def test_a_thought_is_json_and_its_pictures_have_slots_of_one_byte() -> None:
    board = told()
    board.move(np.array([np.nan, 1.0]), 14.3)
    written = json.loads(json.dumps(write_thought(board.view), allow_nan=False))
    assert written["position"] == [None, 1.0] and written["chunk"]["names"] == list(NAMES)
    assert [step["ending"] for step in written["steps"]] == ["reached", ""]
    slots = dict(pictures(board.view))
    assert colour(slots[0]) == (0, 200, 0) and colour(slots[FIRST_TO_COME]) == (200, 0, 200)
    assert colour(slots[FIRST_STEP + 3 + 1]) == (0, 200, 200)
    for i in range(3 * MOST_STEPS):
        board.plan(PlanStep(subtask=f"step {i}", subgoal=painted(1, 1, 1)), 20.0)
    board.expect([PlanStep(subtask="later", subgoal=painted(1, 1, 1))] * 100, 20.0)
    slots = [slot for slot, _ in pictures(board.view)]
    assert len(slots) == len(set(slots)) and max(slots) <= 255
    assert len(board.view.steps) == MOST_STEPS and board.view.steps[-1].words == f"step {3 * MOST_STEPS - 1}"


def test_a_board_without_news_has_a_view() -> None:
    view = Board("nothing", planner_camera="front", foresees=False).view
    assert (view.task, view.number, view.steps, view.mind) == ("", 0, (), Mind.IDLE)
    json.dumps(write_thought(view), allow_nan=False)
