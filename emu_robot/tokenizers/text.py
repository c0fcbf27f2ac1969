"""Words <-> ids 0..size-1 by byte-level BPE, which can encode every string. Knows no control tokens."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from emu_robot.errors import WeightsError
from emu_robot.models import weights

FILE = "text.json"


class TextTokenizer:
    """Encodes texts with single spaces and one in front, so that a word has the same ids at every place.

    Upper and lower case have the same ids, and decoded texts are in lower case; compare texts by `shared.words`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, sentences: Iterable[str], vocab_size: int = 1024) -> "TextTokenizer":
        """Learn at most `vocab_size` entries (256 of them bytes) from sentences. Equal sentences give equal entries."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=sorted(alphabet), min_frequency=1, show_progress=False
        )
        tokenizer.train_from_iterator(sorted(set(sentences)), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: str | Path) -> "TextTokenizer":
        """Read from a weights folder. Raises `WeightsError` if its file is damaged."""
        content = weights.load_file(folder, FILE)
        try:
            return cls(Tokenizer.from_str(content.decode()))
        except Exception as error:  # `tokenizers` raises no narrower type for bad input
            raise WeightsError(f"{Path(folder) / FILE} is not a text tokenizer: {error}") from error

    def save(self, folder: str | Path) -> None:
        """Add text.json to a weights folder."""
        weights.save_file(Path(folder), FILE, self._tokenizer.to_str().encode())

    @property
    def size(self) -> int:
        """Number of ids."""
        return self._tokenizer.get_vocab_size()

    @property
    def pieces(self) -> list[str]:
        """The piece of a word behind each id, in the letters that byte-level BPE writes for bytes."""
        return [str(self._tokenizer.id_to_token(i)) for i in range(self.size)]

    def spell(self, piece: str) -> list[int]:
        """The ids that spell a piece of another tokenizer."""
        return [token.id for token in self._tokenizer.model.tokenize(piece)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return self._tokenizer.encode(text).ids

    def longest(self, texts: Iterable[str]) -> int:
        """Number of ids of the longest text; 0 without any."""
        return max((len(self.encode(text)) for text in texts), default=0)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, stripped; bytes that are not UTF-8 are left out, so that the text has no more ids than these."""
        return self._tokenizer.decode(list(ids)).replace("\N{REPLACEMENT CHARACTER}", "").strip()
