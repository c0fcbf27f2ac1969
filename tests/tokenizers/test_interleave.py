"""Words, the id space, and plans as sequences."""

from pathlib import Path

import numpy as np
import pytest

from emu_robot.errors import InvalidValueError, ShapeError, WeightsError
from emu_robot.models.weights import save_file
from emu_robot.tokenizers.interleave import CodedStep, ImageFormat, Interleaver
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import CONTROL, Vocabulary

SENTENCES = ["put the red cube in the bowl", "open the drawer", "put the red cube in the bowl, then open the drawer"]


@pytest.fixture(scope="module")
def text() -> TextTokenizer:
    return TextTokenizer.train(SENTENCES, 400)


def make(text: TextTokenizer, stride: int = 0, **image) -> Interleaver:
    form = ImageFormat(rows=2, columns=3, **image)
    return Interleaver(text, Vocabulary(text_size=text.size, book_size=16), form, stride)


def codes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, 6).astype(np.uint32)


def test_text_round_trip_and_one_id_per_known_word(text: TextTokenizer) -> None:
    assert len(text.encode("put the red cube in the bowl")) == 7
    assert text.encode("  Put the  RED cube") == text.encode("put the red cube")
    for sentence in [*SENTENCES, "größe 42 → 箱"]:
        assert text.decode(text.encode(sentence)) == sentence


def test_text_training_is_reproducible_and_saved(text: TextTokenizer, tmp_path: Path) -> None:
    again = TextTokenizer.train(reversed(SENTENCES), 400)
    assert all(again.encode(sentence) == text.encode(sentence) for sentence in SENTENCES)
    text.save(tmp_path)
    assert TextTokenizer.load(tmp_path).encode("open the bowl") == text.encode("open the bowl")
    save_file(tmp_path, "text.json", b"{}")
    with pytest.raises(WeightsError, match=r"text\.json is not a text tokenizer"):
        TextTokenizer.load(tmp_path)


def test_id_blocks_do_not_overlap() -> None:
    words = Vocabulary(text_size=10, book_size=5)
    control = [getattr(words, name) for name in CONTROL]
    assert control == list(range(10, 10 + len(CONTROL)))
    assert words.code_ids(np.arange(5)).tolist() == list(range(words.first_code, words.size))
    with pytest.raises(InvalidValueError, match=r"must be in 0\.\.4"):
        words.code_ids(np.array([5]))


@pytest.mark.parametrize("form", [{}, {"row_ends": True}, {"size_tokens": True, "row_ends": True}])
@pytest.mark.parametrize("complete", [False, True])
def test_plans_round_trip(text: TextTokenizer, form: dict[str, bool], complete: bool) -> None:
    interleaver = make(text, **form)
    steps = [CodedStep("open the drawer", codes(1)), CodedStep("put the red cube in the bowl", codes(2))]
    ids = interleaver.encode(SENTENCES[2], codes(0), steps, complete)
    prompt = interleaver.prompt(SENTENCES[2], codes(0))
    assert ids[: len(prompt)] == prompt
    decoded, ended = interleaver.decode(ids[len(prompt) :])
    assert ended == complete
    assert [step.subtask for step in decoded] == [step.subtask for step in steps]
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(decoded, steps, strict=True))


def test_malformed_ids_are_refused(text: TextTokenizer) -> None:
    interleaver = make(text)
    step = interleaver.step(CodedStep("open the drawer", codes(1)))
    for broken in (step[:-1], step[1:], step[:-2] + step[-1:], [*step[:-2], 0, step[-1]]):
        with pytest.raises(InvalidValueError):
            interleaver.decode(broken)
    with pytest.raises(ShapeError, match=r"image codes: got \(5,\), expected \(6,\)"):
        interleaver.image_ids(codes(0)[:5])


def test_images_stand_a_stride_apart_whatever_the_words(text: TextTokenizer) -> None:
    interleaver = make(text, stride=32)
    for subtask in ("open", "put the red cube in the bowl"):
        ids = interleaver.encode("open the drawer", codes(0), [CodedStep(subtask, codes(1))] * 2, True)
        positions = np.array(interleaver.positions(ids))
        starts = positions[np.array(ids) == interleaver.vocabulary.boi]
        assert starts.tolist() == [32, 64, 96]
        assert (np.diff(positions) > 0).all()
    assert make(text).positions(ids) == list(range(len(ids)))


def test_references_are_the_next_places_of_the_image_before(text: TextTokenizer) -> None:
    interleaver = make(text, row_ends=True)
    first, second, third = (interleaver.image_ids(codes(seed)) for seed in range(3))
    words = [interleaver.vocabulary.bos, 5, 6]
    references = interleaver.references([*words, *first, *words, *second, *words, *third])
    nothing = [-1, -1, -1]
    for before, begin in ((first, len(words + first)), (second, len(words + first + words + second))):
        assert references[begin : begin + 3] == nothing
        assert references[begin + 3 : begin + 3 + len(first)] == [*before[1:-1], -1, -1]
    assert references[: len(words + first)] == [-1] * len(words + first)
