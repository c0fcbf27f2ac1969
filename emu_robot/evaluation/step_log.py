"""Follows the plan steps of an episode: view before, predicted subgoal, view achieved, and the true words."""

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from emu_robot.control.episode_loop import EpisodeResult, Subscriber
from emu_robot.core import ActionChunk, Floats32, Image, Observation, PlanStep, Transition
from emu_robot.environments.capabilities import HasSubtasks, due_subtask
from emu_robot.environments.contract import Environment
from emu_robot.evaluation.records import StepRecord
from emu_robot.shared.words import same_words

MAX_PICTURED = 16
"""Most plan steps of one episode with pictures, so that a policy that always replans does not fill the disk."""

TRUTH_GRACE = 20
"""Ticks within which a subtask may still become the due one. A policy may move on while the arm returns home."""


class StepLog(Subscriber):
    """Collects a `StepRecord` per pursued plan step.

    Pictures are written as `folder/stem-<step>-<which>.jpg`; the records name them relative to `folder`'s parent.
    Without a folder there are no pictures.
    """

    def __init__(self, environment: Environment, *, folder: Path | None = None, stem: str = "") -> None:
        self._environment, self._camera = environment, environment.spec.planner_camera
        self._folder, self._stem = folder, stem
        self.steps: list[StepRecord] = []
        self._pursued: PlanStep | None = None
        self._opened: tuple[int, str | None, tuple[bool, ...], Image] | None = None
        self._done: tuple[bool, ...] = ()
        self._tick = 0
        self._is_steered = False

    @property
    def _truth(self) -> str | None:
        return None if self._is_steered else due_subtask(self._environment)

    def on_instruct(self, tick: int, instruction: str) -> None:
        self._is_steered = True  # the environment knows the subtasks of its own instruction alone

    def on_chunk(self, tick: int, observation: Observation, chunk: ActionChunk) -> None:
        if self._opened is not None and same_step(self._pursued, chunk.step):
            return
        self._close(tick, observation)
        self._pursued = chunk.step
        self._opened = (tick, self._truth, self._done, observation.images[self._camera])

    def on_transition(self, tick: int, action: Floats32, transition: Transition) -> None:
        self._tick, self._done = tick, transition.subtasks_done
        if self._opened is not None and self._pursued is not None and tick - self._opened[0] <= TRUTH_GRACE:
            first_tick, truth, done_then, before = self._opened
            words = self._pursued.subtask
            if not same_words(truth, words) and same_words(self._truth, words):
                self._opened = (first_tick, self._truth, self._done or done_then, before)

    def on_end(self, result: EpisodeResult, observation: Observation) -> None:
        self._done = result.subtasks_done
        self._close(self._tick, observation)

    def _close(self, tick: int, observation: Observation) -> None:
        if self._opened is None:
            return
        first_tick, truth, done_then, before = self._opened
        words = self._pursued.subtask if self._pursued else None
        subgoal = self._pursued.subgoal if self._pursued else None
        done_then = done_then or (False,) * len(self._done)
        newly = [k for k, (then, now) in enumerate(zip(done_then, self._done, strict=True)) if now and not then]
        texts = subtask_texts(self._environment)
        reached = any(words is None or not texts or same_words(texts[k], words) for k in newly)
        self.steps.append(
            StepRecord(
                subtask=words,
                truth=truth,
                first_tick=first_tick,
                last_tick=tick,
                reached=reached,
                before=self._save("before", before),
                predicted=self._save("predicted", subgoal),
                achieved=self._save("achieved", observation.images[self._camera]),
            )
        )
        self._opened = None

    def _save(self, which: str, image: Image | None) -> str | None:
        k = len(self.steps)
        if self._folder is None or image is None or k >= MAX_PICTURED:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._stem}-{k}-{which}.jpg"
        PillowImage.fromarray(image).save(path, quality=92, subsampling=0)
        return f"{self._folder.name}/{path.name}"


def same_step(a: PlanStep | None, b: PlanStep | None) -> bool:
    """Whether two plan steps have equal words and equal subgoals."""
    if a is None or b is None:
        return a is b
    if not same_words(a.subtask, b.subtask) or (a.subgoal is None) != (b.subgoal is None):
        return False
    return a.subgoal is b.subgoal or bool(np.array_equal(a.subgoal, b.subgoal))  # type: ignore[arg-type]


def subtask_texts(environment: Environment) -> tuple[str, ...]:
    """The words of the true subtasks; empty if the environment does not tell them."""
    return environment.subtasks if isinstance(environment, HasSubtasks) else ()
