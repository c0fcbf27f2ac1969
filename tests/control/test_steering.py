"""An arm that gets other instructions while it moves: the new plan begins at once, and every file is closed."""

import numpy as np
import pytest
from test_episode_loop import Counter, Repeat

from emu_robot.control.episode_loop import COMPLETE_PATIENCE, Ending, Subscriber
from emu_robot.control.steering import Order, RealTime, SteeringSubscriber, run_steered
from emu_robot.core import ActionChunk, PlanStep, PolicyEvent, Steerable
from emu_robot.errors import InvalidValueError, WeightsError


class Obeys:
    """Moves by the number that its instruction names, in chunks of 8; an odd number that it does not know fails."""

    def reset(self, instruction):
        self.instruct(instruction)

    def instruct(self, instruction):
        self.instruction, self.is_new = instruction, True

    def act(self, observation):
        assert observation.images, "a plan is made from a full observation"
        if self.instruction == "fly":
            raise WeightsError("no plan for fly")
        events, self.is_new = (PolicyEvent.PLANNED,) * self.is_new, False
        step = PlanStep(subtask=self.instruction) if self.instruction else None
        value = {"count": 1.0, "": 0.0, "rest": 0.0}.get(self.instruction, 2.0)
        if self.instruction == "rest":
            step, events = None, (PolicyEvent.COMPLETE,)
        return ActionChunk(actions=np.full((8, 1), value, np.float32), step=step, events=events)


class Script:
    """Orders by tick. `over`: ticks at which the present instruction was over."""

    def __init__(self, until, **orders):
        self.orders = {int(tick[1:]): order for tick, order in orders.items()}
        self.until, self.over = until, []

    def next(self, tick, *, is_over):
        if is_over:
            self.over.append(tick)
        order = self.orders.pop(tick, None)
        return Order(quits=True) if tick == self.until else None if order is None else Order(order)


class Log(SteeringSubscriber):
    def __init__(self):
        self.actions, self.words, self.problems, self.ended = [], [], [], None

    def on_instruct(self, tick, instruction):
        self.words.append((tick, instruction))

    def on_chunk(self, tick, observation, chunk):
        self.words.append((tick, chunk.step and chunk.step.subtask))

    def on_problem(self, tick, problem):
        self.problems.append((tick, problem))

    def on_transition(self, tick, action, transition):
        self.actions.append(float(action[0]))

    def on_end(self, result, observation):
        assert observation.images
        self.ended = result


def test_another_instruction_rules_from_the_next_tick_on():
    log = Log()
    assert isinstance(Obeys(), Steerable) and not isinstance(Repeat(), Steerable)
    result = run_steered(Counter(target=1e9), Obeys(), 0, Script(20, t11="twice", t14=""), [log])
    assert log.actions == [1.0] * 11 + [2.0] * 3 + [0.0] * 6  # the chunks of ticks 8 and 11 are cut off
    assert log.words == [(0, "count"), (8, "count"), (11, "twice"), (11, "twice"), (14, ""), (14, None)]
    assert log.ended is result and result.ending is Ending.QUIT and result.n_steps == 20
    assert result.events == ((0, PolicyEvent.PLANNED), (11, PolicyEvent.PLANNED), (14, PolicyEvent.PLANNED))


def test_an_instruction_is_over_after_a_rest_or_the_time_of_an_episode():
    script = Script(320, t10="rest", t100="twice")
    run_steered(Counter(target=1e9), Obeys(), 0, script)
    assert script.over[0] == 10 + COMPLETE_PATIENCE
    assert next(tick for tick in script.over if tick > 100) == 100 + Counter.max_steps


def test_what_the_policy_cannot_follow_is_told_and_held():
    log = Log()
    run_steered(Counter(), Obeys(), 0, Script(20, t3="fly", t10="twice"), [log, Subscriber()])
    assert log.problems == [(3, "no plan for fly")]
    assert log.actions == [1.0] * 3 + [0.0] * 7 + [2.0] * 10


def test_a_policy_without_other_instructions_is_refused_and_files_are_closed():
    log = Log()
    with pytest.raises(InvalidValueError, match="Repeat takes no other instruction"):
        run_steered(Counter(), Repeat(), 0, Script(9, t2="twice"), [log])
    assert log.ended is not None and log.ended.n_steps == 2

    class Interrupts(Script):
        def next(self, tick, *, is_over):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_steered(Counter(), Obeys(), 0, Interrupts(0), [log])
    assert log.ended.n_steps == 0


def test_real_time_waits_and_does_not_catch_up(monkeypatch):
    now = [10.0]
    monkeypatch.setattr("emu_robot.control.steering.time.monotonic", lambda: now[0])
    monkeypatch.setattr("emu_robot.control.steering.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    pace, ends = RealTime(20), []
    for tick, works in enumerate((0.01, 0.01, 0.30, 0.01)):
        now[0] += works
        pace(tick)
        ends.append(round(now[0] - 10, 3))
    assert ends == [0.05, 0.1, 0.4, 0.45]
