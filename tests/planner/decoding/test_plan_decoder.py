"""Whatever the weights, what is decoded can be read back; batches, streams and cached passes agree."""

import numpy as np
import pytest
import torch

from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.planner.decoding.autoregressive import AutoregressiveImageDecoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.plan_decoder import PlanDecoder, WordGuesser
from emu_robot.planner.decoding.sampling import Candidates, SamplingConfig, draw, guided, sample
from emu_robot.planner.decoding.session import DecodingSession
from emu_robot.tokenizers.interleave import ImageFormat, Interleaver
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.tokenizers.vocabulary import Vocabulary

TEXT = TextTokenizer.train(["put the red cube in the bowl", "open the drawer"], 300)
SEEDS = (7, 8, 9)
HOT = SamplingConfig(text_temperature=1.5, image_temperature=1.5, image_top_k=9)


def make(stride: int = 16, **image) -> Interleaver:
    vocabulary = Vocabulary(text_size=TEXT.size, book_size=12)
    return Interleaver(TEXT, vocabulary, ImageFormat(rows=2, columns=2, **image), stride)


def model(interleaver: Interleaver, seed: int = 0) -> CausalTransformer:
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size=interleaver.vocabulary.size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        unrotated_groups=1,
        head_dim=8,
        initializer_range=0.5,
    )
    return CausalTransformer(config).eval()


def prompts(interleaver: Interleaver) -> list[list[int]]:
    codes = np.arange(4, dtype=np.uint32)
    return [interleaver.prompt(words, codes) for words in ("open the drawer", "put the red cube in the bowl", "x")]


def make_decoder(
    network: CausalTransformer, grammar: PlanGrammar, sampling: SamplingConfig | None = None
) -> PlanDecoder:
    """Images autoregressive, as `sampling` says."""
    sampling = sampling or SamplingConfig()
    return PlanDecoder(network, grammar, sampling, AutoregressiveImageDecoder(sampling))


@pytest.mark.parametrize("form", [{}, {"size_tokens": True, "row_ends": True}])
def test_random_weights_always_decode(form: dict[str, bool]) -> None:
    interleaver = make(**form)
    lengths = set()
    for seed in range(12):
        decoder = make_decoder(model(interleaver, seed), PlanGrammar.of(interleaver, max_words=3), HOT)
        for ids in decoder.generate(prompts(interleaver), 3, SEEDS):
            steps, ended = interleaver.decode(ids)
            assert ended or len(steps) == 3
            assert all(step.subtask and len(step.codes) == 4 for step in steps)
            lengths.add(len(steps))
    assert len(lengths) > 1


def test_batch_equals_one_by_one_and_stream_equals_generate() -> None:
    interleaver = make()
    decoder = make_decoder(model(interleaver, 3), PlanGrammar.of(interleaver, max_words=3))
    batch = decoder.generate(prompts(interleaver), 2, SEEDS)
    for prompt, ids in zip(prompts(interleaver), batch, strict=True):
        assert decoder.generate([prompt], 2, [0]) == [ids]
        assert [token for part in decoder.stream(prompt, 2, 0) for token in part] == ids


def test_a_plan_foresees_its_end_and_doubts_it() -> None:
    interleaver, seen = make(), set()
    for seed in range(8):
        decoder = make_decoder(model(interleaver, seed), PlanGrammar.of(interleaver, max_words=3))
        for prompt in prompts(interleaver):
            ids, odds = decoder.plan(prompt, 1, 0)
            assert ids == decoder.generate([prompt], 1, [0])[0]
            ended = ids[-1] == interleaver.vocabulary.eos
            assert (odds is None) == ended
            if odds is not None:
                longer = decoder.generate([prompt], 2, [0])[0]
                assert (odds > 0) == (longer == [*ids, interleaver.vocabulary.eos])
            seen.add(None if odds is None else odds > 0)
            doubted, _ = decoder.plan(prompt, 1, 0, doubt=1e6)
            assert len(interleaver.decode(doubted)[0]) == 1 and (ended or doubted == ids)
    assert seen == {None, True, False}


def test_a_row_draws_from_its_seed_alone() -> None:
    interleaver, found = make(), set()
    for seed in range(6):
        decoder = make_decoder(model(interleaver, seed), PlanGrammar.of(interleaver, max_words=3), HOT)
        together = decoder.generate(prompts(interleaver), 3, SEEDS)
        assert decoder.generate(prompts(interleaver)[::-1], 3, SEEDS[::-1]) == together[::-1]
        for prompt, row_seed, ids in zip(prompts(interleaver), SEEDS, together, strict=True):
            assert decoder.generate([prompt], 3, [row_seed]) == [ids]
        found.add(decoder.generate(prompts(interleaver), 3, (1, 2, 3)) != together)
    assert True in found
    with pytest.raises(InvalidValueError, match="2 seeds for 3 prompts"):
        decoder.generate(prompts(interleaver), 3, (1, 2))


