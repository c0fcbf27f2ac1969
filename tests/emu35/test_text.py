"""The official text tokenizer: golden ids, round trips, and what is wrong with a damaged vocabulary."""

import base64
import json
from pathlib import Path

import pytest

from emu_robot.emu35.text import RANKS, VISION, Emu3Text
from emu_robot.errors import InvalidValueError, WeightsError

GOLDEN = Path(__file__).parents[1] / "golden/emu3_text/golden.json"


def test_official_strings_give_the_official_ids() -> None:
    """The part of the official ranks that these strings need, and the last one, behind which special tokens begin."""
    golden = json.loads(GOLDEN.read_text())
    ranks = {base64.b64decode(token): rank for token, rank in golden["ranks"].items()}
    vision = ["<|image token|>", "<|image start|>", "<|image end|>"]
    text = Emu3Text(ranks, [*vision, *(f"<|visual token {i:06d}|>" for i in range(131_072))])
    assert text.size == 282_926
    assert (text.ids.pad, text.ids.eol, text.ids.bos, text.ids.img) == (151_643, 151_846, 151_849, 151_851)
    for case in golden["strings"]:
        assert text.encode(case["text"]) == case["ids"]
        assert text.decode(case["ids"]) == case["text"]


def test_a_small_vocabulary_of_the_same_form(text: Emu3Text) -> None:
    assert len(text.encode(" open the drawer")) == len([" open", " the", " dra", "wer"])
    for string in ("open", "größe 42 → 箱", "<|extra_100|>a<|visual token 000003|>b"):
        assert text.decode(text.encode(string)) == string
    assert text.encode("<|visual token 000003|>") == [text.ids.first_code + 3]
    with pytest.raises(InvalidValueError, match=r"visual code 16, must be in 0\.\.15"):
        text.encode("<|visual token 000016|>")


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (RANKS, lambda content: content.replace("YQ== 97", "YQ== x"), "line 98: not a token and its rank"),
        (RANKS, lambda content: content.replace("YQ== 97\n", ""), "whose ranks are not 0"),
        (VISION, lambda content: content.replace("000004", "000005"), "numbered from 0"),
        (VISION, lambda content: content.replace("<|image end|>\n", ""), r"has no <\|image end\|>"),
    ],
)
def test_damaged_files_are_named(text: Emu3Text, tmp_path: Path, file: str, damage, message: str) -> None:
    path = tmp_path / file
    path.write_text(damage(path.read_text()))
    with pytest.raises(WeightsError, match=message):
        Emu3Text.load(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match=f"{file} is missing"):
        Emu3Text.load(tmp_path)
