"""Thrift's compact protocol, as far as Parquet's headers and footers use it. Knows no meanings of fields.

A struct is {field: (kind, value)}; a list is (kind of its items, items).
"""

from typing import Any

type Struct = dict[int, tuple[int, Any]]

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
INTEGERS = (I16, I32, I64)


class Reader:
    """Reads structs from bytes. Raises `ValueError` or `IndexError` for what is none."""

    def __init__(self, content: bytes | memoryview, at: int = 0) -> None:
        self._content, self.at = content, at

    def struct(self) -> Struct:
        """The struct that begins here; `at` is behind it afterwards."""
        fields: Struct = {}
        last = 0
        while head := self._byte():
            kind = head & 0x0F
            last = last + (head >> 4) if head >> 4 else self._integer()
            fields[last] = (kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in INTEGERS:
            return self._integer()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == LIST:
            head = self._byte()
            n, of = head >> 4, head & 0x0F
            n = self._varint() if n == 15 else n
            return of, [self._item(of) for _ in range(n)]
        if kind == STRUCT:
            return self.struct()
        if kind == BYTE:
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        raise ValueError(f"no kind {kind}")

    def _item(self, kind: int) -> Any:
        return self._byte() == TRUE if kind in (TRUE, FALSE) else self._value(kind)

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number is too long")

    def _byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def _bytes(self, n: int) -> bytes:
        self.at += n
        if self.at > len(self._content):
            raise ValueError("cut off")
        return bytes(self._content[self.at - n : self.at])


def write(fields: Struct) -> bytes:
    """The bytes of a struct."""
    out, last = bytearray(), 0
    for field, (kind, value) in sorted(fields.items()):
        kind = (TRUE if value else FALSE) if kind in (TRUE, FALSE) else kind
        step, last = field - last, field
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _integer(field)
        out += b"" if kind in (TRUE, FALSE) else _value(kind, value)
    return bytes(out) + b"\0"


def _value(kind: int, value: Any) -> bytes:
    if kind in INTEGERS:
        return _integer(value)
    if kind == BINARY:
        return _varint(len(value)) + value
    if kind == LIST:
        of, items = value
        head = bytes([len(items) << 4 | of]) if len(items) < 15 else bytes([0xF0 | of]) + _varint(len(items))
        return head + b"".join(bytes([TRUE if v else FALSE]) if of in (TRUE, FALSE) else _value(of, v) for v in items)
    if kind == STRUCT:
        return write(value)
    return bytes([value]) if kind == BYTE else value


def _integer(value: int) -> bytes:
    return _varint((value << 1) ^ (value >> 63))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
