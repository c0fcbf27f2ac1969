"""The flow of episodes: preflight, countdown, recording, outcome. Knows a recorder only by its protocol."""

from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from emu_robot.core import Floats, Observation
from emu_robot.errors import EmuRobotError
from emu_robot.recording.messages import Frame, Outcome
from emu_robot.teleop.desk import Order, OrderKind
from emu_robot.teleop.recorder import Recorder


class Phase(StrEnum):
    """Where an episode is."""

    IDLE = "idle"
    """None runs."""
    COUNTDOWN = "countdown"
    """It begins in a moment."""
    RECORDING = "recording"
    """Every tick is recorded."""


class Episodes:
    """Takes the operator's orders and every tick's frame; starts, marks and ends episodes.

    said: the last thing worth telling the operator. An error of the recorder ends the episode, never the control.
    """

    def __init__(self, recorder: Recorder | None, *, countdown_s: float) -> None:
        """recorder: None to drive without recording. countdown_s: time from the order to the first frame [s]."""
        self._recorder, self._countdown_s = recorder, countdown_s
        self.phase, self.said = Phase.IDLE, ""
        self.task, self.subtasks, self.step = "", (), 0
        self.n_frames = self.n_overruns = 0
        self._begins_at = 0.0

    @property
    def recorder(self) -> Recorder | None:
        """The recorder; None without one."""
        return self._recorder

    @property
    def subtask(self) -> str:
        """Words of the present subtask; empty if not known."""
        return self.subtasks[self.step] if self.step < len(self.subtasks) else ""

    def begins_in(self, now: float) -> float:
        """Seconds to the first frame; 0 outside a countdown."""
        return max(self._begins_at - now, 0.0) if self.phase is Phase.COUNTDOWN else 0.0

    def lay(self, task: str, subtasks: tuple[str, ...]) -> None:
        """Another scene, with its task."""
        self.task, self.subtasks, self.step = task, subtasks, 0

    def order(
        self, order: Order, observation: Observation | None, ages_s: Mapping[str, float], now: float
    ) -> OrderKind | None:
        """Follow an order. Returns the order that ended or discarded an episode; None for others.

        ages_s: age of each camera's picture [s].
        """
        try:
            return self._follow(order, observation, ages_s, now)
        except EmuRobotError as error:
            self._give_up(error)
            return None

    def want(self, subtask: str) -> None:
        """What a policy wants now, in words; it is the present subtask."""
        if not subtask or subtask == self.subtask:
            return
        if self.phase is not Phase.RECORDING or self._recorder is None:
            self.subtasks, self.step = (subtask,), 0
            return
        self.subtasks, self.step = (*self.subtasks[: self.step + 1], subtask), len(self.subtasks[: self.step + 1])
        try:
            self._recorder.mark(subtask)
        except EmuRobotError as error:
            self._give_up(error)

    def add(
        self, observation: Observation, action: Floats, now: float, *, is_overrun: bool, intervention: bool = False
    ) -> None:
        """Take one tick. intervention: whether a person corrects a policy."""
        recorder = self._recorder
        if recorder is None or self.phase is Phase.IDLE:
            return
        try:
            if self.phase is Phase.COUNTDOWN:
                if now < self._begins_at:
                    return
                self._begin(recorder)
            recorder.add(
                Frame(
                    observation=observation,
                    action=action.astype(np.float32),
                    stamp_s=now,
                    intervention=intervention,
                    is_overrun=is_overrun,
                )
            )
            self.n_frames += 1
            self.n_overruns += is_overrun
        except EmuRobotError as error:
            self._give_up(error)

    def _begin(self, recorder: Recorder) -> None:
        recorder.start(self.task)
        if self.subtask:
            recorder.mark(self.subtask)
        self.phase, self.said = Phase.RECORDING, "recording"

    def _follow(
        self, order: Order, observation: Observation | None, ages_s: Mapping[str, float], now: float
    ) -> OrderKind | None:
        match order.kind:
            case OrderKind.TASK if self.phase is Phase.IDLE:
                self.task, self.subtasks, self.step = order.text, (), 0
            case OrderKind.TASK:
                self.said = "the task cannot change during an episode"
            case OrderKind.START:
                self._start(observation, ages_s, now)
            case OrderKind.DISCARD if self.phase is Phase.COUNTDOWN:
                self.phase, self.said = Phase.IDLE, "not started"
            case OrderKind.SUCCESS | OrderKind.FAILURE | OrderKind.DISCARD if self.phase is Phase.RECORDING:
                return self._end(order)
            case OrderKind.NEXT if self.phase is Phase.RECORDING:
                self._next(order.text)
            case OrderKind.FLAG if self.phase is Phase.RECORDING and self._recorder is not None:
                self._recorder.flag(order.text or "flagged")
                self.said = f"flagged: {order.text}" if order.text else "flagged"
            case _:
                self.said = f"{order.kind.value}: no episode is being recorded"
        return None

    def _start(self, observation: Observation | None, ages_s: Mapping[str, float], now: float) -> None:
        if self._recorder is None:
            self.said = "nothing is recorded in this session: it was started without out="
        elif self.phase is not Phase.IDLE:
            self.said = "an episode runs already"
        elif not self.task:
            self.said = "name the task first"
        elif observation is None:
            self.said = "no pictures yet"
        elif problems := self._recorder.preflight(observation, ages_s):
            self.said = f"not started: {'; '.join(problems)}"
        else:
            self.phase, self.said, self._begins_at = Phase.COUNTDOWN, "get ready", now + self._countdown_s
            self.n_frames = self.n_overruns = self.step = 0

    def _end(self, order: Order) -> OrderKind:
        assert self._recorder is not None
        if order.kind is OrderKind.DISCARD:
            self._recorder.discard()
            self.said = "discarded; ready to record it again"
        else:
            outcome = Outcome.success if order.kind is OrderKind.SUCCESS else Outcome.failure
            self._recorder.end(outcome, order.text)
            cause = f" ({order.text})" if order.text else ""
            self.said = f"{outcome.value}{cause}, {self.n_frames} frames"
        self.phase = Phase.IDLE
        return order.kind

    def _next(self, words: str) -> None:
        assert self._recorder is not None
        following = self.step + 1 if self.subtasks else 0
        if words:
            self.subtasks = (*self.subtasks[:following], words, *self.subtasks[following:])
        if following >= len(self.subtasks):
            self.said = "this was the last subtask; type the words of another one"
            return
        self.step = following
        self._recorder.mark(self.subtask)
        self.said = f"subtask: {self.subtask}"

    def _give_up(self, error: EmuRobotError) -> None:
        """End the episode because of the recorder; control goes on."""
        ran, self.phase, self.said = self.phase, Phase.IDLE, f"recording ended: {error}"
        if ran is Phase.RECORDING and self._recorder is not None:
            try:
                self._recorder.discard()
            except EmuRobotError as again:
                self.said = f"{self.said}; {again}"
