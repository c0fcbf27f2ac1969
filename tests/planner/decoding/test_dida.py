"""Parallel decoding leaves the same state behind as decoding one by one, and finds what the model is sure of."""

from typing import Any

import numpy as np
import pytest
import torch

from emu_robot.errors import InvalidValueError
from emu_robot.models.attention import copies_mask
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.planner.decoding.dida import DidaConfig, DidaImageDecoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.noise_paths import PathName, make_noise_path
from emu_robot.planner.decoding.plan_decoder import PlanDecoder
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.planner.decoding.session import DecodingSession
from emu_robot.tokenizers.vocabulary import Vocabulary
from emu_robot.training.dida_layout import visibility

WORDS = Vocabulary(text_size=20, book_size=30)
GRAMMAR = PlanGrammar(vocabulary=WORDS, template=(None, None, WORDS.eol, None, None), max_words=5, image_stride=16)


@pytest.fixture(scope="module")
def model() -> CausalTransformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=WORDS.size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    model = CausalTransformer(config).eval()
    with torch.no_grad():
        model.lm_head.weight[WORDS.eos] = model.lm_head.weight[WORDS.bos_step]  # the first of equals: plans go on
    return model


def decoder(model: CausalTransformer, path: str = "metric", steps: int = 3, **settings: Any) -> PlanDecoder:
    codebook = torch.randn(1, WORDS.n_codes, 4, generator=torch.Generator().manual_seed(1))
    config = DidaConfig(steps=steps, likeness=0, **settings)
    images = DidaImageDecoder(make_noise_path(path, codebook), config, codebook)
    return PlanDecoder(model, GRAMMAR, SamplingConfig(image_guidance=config.guidance), images)


def prompt(*words: int) -> list[int]:
    codes = [WORDS.first_code + word for word in (3, 1, 4, 1)]
    return [WORDS.bos, *words, WORDS.boi, *codes[:2], WORDS.eol, *codes[2:], WORDS.eoi]


@pytest.mark.parametrize("path", list(PathName))
def test_every_path_produces_whole_plans(model: CausalTransformer, path: str) -> None:
    for produced in decoder(model, path).generate([prompt(5, 6), prompt(7)], 3, [1, 2]):
        begins = [i for i, token in enumerate(produced) if token == WORDS.boi]
        assert begins
        for begin in begins:
            inside = produced[begin + 1 : begin + 6]
            assert inside[2] == WORDS.eol and all(WORDS.is_code(inside[i]) for i in (0, 1, 3, 4))
            assert produced[begin + 6] == WORDS.eoi


@pytest.mark.parametrize("path", list(PathName))
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_row_draws_from_its_seed_alone(model: CausalTransformer, path: str, guidance: float) -> None:
    made, asked, seeds = decoder(model, path, guidance=guidance), [prompt(5, 6), prompt(7, 8, 9), prompt(4)], [1, 2, 3]
    together = made.generate(asked, 2, seeds)
    assert made.generate(asked, 2, seeds) == together  # whatever was drawn before
    assert [made.generate([p], 2, [seed])[0] for p, seed in zip(asked, seeds, strict=True)] == together
    assert made.generate(asked, 2, [4, 5, 6]) != together
    boi = [[*p, WORDS.bos_step, 3, WORDS.boi] for p in asked]
    drawn = made.draw(boi, seeds)
    assert [made.draw([p], [seed])[0] for p, seed in zip(boi, seeds, strict=True)] == drawn


def test_guidance_changes_images_as_long_as_it_lasts(model: CausalTransformer) -> None:
    prompts, seeds = [prompt(5, 6), prompt(7, 8, 9)], [1, 2]
    plain = decoder(model, "mask", steps=2).generate(prompts, 2, seeds)
    guided = decoder(model, "mask", steps=2, guidance=4.0).generate(prompts, 2, seeds)
    assert guided != plain
    assert decoder(model, "mask", steps=2, guidance=4.0, guided_until=0.0).generate(prompts, 2, seeds) == plain


@torch.no_grad()
def test_a_peek_sees_what_training_showed_and_leaves_no_trace(model: CausalTransformer) -> None:
    ids = [*prompt(5), WORDS.bos_step, 3]
    session = DecodingSession(model, GRAMMAR, [ids], 64)
    session.advance()
    block = [WORDS.boi, *prompt(5)[3:8]]
    positions = session.positions(0, block)
    inside = torch.tensor([[*session.image_before(0), -1]])
    seen = session.peek(torch.tensor([block]), torch.tensor([positions]), inside, [0])
    clean_positions = []
    position = -1
    for token in ids:
        position = WORDS.next_position(position, token, GRAMMAR.image_stride)
        clean_positions.append(position)
    whole_ids, whole_positions = torch.tensor([ids + block + block]), torch.tensor([clean_positions + positions * 2])
    last, copy = visibility(len(ids + block), np.array([[len(ids)]]), len(block))
    mask = copies_mask(torch.from_numpy(last), torch.from_numpy(copy))
    none = torch.full((1, len(ids + block)), -1)
    trained = model.model(whole_ids, whole_positions, references_BL=torch.cat([none, inside], 1), mask=mask)
    trained = trained[:, -len(block) :]
    torch.testing.assert_close(seen, trained, atol=1e-5, rtol=1e-4)
    untouched = DecodingSession(model, GRAMMAR, [ids], 64)
    untouched.advance()
    for one in (session, untouched):
        one.choose(0, WORDS.boi)
    assert session.cache.length == len(ids)
    assert torch.equal(session.advance(), untouched.advance())


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InvalidValueError, match="dida.steps is 0, must be at least 1"):
        DidaConfig(steps=0)
    with pytest.raises(ValueError, match="metrik"):
        make_noise_path("metrik", torch.randn(1, 3, 2))
