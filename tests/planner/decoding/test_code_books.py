"""Codes with a digit for each of several books: they are read, learned, and chosen digit by digit."""

import itertools
from typing import Any

import pytest
import torch

from emu_robot.models.digits import join_digits
from emu_robot.models.transformer import CausalTransformer, embedding_rows
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.planner.decoding.code_choice import CodeStates, choose_codes
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.decoding.factory import make_image_decoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.noise_paths import PathName, make_noise_path
from emu_robot.planner.decoding.plan_decoder import PlanDecoder
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.tokenizers.vocabulary import Vocabulary
from emu_robot.training.losses import near_digits
from emu_robot.training.sequence_loss import sequence_loss

SIZE = 5
WORDS = Vocabulary(text_size=20, book_size=SIZE, books=2)
GRAMMAR = PlanGrammar(vocabulary=WORDS, template=(None,) * 4, max_words=5, image_stride=16)
BOOKS = torch.randn(2, SIZE, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> CausalTransformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=WORDS.rows, code_books=2, book_size=SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    network = CausalTransformer(config).eval().requires_grad_(False)
    network.copy_gate.weight.normal_()
    network.lm_head.weight[WORDS.eos] = network.lm_head.weight[WORDS.bos_step]  # the first of equals: plans go on
    return network


def prompt(*words: int) -> list[int]:
    return [WORDS.bos, *words, WORDS.boi, *(WORDS.first_code + code for code in (3, 11, 4, 24)), WORDS.eoi]


def test_a_code_is_one_id_and_needs_an_embedding_for_each_digit(model: CausalTransformer):
    assert (WORDS.n_codes, WORDS.rows) == (25, WORDS.first_code + 10)
    assert [WORDS.book_rows(i) for i in range(2)] == [slice(28, 33), slice(33, 38)]
    ids = torch.tensor([WORDS.bos, WORDS.first_code + 3 * SIZE + 4, 7])
    assert embedding_rows(ids, model.config).tolist() == [[21, -1], [28 + 3, 33 + 4], [7, -1]]
    table = model.model.embed_tokens.weight
    torch.testing.assert_close(model.model.embed(ids), torch.stack([table[21], table[31] + table[37], table[7]]))


def probabilities(model: CausalTransformer, state: CodeStates) -> torch.Tensor:
    """(25,) of every code at one place: its first digit, times its second one after the first."""
    references = embedding_rows(state.references, model.config)
    first = model.digit_logits(state.hidden, WORDS.book_rows(0), references[..., :0], references).softmax(-1)
    after = [
        model.digit_logits(state.hidden, WORDS.book_rows(1), torch.tensor([28 + digit]), references).softmax(-1)
        for digit in range(SIZE)
    ]
    return (first[:, None] * torch.stack(after)).flatten()


def test_digits_are_chosen_in_turn(model: CausalTransformer):
    state = CodeStates(torch.randn(32, generator=torch.Generator().manual_seed(2)), torch.tensor(WORDS.first_code + 7))
    assert abs(float(probabilities(model, state).sum()) - 1) < 1e-5
    seen: list[tuple[int, int]] = []

    def pick(logits: Any, book: int) -> torch.Tensor:
        seen.append((book, logits[0].shape[-1]))
        return logits[0].argmax(-1)

    code = int(choose_codes(model, WORDS, [state], pick))
    by_digit = probabilities(model, state).view(SIZE, SIZE)
    first = int(by_digit.sum(1).argmax())
    assert code == first * SIZE + int(by_digit[first].argmax())
    assert seen == [(0, SIZE), (1, SIZE)]


def test_a_digit_is_copied_only_after_equal_ones(model: CausalTransformer):
    hidden = torch.randn(32, generator=torch.Generator().manual_seed(3))
    copied = embedding_rows(torch.tensor(WORDS.first_code + 2 * SIZE + 4), model.config)
    nothing = torch.full_like(copied, -1)
    for digit in range(SIZE):
        before = torch.tensor([28 + digit])
        logits = [model.digit_logits(hidden, WORDS.book_rows(1), before, of) for of in (copied, nothing)]
        assert ((logits[0] - logits[1]).abs() > 1e-6).tolist() == [digit == 2 and i == 4 for i in range(SIZE)]


def test_the_loss_of_a_code_is_that_of_its_digits(model: CausalTransformer):
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(6, 32, generator=generator)
    ids = torch.tensor([7, WORDS.eos, *(WORDS.first_code + code for code in (0, 8, 13, 24))])
    references = torch.tensor([-1, -1, WORDS.first_code, -1, WORDS.first_code + 13, WORDS.first_code + 20])
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5, 3.0, 1.0])
    loss = sequence_loss(model, hidden, ids, references, weights, near_digits(BOOKS, 0, WORDS.first_code))
    prefix = slice(0, WORDS.first_code + SIZE)
    wanted = torch.zeros(())
    for state, token, reference, weight in zip(hidden, ids.tolist(), references, weights.tolist(), strict=True):
        rows = embedding_rows(torch.tensor(token), model.config).tolist()
        copied = embedding_rows(reference, model.config)
        error = -model.logits(state, prefix, copied[0]).log_softmax(-1)[rows[0]]
        if rows[1] >= 0:
            after = model.digit_logits(state, WORDS.book_rows(1), torch.tensor(rows[:1]), copied)
            error = error - after.log_softmax(-1)[rows[1] - 33]
        wanted += weight * error
    torch.testing.assert_close(loss, wanted / weights.sum())


