"""`emu-robot demo interactive=true`: one scene in which the arm follows instructions that come while it moves."""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TextIO

from emu_robot.control.episode_loop import EpisodeResult
from emu_robot.control.steering import RealTime, SteeringSubscriber, no_pace, run_steered
from emu_robot.core import ActionChunk, Observation, PolicyEvent, Seeded
from emu_robot.environments.contract import open_task
from emu_robot.evaluation import worker
from emu_robot.evaluation.config import DemoConfig
from emu_robot.evaluation.fit import check_fit, with_goal
from emu_robot.evaluation.made_with import made_with
from emu_robot.evaluation.step_log import StepLog
from emu_robot.evaluation.typed_orders import HELP, TypedOrders
from emu_robot.evaluation.video import ClipRecorder
from emu_robot.shared.files import replace_json, require_own_folder
from emu_robot.shared.html import file_url, write_html

SESSION = "session.json"
"""File in the folder of a session that says how it was made and what happened."""


class Narrator(SteeringSubscriber):
    """Says in words what the policy decides, and why. `lines`: (time [s], what) of all that it said."""

    def __init__(self, control_hz: int, problem: object) -> None:
        """problem: has the attribute `problem` if its last plan failed, as `EmuPolicy` has."""
        self._control_hz, self._policy = control_hz, problem
        self._why = "a new instruction"
        self._subtask = ""
        self.lines: list[tuple[float, str]] = []

    def on_reset(self, instruction: str, seed: int, observation: Observation) -> None:
        self._say(0, f"instruction: {instruction}")

    def on_instruct(self, tick: int, instruction: str) -> None:
        self._why = "a new instruction"
        self._say(tick, f"instruction: {instruction}" if instruction else "holding still")

    def on_coach(self, tick: int, subtask: str) -> None:
        self._why = "as you said" if subtask else "the planner chooses again"
        self._say(tick, f"you say the subtask: {subtask}" if subtask else "the planner chooses the subtask")

    def on_problem(self, tick: int, problem: str) -> None:
        self._say(tick, f"cannot follow it: {problem}")

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        for event in chunk.events:
            match event:
                case PolicyEvent.SWITCHED:
                    self._say(tick, f"reached: {self._subtask}")
                    self._why = "the one before is reached"
                case PolicyEvent.TIMEOUT:
                    self._say(tick, f"overdue: {self._subtask}")
                    self._why = "the one before took too long"
                case PolicyEvent.PLANNED:
                    self._subtask = chunk.step.subtask if chunk.step is not None else ""
                    self._say(tick, f"subtask: {self._subtask} ({self._why})")
                    self._why = "planned again"
                case PolicyEvent.COMPLETE:
                    self._say(tick, "complete: the planner names no further subtask")
                    self._why = "looked again, and there is more to do"
                case PolicyEvent.PLAN_FAILED:
                    self._say(tick, f"no plan: {getattr(self._policy, 'problem', '')}")
                    self._why = "the plan before failed"

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        self._say(result.n_steps, "end")

    def _say(self, tick: int, what: str) -> None:
        self.lines.append((tick / self._control_hz, what))
        print(f"{tick / self._control_hz:7.2f} s  {what}", flush=True)


def interactive(
    config: DemoConfig, make_policy: worker.PolicyFactory = worker.load_policy, stream: TextIO | None = None
) -> Path:
    """Play one scene until a line of `stream` (the standard input) quits or the stream ends.

    It goes in real time on a terminal, else as fast as it can. Prints every decision of the policy; writes
    `session.html`, `session.json` and a clip into `config.out`, and returns the path of the first.
    Raises the errors of `check_fit`, and `InvalidValueError` for a policy that takes no other instruction.
    """
    source: TextIO = stream or sys.stdin
    require_own_folder(config.out, SESSION, "interactive session")
    config = with_goal(config)
    check_fit(config)
    task, seed, folder = config.selected()[0], config.episode_seed(0), config.out / "pictures"
    for stale in folder.glob("*"):
        stale.unlink()
    made, control_hz = made_with(config), config.suite().spec.control_hz
    replace_json(config.out / SESSION, config.settings() | {"made_with": made})
    orders = TypedOrders(source, control_hz)
    with closing(open_task(config.suite(), task.name, config.split)) as world:
        policy = make_policy(config, lambda: None)
        if isinstance(policy, Seeded):
            policy.seed(seed)
        narrator, log = Narrator(control_hz, policy), StepLog(world, folder=folder, stem="step")
        clip = ClipRecorder(world, config.out / "session.mp4")
        pace = RealTime(control_hz) if source.isatty() else no_pace
        run = partial(run_steered, n_action_steps=config.n_action_steps, pace=pace)
        print(HELP)
        try:
            run(world, policy, seed, orders, [narrator, log, clip])
        finally:
            steps = [(step.first_tick / control_hz, step) for step in log.steps]
            record = {"lines": narrator.lines, "subtasks": [[at, step.subtask] for at, step in steps]}
            replace_json(config.out / SESSION, config.settings() | {"made_with": made, "seed": seed} | record)
            page = write_html(
                config.out / "session.html",
                Path(__file__).with_name("session.html.j2"),
                media=lambda name: file_url(config.out / name),
                config=config,
                seed=seed,
                lines=narrator.lines,
                steps=steps,
                clip="session.mp4",
            )
            print(f"report {page}")
    return page
