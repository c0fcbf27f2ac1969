"""`emu-robot demo interactive=true`: typed words change the plan while the arm moves, and the session is written."""

import json
import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
from test_typed_orders import written

from emu_robot.cli import main as cli
from emu_robot.config import load_config
from emu_robot.core import ActionChunk, PlanStep, PolicyEvent
from emu_robot.errors import ConfigError
from emu_robot.evaluation.interactive import interactive


class Obeys:
    """Says its instruction as the subtask."""

    def __init__(self, config, source):
        pass

    def seed(self, seed):
        pass

    def reset(self, instruction):
        self.instruct(instruction)

    def instruct(self, instruction):
        self.instruction, self.is_new, self.said = instruction, bool(instruction), ""

    def coach(self, subtask):
        self.said, self.is_new = subtask, True

    def act(self, observation):
        events, self.is_new = (PolicyEvent.PLANNED,) * self.is_new, False
        step = PlanStep(subtask=self.said or f"do: {self.instruction}", subgoal=observation.images["front"])
        actions = np.ones((8, 8), np.float32)
        return ActionChunk(actions=actions, step=step if self.instruction else None, events=events)


def test_every_instruction_has_its_subtask_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emu_robot.evaluation.interactive.check_fit", lambda config: None)
    settings = ["interactive=true", "env=fake", "tasks=both", "goal=planner", f"out={tmp_path}"]
    with written("wait 0.25\nfirst <this>\nwait 0.1\n\nwait 0.1\nthen that\nwait 0.1\nquit\n") as stream:
        page = interactive(load_config("demo", settings), Obeys, stream)
    session = json.loads((tmp_path / "session.json").read_text())
    own = "put everything on the plate"
    assert [what for _, what in session["lines"]] == [
        f"instruction: {own}", f"subtask: do: {own} (a new instruction)",
        "instruction: first <this>", "subtask: do: first <this> (a new instruction)", "holding still",
        "instruction: then that", "subtask: do: then that (a new instruction)", "end",
    ]  # fmt: skip
    times = [at for at, _ in session["lines"]]
    assert times[2] == times[3] and times[5] == times[6] and 0.25 <= times[2] <= 0.35
    assert [words for _, words in session["subtasks"]] == [f"do: {own}", "do: first <this>", None, "do: then that"]
    html = page.read_text()
    assert "first &lt;this&gt;" in html and "data:video/mp4" in html and html.count("data:image/jpeg") == 11
    assert "   0.00 s  instruction: put everything" in capsys.readouterr().out


def test_a_typed_subtask_takes_the_planners_place_and_is_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr("emu_robot.evaluation.interactive.check_fit", lambda config: None)
    settings = ["interactive=true", "env=fake", "tasks=both", "goal=planner", f"out={tmp_path}"]
    text = "wait 0.1\n/subtask wave\nwait 0.1\n/subtask\nwait 0.1\nstop\n/subtask wave\nquit\n"
    with written(text) as stream:
        interactive(load_config("demo", settings), Obeys, stream)
    own = "do: put everything on the plate"
    session = json.loads((tmp_path / "session.json").read_text())
    assert [what for _, what in session["lines"]][1:] == [
        f"subtask: {own} (a new instruction)",
        "you say the subtask: wave", "subtask: wave (as you said)",
        "the planner chooses the subtask", f"subtask: {own} (the planner chooses again)",
        "holding still", "cannot follow it: no instruction is followed; give one before a subtask", "end",
    ]  # fmt: skip


def test_what_follows_the_environment_is_not_steered():
    for given in ("policy=expert", "goal=oracle"):
        with pytest.raises(ConfigError, match=f"interactive=true: {given} takes no other instruction"):
            load_config("demo", ["interactive=true", given])
    with pytest.raises(ConfigError, match="n has no effect: interactive=true plays one scene"):
        load_config("demo", ["interactive=true", "n=3"])


def test_the_released_policy_plans_for_piped_words_within_the_tick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with written("wait 1\nput the red can in the drawer\nwait 0.6\nstop\nwait 0.5\nquit\n") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli.main(["demo", "interactive=true", "tasks=close_drawer"]) == 0
    folder = tmp_path / "outputs/interactive"  # not that of a demo without interactive
    lines = json.loads((folder / "session.json").read_text())["lines"]
    told = next(i for i, (_, what) in enumerate(lines) if what == "instruction: put the red can in the drawer")
    assert lines[1][1] == "subtask: close the drawer (a new instruction)"
    assert lines[told + 1] == [lines[told][0], "subtask: put the red can in the drawer (a new instruction)"]
    assert (folder / "session.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_a_terminal_steers_in_real_time(tmp_path):
    ours, theirs = pty.openpty()
    words = ["demo", "interactive=true", f"out={tmp_path}"]
    command = [sys.executable, "-c", f"import sys; from emu_robot.cli.main import main; sys.exit(main({words}))"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        assert process.stdout is not None
        printed = process.stdout

        def simulated(words: str) -> float:
            """Time [s] of the next printed line with these words."""
            for line in printed:
                if words in line:
                    return float(line.split(" s ")[0])
            raise AssertionError(words)

        assert simulated("subtask: ") == 0
        begun = time.monotonic()
        time.sleep(1)
        os.write(ours, b"open the drawer\n")
        told = simulated("instruction: open the drawer")
        assert simulated("(a new instruction)") - told < 0.4  # the horizon of an executed chunk
        assert 0 < told <= time.monotonic() - begun + 0.1  # it does not run ahead of the clock
        os.write(ours, b"quit\n")
        assert process.wait(60) == 0 and "report" in printed.read()
    os.close(ours)
