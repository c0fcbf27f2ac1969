"""The official Emu3.5 text tokenizer: byte-pair ranks, then special tokens, then one token per visual code.

It reads the two files of the official weights, or a small vocabulary of the same form. Knows nothing of models.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emu_robot.errors import InvalidValueError, WeightsError
from emu_robot.models.files import TEXT_BYTES, read_bytes, read_text

RANKS, VISION = "emu3.tiktoken", "emu3_vision_tokens.txt"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
EXTRAS = 205
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(EXTRAS)))
CODE = re.compile(r"<\|visual token (\d+)\|>")


@dataclass(frozen=True, kw_only=True)
class ControlIds:
    """Ids with a role."""

    pad: int
    """Padding."""
    bos: int
    """Begin of a sequence."""
    eos: int
    """End of a sequence."""
    eol: int
    """Between rows of an image."""
    eof: int
    """End of a text file."""
    boi: int
    """Before an image's size."""
    img: int
    """Before an image's codes."""
    eoi: int
    """After an image's codes."""
    begin_answer: int
    """Before the answer."""
    end_answer: int
    """After the answer."""
    begin_global: int
    """Before reasoning about the whole answer."""
    end_global: int
    """After reasoning about the whole answer."""
    begin_picture: int
    """Before reasoning about the next image."""
    end_picture: int
    """After reasoning about the next image."""
    first_code: int
    """Id of visual code 0."""
    n_codes: int
    """Number of visual codes."""


class Emu3Text:
    """Text, special tokens and visual codes <-> ids."""

    def __init__(self, ranks: dict[bytes, int], vision: Sequence[str]) -> None:
        """ranks: byte sequence -> id; vision: the lines of the vision vocabulary, visual codes last and in order.

        Special tokens follow the highest rank.
        """
        import tiktoken

        named, first = [*SPECIAL, *(token for token in vision if not CODE.fullmatch(token))], max(ranks.values()) + 1
        self._special = {token: first + i for i, token in enumerate(named)}
        n_codes = len(vision) - (len(named) - len(SPECIAL))
        self._encoding = tiktoken.Encoding("emu3", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=self._special)
        self.ids = ControlIds(
            pad=self.id_of("<|endoftext|>"),
            bos=self.id_of("<|extra_203|>"),
            eos=self.id_of("<|extra_204|>"),
            eol=self.id_of("<|extra_200|>"),
            eof=self.id_of("<|extra_201|>"),
            boi=self.id_of("<|image start|>"),
            img=self.id_of("<|image token|>"),
            eoi=self.id_of("<|image end|>"),
            begin_answer=self.id_of("<|extra_100|>"),
            end_answer=self.id_of("<|extra_101|>"),
            begin_global=self.id_of("<|extra_60|>"),
            end_global=self.id_of("<|extra_61|>"),
            begin_picture=self.id_of("<|extra_50|>"),
            end_picture=self.id_of("<|extra_51|>"),
            first_code=first + len(named),
            n_codes=n_codes,
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Emu3Text":
        """Read `emu3.tiktoken` and `emu3_vision_tokens.txt`. Raises `WeightsError` naming a missing or damaged file."""
        folder = Path(folder)
        table, lines = _read_ranks(folder / RANKS), read_text(folder / VISION).splitlines()
        codes = [int(match[1]) for line in lines if (match := CODE.fullmatch(line))]
        last = lines[len(lines) - len(codes) :]
        if not codes or codes != list(range(len(codes))) or not all(map(CODE.fullmatch, last)):
            raise WeightsError(f"{folder / VISION}: visual tokens must come last and be numbered from 0")
        if len({*lines, *SPECIAL}) < len(lines) + len(SPECIAL):
            raise WeightsError(f"{folder / VISION}: a token is there twice, or a special one of the text's own")
        try:
            return cls(table, lines)
        except WeightsError as error:
            raise WeightsError(f"{folder / VISION}: {error}") from error

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.ids.first_code + self.ids.n_codes

    def id_of(self, token: str) -> int:
        """Id of a special token. Raises `WeightsError` if this vocabulary lacks it."""
        if token not in self._special:
            raise WeightsError(f"the vocabulary has no {token}")
        return self._special[token]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, normalised to NFC. Special tokens and `<|visual token N|>` become their ids."""
        ids: list[int] = []
        end = 0
        text = unicodedata.normalize("NFC", text)
        for match in CODE.finditer(text):
            ids += self._encoding.encode(text[end : match.start()], allowed_special="all")
            ids.append(self.code_id(int(match[1])))
            end = match.end()
        return ids + self._encoding.encode(text[end:], allowed_special="all")

    def code_id(self, code: int) -> int:
        """Id of a visual code. Raises `InvalidValueError` outside the codebook."""
        if not 0 <= code < self.ids.n_codes:
            raise InvalidValueError(f"visual code {code}, must be in 0..{self.ids.n_codes - 1}")
        return self.ids.first_code + code

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; visual codes are spelled `<|visual token N|>`."""
        parts, words = [], []
        for token in ids:
            if token < self.ids.first_code:
                words.append(token)
                continue
            parts += [self._encoding.decode(words), f"<|visual token {token - self.ids.first_code:06d}|>"]
            words = []
        return "".join([*parts, self._encoding.decode(words)])


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Byte sequence -> id. Raises `WeightsError` unless ids are 0, 1, ... and every byte alone has one."""
    table: dict[bytes, int] = {}
    for number, line in enumerate(read_bytes(path, TEXT_BYTES).splitlines(), 1):
        try:
            token, rank = line.split()
            table[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise WeightsError(f"{path}, line {number}: not a token and its rank ({line[:40]!r})") from error
    if sorted(table.values()) != list(range(len(table))):
        raise WeightsError(f"{path}: {len(table)} tokens whose ranks are not 0 .. {len(table) - 1}")
    absent = [byte for byte in range(256) if bytes([byte]) not in table]
    if absent or b"" in table:
        raise WeightsError(f"{path}: " + (f"byte {absent[0]} has no rank of its own" if absent else "an empty token"))
    return table
