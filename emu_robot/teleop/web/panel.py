"""The panel of a page in space: cameras and episode, made of viser's controls. Each page has its own."""

import html
from collections.abc import Mapping

import numpy as np
import viser

from emu_robot.core import Image
from emu_robot.teleop.desk import OrderKind
from emu_robot.teleop.episodes import Phase
from emu_robot.teleop.view import View
from emu_robot.teleop.web.messages import JPEG_QUALITY
from emu_robot.teleop.web.seat import Seat

CAUSES = ("no cause given", "missed grasp", "dropped", "wrong object", "wrong plan step", "collision", "timeout")
"""Causes of a failure, none first."""
BEGIN = {"Record": OrderKind.START, "New scene": OrderKind.SCENE}
END = {"Success": OrderKind.SUCCESS, "Failure": OrderKind.FAILURE, "Discard": OrderKind.DISCARD}
MARK = {"Next subtask": OrderKind.NEXT, "Note": OrderKind.FLAG}
POLICY = {"Pause / go on": OrderKind.PAUSE, "Take over": OrderKind.TAKE, "Correct": OrderKind.CORRECT}
COACH = {"Let the policy do it": OrderKind.SUBTASK}
TASK = {"Set": OrderKind.TASK, "Hand over the arm": OrderKind.RELEASE}
"""Buttons of each row, and what they order."""


class Panel:
    """Shows views, and passes the operator's orders to the seat."""

    def __init__(self, gui: viser.GuiApi, seat: Seat) -> None:
        self._gui, self._seat = gui, seat
        self._cameras: viser.GuiImageHandle | None = None
        self._pictures: Mapping[str, Image] = {}
        self._row: Image = np.zeros((0, 0, 3), np.uint8)
        self._shown: dict[int, str] = {}
        self._policy: viser.GuiHtmlHandle | None = None
        self._clock = gui.add_html("", order=2)
        self._steps = gui.add_html("", order=3)
        self._buttons("Episode", BEGIN, "R records", 4)
        self._buttons("It ends", END, "Enter: success. F: failure, for the cause below. Backspace: discard", 5)
        self._cause = gui.add_dropdown("Cause", CAUSES, hint="of a failure", order=6)
        self._said = gui.add_html("", order=7)
        self._words = gui.add_text("Words", "", hint="of the next subtask, or of a note", order=8)
        self._buttons("Mark", MARK, "N: next subtask. X: note", 9)
        self._task = gui.add_text("Task", "", hint="in words", order=10)
        self._buttons("", TASK, None, 11)
        for box in (self._cause, self._words, self._task):
            box.on_update(self._read)

    def show(self, view: View) -> None:
        """Show what changed."""
        self._show_pictures(view.pictures)
        self._put(self._clock, _clock(view))
        self._put(self._steps, _steps(view))
        self._show_policy(view)
        done = " (the scene says: done)" if view.succeeds else ""
        self._put(self._said, f'<p class="said">{html.escape(view.said)}{done}</p>')
        if self._shown.get(id(self._task)) != view.task:  # only then, or it would overwrite what is being typed
            self._shown[id(self._task)] = self._task.value = view.task
            self._seat.texts[OrderKind.TASK] = view.task

    def _show_policy(self, view: View) -> None:
        """Who has the arm, and the orders to a policy; nothing in a session without one."""
        if view.policy is None:
            return
        if self._policy is None:
            self._policy = self._gui.add_html("", order=3.2)
            self._buttons("Policy", POLICY, "P, T, C", 3.4)
            self._buttons("", COACH, "the policy pursues the words below; none: the planner's again", 9.5)
        coached = f", your words: {html.escape(view.coached)}" if view.coached else ""
        self._put(self._policy, f'<p class="policy {view.policy.value}"><b>{view.policy.value}</b>{coached}</p>')

    def _put(self, element: viser.GuiHtmlHandle, content: str) -> None:
        if self._shown.get(id(element)) != content:
            self._shown[id(element)] = element.content = content

    def _show_pictures(self, pictures: Mapping[str, Image]) -> None:
        if not pictures or pictures is self._pictures:
            return
        self._pictures, row = pictures, side_by_side(list(pictures.values()))
        if np.array_equal(row, self._row):  # nothing moves: the page has no work
            return
        self._row = row
        if self._cameras is None:
            label = "Cameras: " + ", ".join(pictures)
            self._cameras = self._gui.add_image(row, label=label, format="jpeg", jpeg_quality=JPEG_QUALITY, order=1)
        else:
            self._cameras.image = row

    def _buttons(self, label: str, row: Mapping[str, OrderKind], hint: str | None, order: float) -> None:
        group = self._gui.add_button_group(label, tuple(row), hint=hint, order=order)

        @group.on_click
        async def _(event: viser.GuiEvent[viser.GuiButtonGroupHandle]) -> None:
            kind = row[event.target.value]
            self._seat.order(kind, None)
            if kind in (OrderKind.NEXT, OrderKind.FLAG, OrderKind.SUBTASK):
                self._words.value = ""

    async def _read(self, _: viser.GuiEvent) -> None:
        """Keep the words of the boxes for the orders that need them."""
        texts, cause = self._seat.texts, self._cause.value
        texts[OrderKind.FAILURE] = "" if cause == CAUSES[0] else cause
        texts[OrderKind.NEXT] = texts[OrderKind.FLAG] = texts[OrderKind.SUBTASK] = self._words.value
        texts[OrderKind.TASK] = self._task.value


def side_by_side(images: list[Image]) -> Image:
    """One picture of several, each as high as the lowest."""
    height = min(image.shape[0] for image in images)
    return np.hstack([image[:: max(image.shape[0] // height, 1)][:height] for image in images])


def _clock(view: View) -> str:
    waits = view.phase is Phase.COUNTDOWN
    time = f"starts in {view.begins_in_s:.0f} s" if waits else f"{view.seconds:.1f} s"
    counts = f"{view.phase.value}; {view.committed} kept" + (f", {view.pending} being written" if view.pending else "")
    if np.isfinite(view.minutes_left):
        counts += f", room for {view.minutes_left:.0f} min"
    return f'<p class="clock {view.phase.value}"><b>{time}</b> <span>{counts}</span></p>'


def _steps(view: View) -> str:
    steps = "".join(
        f'<li class="{"now" if i == view.step else ""}">{html.escape(words)}</li>'
        for i, words in enumerate(view.subtasks)
    )
    return f'<p class="task">{html.escape(view.task)}</p><ol class="steps">{steps}</ol>'