def decoder(model: CausalTransformer, path: str, **how: Any) -> PlanDecoder:
    sampling = SamplingConfig(image_guidance=2.0)
    kind = Decoder.DIDA if path else Decoder.AR
    noise = make_noise_path(path, BOOKS) if path else None
    images = make_image_decoder(DecoderConfig(kind=kind, **how), noise, BOOKS, sampling)
    return PlanDecoder(model, GRAMMAR, sampling, images)


@pytest.mark.parametrize(("path", "steps"), [("", 1), *itertools.product(PathName, (1, 3))])
def test_every_decoder_draws_whole_images_row_by_row_alike(model: CausalTransformer, path: str, steps: int):
    made = decoder(model, path, **({"steps": steps} if path else {}))
    asked, seeds = [prompt(5, 6), prompt(7, 8, 9), prompt(4)], [1, 2, 3]
    together = made.generate(asked, 2, seeds)
    assert [made.generate([one], 2, [seed])[0] for one, seed in zip(asked, seeds, strict=True)] == together
    for produced in together:
        begins = [i for i, token in enumerate(produced) if token == WORDS.boi]
        assert begins
        assert all(WORDS.is_code(token) for begin in begins for token in produced[begin + 1 : begin + 5])
    codes = [token for produced in together for token in produced if WORDS.is_code(token)]
    assert len(set(codes)) > SIZE, "both digits vary"


@torch.no_grad()
def test_a_greedy_choice_is_that_of_the_full_pass(model: CausalTransformer):
    sampling = SamplingConfig(image_likeness=0)
    images = make_image_decoder(DecoderConfig(kind=Decoder.AR), None, BOOKS, sampling)
    (ids,) = PlanDecoder(model, GRAMMAR, sampling, images).generate([prompt(5, 6)], 1, [0])
    whole = prompt(5, 6) + ids
    positions, position = [], -1
    for token in whole:
        position = WORDS.next_position(position, token, GRAMMAR.image_stride)
        positions.append(position)
    begin = len(prompt(5, 6)) + ids.index(WORDS.boi)
    references = torch.full((1, len(whole)), -1)
    references[0, begin : begin + 4] = torch.tensor(prompt(5, 6)[-5:-1])
    hidden = model.model(torch.tensor([whole]), torch.tensor([positions]), references_BL=references)[0]
    for place in range(begin, begin + 4):
        by_digit = probabilities(model, CodeStates(hidden[place], references[0, place])).view(SIZE, SIZE)
        first = int(by_digit.sum(1).argmax())
        digits = torch.tensor([first, int(by_digit[first].argmax())])
        assert whole[place + 1] == WORDS.first_code + int(join_digits(digits, SIZE))