@torch.no_grad()
def test_greedy_choice_is_that_of_the_full_pass() -> None:
    interleaver = make()
    network, grammar = model(interleaver, 1), PlanGrammar.of(interleaver, max_words=3)
    prompt = prompts(interleaver)[0]
    (ids,) = make_decoder(network, grammar, SamplingConfig(image_guidance=1.0)).generate([prompt], 2, [0])
    whole = prompt + ids
    positions, references = (torch.tensor([f(whole)]) for f in (interleaver.positions, interleaver.references))
    logits = network(torch.tensor([whole]), positions, references_BL=references)[0]
    codes = grammar.vocabulary.book_rows(0)
    checked = 0
    for i, token in enumerate(whole[len(prompt) :], len(prompt)):
        if interleaver.vocabulary.is_code(token):
            assert int(logits[i - 1, codes].argmax()) + codes.start == token
            checked += 1
    assert checked in (0, 4, 8)


@torch.no_grad()
@pytest.mark.parametrize("form", [{}, {"size_tokens": True, "row_ends": True}])
def test_guided_choice_is_that_of_two_full_passes(form: dict[str, bool]) -> None:
    interleaver = make(**form)
    grammar, words, checked = PlanGrammar.of(interleaver, max_words=3), interleaver.vocabulary, 0
    codes = words.book_rows(0)
    for seed in range(4):
        network = model(interleaver, seed)

        def logits(ids: list[int], network: CausalTransformer = network) -> torch.Tensor:
            positions, references = (torch.tensor([f(ids)]) for f in (interleaver.positions, interleaver.references))
            return network(torch.tensor([ids]), positions, references_BL=references)[0, -1, codes]

        decoder = make_decoder(network, grammar, SamplingConfig(image_guidance=3.0))
        batch = decoder.generate(prompts(interleaver), 2, SEEDS)
        for prompt, ids in zip(prompts(interleaver), batch, strict=True):
            assert decoder.generate([prompt], 2, [0]) == [ids]
            for i, token in enumerate(ids):
                if words.is_code(token):
                    before = [*prompt, *ids[:i]]
                    both = torch.stack([logits(before), logits(words.without_words(before))])
                    assert int(guided(*both, scale=3.0).sample(0, 0)) + codes.start == token
                    checked += 1
    assert checked >= 20


def test_guidance_favours_what_the_words_change() -> None:
    both = torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]]).log()
    assert guided(*both, scale=1.0).sample(0, 0) == 0
    assert guided(*both, scale=2.0).sample(0, 0) == 1
    assert guided(*both, scale=2.0, count=1).sample(0, 0) == 0


def test_candidates_are_chosen_as_among_all_ids() -> None:
    """Guidance keeps 64 ids in their order: greedy choice and draws are those of logits with the others masked."""
    with_words, without = torch.randn(2, 5, 300, generator=torch.Generator().manual_seed(0))
    candidates = guided(with_words, without, 2.0)
    unlikely = with_words < with_words.topk(64).values[:, -1:]
    masked = Candidates.of((2 * with_words - without).masked_fill(unlikely, -torch.inf))
    codebook = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(candidates.likeliest_look(codebook, 0.5), masked.likeliest_look(codebook, 0.5))
    for temperature in (0.0, 1.0, 3.0):
        drawn = [one.sample(temperature, 9, torch.Generator().manual_seed(2)) for one in (candidates, masked)]
        assert torch.equal(*drawn)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[DecodingSession]:
    """The session of every pass from now on."""
    passes, advance = [], DecodingSession.advance
    monkeypatch.setattr(DecodingSession, "advance", lambda *args, **kw: passes.append(args[0]) or advance(*args, **kw))
    return passes


def test_what_is_fixed_costs_no_pass(passes: list[DecodingSession]) -> None:
    interleaver = make(size_tokens=True, row_ends=True)
    for seed in range(6):
        passes.clear()
        decoder = make_decoder(model(interleaver, seed), PlanGrammar.of(interleaver, max_words=2), HOT)
        (ids,) = decoder.generate([[*interleaver.prompt("x", np.arange(4, dtype=np.uint32))]], 1, [0])
        steps, ended = interleaver.decode(ids)
        words = ids.index(interleaver.vocabulary.boi) - 1 if steps else 0
        chosen_boi = words < 2
        assert len(passes) == (1 if ended else words + chosen_boi + 4)


