"""A line typed among keys: it begins with `/` and ends with Enter. While it is typed, its letters are no keys."""

from collections.abc import Callable

ESCAPE = b"\x1b"
_ENTER, _BACK = b"\r\n", b"\x7f\x08"


class TypedLine:
    """Divides what a terminal sends into lines and keys."""

    def __init__(self, echo: Callable[[bytes], None], on_line: Callable[[str], None]) -> None:
        """echo: shows what is typed; the terminal does not. on_line: gets every finished line."""
        self._echo, self._on_line = echo, on_line
        self._line: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the terminal. Returns those that are keys. Esc gives the line up, and is a key."""
        keys = b""
        while data:
            one, data = data[:1], data[1:]
            if self._line is None:
                if one == b"/":
                    self._line = one
                    self._echo(one)
                else:
                    keys += one
            elif one == ESCAPE and data[:1] in (b"[", b"O"):  # an arrow, or the like: up to its last letter
                end = next((i for i in range(1, len(data)) if 0x40 <= data[i] <= 0x7E), len(data) - 1)
                data = data[end + 1 :]
            elif one == ESCAPE:
                self._line = None
                self._echo(b"\n")
                keys += one
            else:
                self._type(one)
        return keys

    def _type(self, one: bytes) -> None:
        assert self._line is not None
        if one in _ENTER:
            line, self._line = self._line.decode(errors="replace"), None
            self._echo(b"\n")
            self._on_line(line)
        elif one in _BACK:
            self._line = self._line.decode(errors="replace")[:-1].encode() or None
            self._echo(b"\b \b")
        else:
            self._line += one
            self._echo(one)
