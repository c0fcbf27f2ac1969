"""Subtasks of Meta-World's tasks in words, from the phases of its scripted policies.

A scripted policy aims at one point at a time, and its if-statements choose the point: above the drawer's handle, at the
handle, behind it. The number of the chosen point is the phase. It follows from the state alone, whichever policy acts.
Each subtask below lists its phases. It is done once the scripted policy aims at a point of a later subtask for `HELD`
ticks in a row; the last one is done at the task's success. A subtask that is done stays done.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emu_robot.core import Floats
from emu_robot.errors import UnknownNameError

HELD = 5
"""Control ticks in a row after which a later phase counts, 1/16 s."""
AIM_METHOD, ACTION_METHOD, AIM = "_desired_pos", "get_action", "to_pos"
"""Names in the policies: what chooses the aim in most; what does in the others, and its variable there."""

type Steps = tuple[tuple[str, str], ...]
"""Words of each subtask, and the digits of its phases."""

STEPS: dict[str, Steps] = {
    "assembly-v3": (
        ("grasp the nut", "02"),
        ("lift the nut", "3"),
        ("carry the nut over the peg", "4"),
        ("lower the nut onto the peg", "1"),
    ),
    "basketball-v3": (
        ("grasp the basketball", "01"),
        ("lift the basketball", "2"),
        ("put the basketball into the basket", "3"),
    ),
    "bin-picking-v3": (
        ("grasp the puck", "01"),
        ("carry the puck over the other bin", "23"),
        ("lower the puck into the bin", "4"),
    ),
    "box-close-v3": (("grasp the cover", "01"), ("lift the cover", "2"), ("put the cover on the box", "3")),
    "button-press-v3": (("move in front of the button", "0"), ("press the button", "1")),
    "button-press-topdown-v3": (("move above the button", "0"), ("press the button down", "1")),
    "button-press-topdown-wall-v3": (("move over the wall above the button", "0"), ("press the button down", "1")),
    "button-press-wall-v3": (
        ("move over the wall", "01"),
        ("lower the hand to the button", "2"),
        ("press the button", "3"),
    ),
    "coffee-button-v3": (("move in front of the button", "0"), ("push the button of the coffee machine", "1")),
    "coffee-pull-v3": (
        ("move above the mug", "0"),
        ("grasp the mug", "1"),
        ("pull the mug from the coffee machine", "2"),
    ),
    "coffee-push-v3": (
        ("move above the mug", "0"),
        ("grasp the mug", "1"),
        ("push the mug under the coffee machine", "2"),
    ),
    "dial-turn-v3": (("move above the dial", "0"), ("lower the hand beside the dial", "1"), ("turn the dial", "2")),
    "disassemble-v3": (("move above the nut", "0"), ("grasp the nut", "1"), ("lift the nut off the peg", "2")),
    "door-close-v3": (("move behind the open door", "012"), ("push the door shut", "3")),
    "door-lock-v3": (("move above the lock", "01"), ("turn the lock", "23")),
    "door-open-v3": (
        ("move above the handle of the door", "0"),
        ("lower the hand to the handle", "1"),
        ("pull the door open", "2"),
    ),
    "door-unlock-v3": (("move to the lock", "01"), ("turn the lock back", "2")),
    "drawer-close-v3": (
        ("move over the drawer", "01"),
        ("lower the hand in front of the drawer", "2"),
        ("push the drawer shut", "3"),
    ),
    "drawer-open-v3": (
        ("move above the handle of the drawer", "0"),
        ("lower the hand to the handle", "1"),
        ("pull the drawer open", "2"),
    ),
    "faucet-close-v3": (
        ("move above the faucet", "0"),
        ("lower the hand beside the faucet", "1"),
        ("turn the faucet clockwise", "2"),
    ),
    "faucet-open-v3": (
        ("move above the faucet", "0"),
        ("lower the hand beside the faucet", "1"),
        ("turn the faucet counter-clockwise", "2"),
    ),
    "hammer-v3": (
        ("grasp the hammer", "01"),
        ("lift the hammer in front of the screw", "2"),
        ("hammer the screw into the wall", "3"),
    ),
    "hand-insert-v3": (
        ("grasp the block", "01"),
        ("move the block over the hole", "2"),
        ("lower the hand into the hole", "3"),
    ),
    "handle-press-v3": (("move above the handle", "0"), ("press the handle down", "1")),
    "handle-press-side-v3": (("move above the handle", "0"), ("press the handle down", "1")),
    "handle-pull-v3": (("move under the handle", "01"), ("pull the handle up", "2")),
    "handle-pull-side-v3": (
        ("move above the handle", "0"),
        ("grasp the handle", "1"),
        ("pull the handle up", "2"),
    ),
    "lever-pull-v3": (("move under the lever", "0"), ("pull the lever", "12")),
    "peg-insert-side-v3": (
        ("grasp the peg", "01"),
        ("carry the peg in front of the hole", "2"),
        ("push the peg into the hole", "3"),
    ),
    "peg-unplug-side-v3": (("move above the peg", "0"), ("grasp the peg", "1"), ("pull the peg out", "2")),
    "pick-out-of-hole-v3": (
        ("grasp the puck in the hole", "01"),
        ("lift the puck out of the hole", "2"),
        ("carry the puck to the goal", "3"),
    ),
    "pick-place-v3": (("grasp the puck", "012"), ("carry the puck to the goal", "3")),
    "pick-place-wall-v3": (
        ("grasp the puck", "01"),
        ("lift the puck above the wall", "2"),
        ("carry the puck over the wall to the goal", "345"),
    ),
    "plate-slide-v3": (
        ("move above the plate", "0"),
        ("lower the hand to the plate", "1"),
        ("slide the plate into the cabinet", "2"),
    ),
    "plate-slide-back-v3": (
        ("move above the plate", "0"),
        ("lower the hand to the plate", "1"),
        ("slide the plate out of the cabinet", "234"),
    ),
    "plate-slide-back-side-v3": (
        ("move above the plate", "0"),
        ("lower the hand to the plate", "1"),
        ("slide the plate sideways out of the cabinet", "2"),
    ),
    "plate-slide-side-v3": (
        ("move above the plate", "0"),
        ("lower the hand to the plate", "1"),
        ("slide the plate sideways into the cabinet", "23"),
    ),
    "push-v3": (("move to the puck", "01"), ("push the puck to the goal", "2")),
    "push-back-v3": (("move to the puck", "01"), ("pull the puck back to the goal", "2")),
    "push-wall-v3": (("move to the puck", "01"), ("push the puck around the wall to the goal", "234")),
    "reach-v3": (("move to the goal", "0"),),
    "reach-wall-v3": (("move above the wall", "0"), ("move to the goal", "1")),
    "shelf-place-v3": (
        ("grasp the puck", "01"),
        ("lift the puck in front of the shelf", "23"),
        ("put the puck onto the shelf", "4"),
    ),
    "soccer-v3": (("kick the ball into the goal", "01"),),
    "stick-pull-v3": (
        ("grasp the stick", "01"),
        ("put the stick into the handle of the box", "234"),
        ("pull the box with the stick", "5"),
    ),
    "stick-push-v3": (("grasp the stick", "01"), ("push the box with the stick", "2345")),
    "sweep-v3": (("move to the puck", "01"), ("sweep the puck off the table", "2")),
    "sweep-into-v3": (("move to the puck", "01"), ("sweep the puck into the hole", "2")),
    "window-close-v3": (
        ("move above the handle of the window", "0"),
        ("lower the hand beside the handle", "1"),
        ("push the window shut", "2"),
    ),
    "window-open-v3": (
        ("move above the handle of the window", "0"),
        ("lower the hand beside the handle", "1"),
        ("push the window open", "2"),
    ),
}
"""Task -> its subtasks. Two tasks have one phase, and so one subtask: reach-v3 and soccer-v3."""


@dataclass(kw_only=True)
class Progress:
    """How far an episode is."""

    steps: Steps
    """The subtasks."""
    phase: Callable[[Floats], int]
    """The phase of a state, see `phase_of`."""
    n_done: int = 0
    """Subtasks that are done."""
    _ahead: int = 0

    def update(self, state: Floats, success: bool) -> None:
        """A tick has led to this state (39,) of Meta-World, the success rule holds or not."""
        if success:
            self.n_done = len(self.steps)
        if self.n_done >= len(self.steps) - 1:
            return
        phase = str(self.phase(state))
        later = any(phase in phases for _, phases in self.steps[self.n_done + 1 :])
        self._ahead = self._ahead + 1 if later else 0
        if self._ahead >= HELD:
            self.n_done, self._ahead = self.n_done + 1, 0

    @property
    def done(self) -> tuple[bool, ...]:
        """Per subtask, whether it is done."""
        return tuple(i < self.n_done for i in range(len(self.steps)))


def progress_of(task: str, policy: Any) -> Progress:
    """The start of an episode. policy: the task's scripted policy. Raises `UnknownNameError` for a task."""
    if task not in STEPS:
        raise UnknownNameError("task with subtasks", task, STEPS)
    return Progress(steps=STEPS[task], phase=phase_of(policy))


def phase_of(policy: Any) -> Callable[[Floats], int]:
    """The function from a state (39,) of Meta-World to the number of the aim that a scripted policy chooses there.

    It is the policy's own method, compiled with each statement that sets an aim replaced by `return NUMBER`, in the
    order of the source. A policy with one aim is in phase 0.
    """
    kind = type(policy)
    name = AIM_METHOD if hasattr(kind, AIM_METHOD) else ACTION_METHOD
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(kind, name))))
    numbered = _Numbered()
    numbered.visit(tree)
    scope: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(tree), f"{kind.__name__} with numbered aims", "exec")
    exec(code, vars(sys.modules[kind.__module__]), scope)
    choose = scope[name]
    if name == AIM_METHOD:
        return lambda state: choose(policy._parse_obs(state.copy()))  # some policies write into their observation
    return lambda state: choose(policy, state.copy())


class _Numbered(ast.NodeTransformer):
    """Replaces statements that set an aim by `return NUMBER`, and strips decorators."""

    n = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = []
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        aims = any(isinstance(target, ast.Name) and target.id == AIM for target in node.targets)
        return self._number() if aims else node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return self._number()

    def _number(self) -> ast.AST:
        self.n += 1
        return ast.Return(ast.Constant(self.n - 1))
