"""Keys of a terminal, also over SSH. A terminal tells no releases: each press of a key moves the arm for a moment."""

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable

import numpy as np

from emu_robot.control.steering import SUBTASK, read_subtask
from emu_robot.errors import InvalidValueError
from emu_robot.teleop import keys
from emu_robot.teleop.desk import Desk, OrderKind, Sample, read_order
from emu_robot.teleop.hand import Wish
from emu_robot.teleop.typed_line import TypedLine

PULSE_S = 0.15
"""How long one press moves the arm [s]. A held key repeats, and the arm goes on."""
EVERY_S = 0.05
"""Time between two samples while it moves [s]."""
HELP = """Each press moves the arm a little; hold a key to go on. W A S D away, left, near, right; E Q up, down; with
Shift they turn the gripper. G gripper, H home, R record, Enter success, F failure, Backspace discard,
N next subtask, X flag, Esc stop, U resume, Ctrl-C ends. With a policy: P pauses it or lets it go on, T takes over,
C corrects it; /subtask WORDS and Enter say the next subtask, /subtask alone gives the word back to the planner.
An arm without known kinematics moves joint by joint: 1 to 9 choose the joint, W and S move it."""
_NAMES = {
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x1b": "escape",
    b" ": "space",
}


def read_keys(data: bytes) -> list[tuple[str, bool]]:
    """Names of the keys that a terminal sent, each with whether Shift was held. Others are left out."""
    found: list[tuple[str, bool]] = []
    while data:
        known = next((code for code in sorted(_NAMES, key=len, reverse=True) if data.startswith(code)), None)
        if known is not None and not (known == b"\x1b" and data[1:2] in (b"[", b"O")):
            found.append((_NAMES[known], False))
            data = data[len(known) :]
        elif known is not None:  # another key's sequence: up to its last letter
            end = next((i for i in range(2, len(data)) if 0x40 <= data[i] <= 0x7E), len(data) - 1)
            data = data[end + 1 :]
        else:
            letter = data[:1].decode("latin-1")
            if letter.isascii() and letter.isalnum():
                found.append((letter.lower(), letter.isupper()))
            data = data[1:]
    return found


class Terminal:
    """Reads keys from a terminal until it is closed."""

    operator = "the terminal"

    def __init__(
        self, desk: Desk, *, faces_arm: bool, say: Callable[[str], None], joints: int = 0, fd: int | None = None
    ) -> None:
        """say: shows a line to the operator. joints: number of joints that are driven one at a time; 0 for an arm whose
        tool is driven. fd: the terminal; None for the standard input."""
        self._desk, self._faces_arm, self._say = desk, faces_arm, say
        self._joints, self._joint = joints, 0
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._wish, self._until, self._ends = Wish(), -np.inf, threading.Event()
        self._typed = TypedLine(self._echo, self._command)
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading, and leave the terminal as it was."""
        self._ends.set()
        self._thread.join()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _run(self) -> None:
        moved = False
        while not self._ends.is_set():
            readable, _, _ = select.select([self._fd], [], [], EVERY_S)
            data = os.read(self._fd, 64) if readable else b""
            if readable and not data:  # the terminal is gone
                break
            for key, shift in read_keys(self._typed.feed(data)):
                self._press(key, shift)
            now = time.monotonic()
            moves = now < self._until
            if moves or moved:
                self._drive(pressed=moves)
            moved = moves
        self._desk.leave(self.operator, time.monotonic())

    def _echo(self, typed: bytes) -> None:
        os.write(self._fd, typed)

    def _command(self, line: str) -> None:
        """Follow a typed line."""
        words = read_subtask(line)
        if words is None:
            self._say(f"unknown command {line.split()[0]!r}; known: {SUBTASK}")
            return
        try:
            order = read_order(OrderKind.SUBTASK, words)
        except InvalidValueError as error:
            self._say(str(error))
            return
        self._tell(self._desk.order(self.operator, order, time.monotonic()))

    def _press(self, key: str, shift: bool) -> None:
        table = keys.TURNS if shift else keys.MOVES
        if key == keys.HOME_KEY:
            self._move(Wish(goes_home=True))
        elif self._joints and key.isdigit():
            self._choose(int(key))
        elif self._joints and key in keys.MOVES:
            self._move(Wish(joint=self._joint, share=float(keys.MOVES[key][1])))
        elif key in table:
            way = keys.to_base(np.array(table[key], np.float64), faces_arm=self._faces_arm)
            self._move(Wish(angular=way) if shift else Wish(linear=way))
        elif key in keys.ORDERS:
            order = read_order(keys.ORDERS[key], "")
            if order.kind is OrderKind.GRIPPER:
                self._move(Wish())
            if order.kind is OrderKind.STOP:
                self._until = -np.inf
            self._tell(self._desk.order(self.operator, order, time.monotonic()))

    def _choose(self, number: int) -> None:
        """Choose the joint that W and S move, the first being 1."""
        if 1 <= number <= self._joints:
            self._joint = number - 1
            self._say(f"W and S move joint {number}")

    def _move(self, wish: Wish) -> None:
        self._wish, self._until = wish, time.monotonic() + PULSE_S
        self._drive(pressed=True)

    def _drive(self, *, pressed: bool) -> None:
        wish = self._wish if pressed else Wish()
        self._tell(self._desk.drive(self.operator, Sample(at=time.monotonic(), pressed=pressed, wish=wish)))

    def _tell(self, refused: str) -> None:
        if refused:
            self._say(refused)