def test_words_are_guessed_from_the_rest_of_the_instruction() -> None:
    interleaver = make()
    grammar, (open_it, put_it, _) = PlanGrammar.of(interleaver), prompts(interleaver)
    words = TEXT.encode("put the red cube in the bowl")
    session = DecodingSession(model(interleaver), grammar, [put_it], 200)
    guesser, guesses = WordGuesser(session), []
    for word in (words[1], words[4], TEXT.encode("drawer")[0], words[1]):
        session.choose(0, word, word=True)
        guesses.append(guesser.guess())
    assert guesses == [words[2:6], words[5:], [], words[6:]]
    together = DecodingSession(model(interleaver), grammar, [put_it, open_it], 200)
    together.choose(0, words[1], word=True)
    assert WordGuesser(together).guess() == []


@torch.no_grad()
def test_a_guess_leaves_what_was_chosen_alone() -> None:
    interleaver = make()
    network, grammar, words = model(interleaver), PlanGrammar.of(interleaver), TEXT.encode("the red cube in")
    plain, guessing = (DecodingSession(network, grammar, [prompts(interleaver)[0]], 200) for _ in range(2))
    states = guessing.advance(guess=words)
    for i, word in enumerate(words[:2]):
        torch.testing.assert_close(states[:, i], plain.advance()[:, 0])
        for session in (plain, guessing):
            session.choose(0, word, word=True)
    guessing.settle(len(words), 2)
    torch.testing.assert_close(states[:, 2], plain.advance()[:, 0])
    for session in (plain, guessing):
        session.choose(0, interleaver.vocabulary.boi)
    torch.testing.assert_close(guessing.advance(), plain.advance())
    assert guessing.cache.length == plain.cache.length


def test_the_row_without_words_is_fed_by_images_alone(passes: list[DecodingSession]) -> None:
    interleaver = make()
    decoder = make_decoder(
        model(interleaver, 3), PlanGrammar.of(interleaver, max_words=3), SamplingConfig(image_guidance=2)
    )
    (ids,) = decoder.generate(prompts(interleaver)[:1], 1, [0])
    assert len(interleaver.decode(ids)[0]) == 1
    assert sum(session.wordless is None for session in passes) == 4  # one for each code


def test_sampling() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9, -9.0]]).expand(200, 4)
    assert (sample(logits, 0, 0) == 1).all()
    generator = torch.Generator().manual_seed(0)
    assert set(sample(logits, 1.0, 2, generator).tolist()) == {1, 2}
    assert len(set(sample(logits, 5.0, 0, generator).tolist())) >= 3


def test_draws_are_as_likely_as_their_weights() -> None:
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0, 0.0], [2.0, 0.0, 0.0, 0.0, 2.0]])
    drawn = draw(weights.repeat(4000, 1, 1), torch.Generator().manual_seed(0))
    shares = torch.nn.functional.one_hot(drawn, 5).float().mean(0)
    assert torch.allclose(shares, weights / 4, atol=0.03)
    assert not shares[weights == 0].any()


def test_codes_that_look_alike_win_together() -> None:
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.05, 0.99], [0.1, 0.98]])
    logits = torch.tensor([[0.4, 0.2, 0.25, 0.15], [0.9, 0.05, 0.04, 0.01]]).log()
    candidates = Candidates.of(logits)
    assert candidates.likeliest_look(codebook, 0.1).tolist() == [2, 0]
    assert candidates.likeliest_look(codebook, 1e-6).tolist() == logits.argmax(-1).tolist()
    assert candidates.likeliest_look(codebook, 0.1, count=1).tolist() == [0, 0]


def test_bad_settings_raise() -> None:
    with pytest.raises(InvalidValueError, match="text_temperature is -1"):
        SamplingConfig(text_temperature=-1)
    with pytest.raises(InvalidValueError, match="image_guidance is 0.5, must be at least 1"):
        SamplingConfig(image_guidance=0.5)
    with pytest.raises(InvalidValueError, match="max_steps is 0"):
        make_decoder(model(make()), PlanGrammar.of(make())).generate(prompts(make()), 0, SEEDS)
    with pytest.raises(InvalidValueError, match="max_words is 0"):
        PlanGrammar.of(make(), max_words=0)
