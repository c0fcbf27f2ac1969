"""Sizes of a transformer, and its vocabulary."""

from dataclasses import dataclass

from emu_robot.errors import InvalidValueError
from emu_robot.shared.settings import check_ranges, number


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Sizes of a transformer. Names follow the official config.json; defaults are the mini planner's.

    Four defaults differ from the official model. A small `rope_theta`, tied embeddings and `references` help to copy
    codes from the image before. `unrotated_groups` helps with words.
    """

    hidden_size: int = number(256, 1, 2**17)
    """Width of the residual stream."""
    intermediate_size: int = number(768, 1, 2**20)
    """Width inside each block's MLP."""
    num_hidden_layers: int = number(6, 1, 1024)
    """Blocks."""
    num_attention_heads: int = number(8, 1, 4096)
    """Heads of queries; a multiple of `num_key_value_heads`."""
    num_key_value_heads: int = number(4, 1, 4096)
    """Heads of keys and values; each is shared by a group of query heads."""
    head_dim: int = number(32, 2, 4096)
    """Dimensions of a head; an even number."""
    rope_theta: float = number(10.0, above=0, high=1e12)
    """Base of the rotary positions. With the official 1e6, few of 32 dimensions tell neighbouring places apart."""
    unrotated_groups: int = number(2, 0, 4096)
    """Key-value heads without rotary positions, at most all. They find similar words at any distance, for which a small
    `rope_theta` has no slow frequency."""
    rms_norm_eps: float = number(1e-6, 0, 1)
    """Added to the mean square that a norm divides by."""
    initializer_range: float = number(0.02, above=0, high=100)
    """Standard deviation of the weights before training."""
    tie_word_embeddings: bool = True
    """One matrix reads and writes ids."""
    references: bool = True
    """In an image after another, give the model the other one's code at the next place: its embedding is added to the
    input, and a gate adds to its logit."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.unrotated_groups > self.num_key_value_heads:
            raise InvalidValueError(
                f"unrotated_groups is {self.unrotated_groups}, must be in 0..{self.num_key_value_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise InvalidValueError(
                f"{self.num_attention_heads} heads must be a multiple of {self.num_key_value_heads} key-value heads, "
                f"and head_dim {self.head_dim} even"
            )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TransformerSizes):
    """A whole transformer: its sizes and its vocabulary."""

    vocab_size: int = number(5136, 1, 2**24)
    """Number of embeddings: of ids that it reads and writes or, with several `code_books`, of words, control tokens and
    the entries of each book."""
    code_books: int = number(1, 1, 16)
    """Books of image codes, which come last. With several, an id from the first code on has a digit for each book: it
    is read as the sum of their embeddings, and written digit by digit."""
    book_size: int = number(0, 0, 2**24)
    """Entries of each book; only needed for several."""
    n_names: int = number(0, 0, 2**20)
    """Names that are told for each cell of an image halfway through the blocks, see `ImageNaming`; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code_books > 1 and not 0 < self.code_books * self.book_size < self.vocab_size:
            raise InvalidValueError(
                f"{self.code_books} books of book_size={self.book_size} do not fit vocab_size={self.vocab_size}"
            )

    @property
    def first_code(self) -> int:
        """Id of the first image code; only known for several books."""
        return self.vocab_size - self.code_books * self.book_size
