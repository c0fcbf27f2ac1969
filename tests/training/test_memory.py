"""Sequences that hold what was pursued before: what training shows is what a planner with memory is asked."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tabletop import episode, picture

from emu_robot.core import Fact, Observation, PastStep
from emu_robot.data.episode import Episode
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError, InvalidValueError, UnknownNameError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerSizes
from emu_robot.models.weights import copy_weights
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.planner.planner import Planner, PlannerConfig, PlannerSettings
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerSizes
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.dida import DidaTrainConfig
from emu_robot.training.dida import train as train_dida
from emu_robot.training.image_names import ImageNames, load_names
from emu_robot.training.loop import LoopConfig
from emu_robot.training.naming import UNKNOWN, SeenThings
from emu_robot.training.nonce_names import NonceNames
from emu_robot.training.planner import train as train_planner
from emu_robot.training.planner_config import PlannerTrainConfig, SequenceConfig
from emu_robot.training.planner_data import PlanQueries, SequenceWriter
from emu_robot.training.question_data import QuestionWriter
from emu_robot.training.sequence_sampler import SequenceSampler, nonce_names
from emu_robot.training.tokenizer import EncodeConfig, TokenizerTrainConfig, encode, train

RED, BLUE = "move the red square left", "move the blue square front"
WEIGHTS = {"text": 3.0, "image": 1.0, "changed": 1.0}


def laid_out(seed: int, *, needs_memory: bool = False) -> Episode:
    """Start, a try in vain, red is left, under way, blue is in front."""
    where = [
        {"red": "right", "blue": "left"},
        {"red": "front", "blue": "left"},
        {"red": "left", "blue": "left"},
        {"red": "left", "blue": "right"},
        {"red": "left", "blue": "front"},
    ]
    spots = {"left": (7.0, 6.0), "right": (23.0, 6.0), "front": (7.0, 22.0)}
    facts = tuple({name: Fact("on the table", *spots[place], True) for name, place in of.items()} for of in where)
    return Episode(
        instruction=f"{RED} then {BLUE}", family="move", split="seen", seed=seed, success=True, fps=20,
        subtasks=(RED, BLUE), keyframes=np.array([2, 4], np.int32), starts=np.array([0, 2], np.int32),
        state=np.zeros((5, 8), np.float32), action=np.zeros((5, 8), np.float32),
        image_frames=np.arange(5, dtype=np.int32), images={"front": np.stack([picture(of) for of in where])},
        executed=False, attempts=(1,), facts=facts, needs_memory=needs_memory,
    )  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tokenizers, trained for a moment; the buffer lies beside them."""
    root = tmp_path_factory.mktemp("memory")
    buffer = ReplayBuffer.create(root / "data")
    buffer.extend([laid_out(0), laid_out(1, needs_memory=True), episode(5)])
    buffer.close()
    sizes = ImageTokenizerSizes(patch_size=8, ch=16, ch_mult=[1], z_channels=8, embed_dim=8, n_embed=32, naming_width=8)
    loop = LoopConfig(steps=3, batch_size=4, threads=1)
    train(TokenizerTrainConfig(data=root / "data", out=root / "run", weights=root / "weights", model=sizes, loop=loop))
    encode(EncodeConfig(buffer=root / "data", weights=str(root / "weights")))
    return root / "weights"


@pytest.fixture(scope="module")
def queries(weights: Path) -> PlanQueries:
    return PlanQueries.load(ReplayBuffer.open(weights.parent / "data"), "front", weights)


def planner(weights: Path, memory: int, sampling: SamplingConfig | None = None) -> Planner:
    sizes = TransformerSizes(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        head_dim=8, unrotated_groups=1,
    )  # fmt: skip
    text, images = TextTokenizer.load(weights), ImageTokenizer.load(weights)
    config = PlannerConfig.of(PlannerSettings(memory=memory, image_stride=48, model=sizes), text, images.config)
    torch.manual_seed(0)
    return Planner(config, CausalTransformer(config.model).eval(), text, images, sampling)


def test_tries_in_vain_belong_to_what_was_pursued(queries: PlanQueries) -> None:
    assert [tuple(one) for one in queries.tries(0, 9)] == [
        (RED, 1, False), (RED, 2, True), (BLUE, 3, False), (BLUE, 4, True),
    ]  # fmt: skip
    assert [one.row for one in queries.tries(0, 3)] == [1, 2], "the last one was achieved"
    assert [one.row for one in queries.tries(0, 1)] == [2], "or else those in vain are left out"
    assert [one.row for one in queries.tries(3, 2)] == [4]
    assert queries.tries(4, 2) == []
    past = queries.past(3, 9)
    assert [step.subtask for step in past] == [RED, RED, BLUE]
    assert [step.codes.tolist() for step in past] == queries.codes_Mn[:3].tolist()
    assert [step.subtask for step in queries.past(3, 1)] == [BLUE] and queries.past(0, 9) == []
    first_of_second = int(np.searchsorted(queries.episode, 1))
    assert (queries.episode == 1).sum() == 1 and queries.row[first_of_second] == 5, "only the start can be asked about"


def test_an_image_that_no_plan_should_show_is_no_target(weights: Path, queries: PlanQueries) -> None:
    made = planner(weights, 4)
    writer = SequenceWriter(queries, made.interleaver, WEIGHTS)
    row = writer.write(0, 9)
    boi = made.interleaver.vocabulary.boi
    begins = [i for i, token in enumerate(row.ids) if token == boi]
    assert [row.seen[i] for i in begins] == [True, True, False, True, False]
    assert [row.weights[i + 1] > 0 for i in begins] == [False, False, True, False, True]
    words = [i for i, (token, weight) in enumerate(zip(row.ids, row.weights, strict=True)) if weight == 3.0]
    assert len([i for i in words if row.ids[i] == boi]) == 4, "words are targets before every image"
    assert row.ids[-1] == made.interleaver.vocabulary.eos and row.weights[-1] == 3.0


@pytest.mark.parametrize("memory", [0, 1, 4])
def test_a_planner_is_asked_what_the_training_showed(
    weights: Path, queries: PlanQueries, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planner(weights, memory)
    asked: list[list[int]] = []
    ended = [made.interleaver.vocabulary.eos], None
    monkeypatch.setattr(made.decoder, "plan", lambda prompt, *_: asked.append(list(prompt)) or ended)
    images = ReplayBuffer.open(weights.parent / "data").images("front")[:5]
    views = [Observation(images={"front": image}, state=np.zeros(8, np.float32)) for image in images]
    words = [RED, RED, BLUE, BLUE]
    past = [PastStep(observation=view, subtask=said) for view, said in zip(views, words, strict=False)]
    made.plan(views[4], queries.instructions[0], past=past)
    row = SequenceWriter(queries, made.interleaver, WEIGHTS).write(4 - min(memory, 4), 9)
    assert row.ids == [*asked[0], made.interleaver.vocabulary.eos]


def test_memory_needs_sequences_that_long() -> None:
    with pytest.raises(InvalidValueError, match=r"planner.memory=2 needs sequences.step_odds for 3 steps, not 2"):
        PlannerTrainConfig(planner=PlannerSettings(memory=2))


def test_facts_become_targets_of_the_naming(weights: Path) -> None:
    buffer = ReplayBuffer.open(weights.parent / "data")
    things = SeenThings.load(buffer, "front")
    assert things is not None and things.names == ["blue", "red"] == ImageTokenizer.load(weights).config.names
    targets = things.targets(np.array([0, 4, 10]), 4)
    kinds = targets["kinds"].numpy()
    red, blue = kinds[0] == 1, kinds[0] == 0
    assert (np.argwhere(red).tolist(), np.argwhere(blue).tolist()) == ([[0, 2]], [[0, 0]])
    assert targets["offsets"][0, :, 0, 2].tolist() == [pytest.approx(2.875 - 2.5), pytest.approx(0.75 - 0.5)]
    assert (kinds[2] == UNKNOWN).all(), "an executed episode tells no facts"


def test_clusters_learn_names_from_finished_codes(weights: Path, tmp_path: Path) -> None:
    sizes = ImageTokenizerSizes(
        encoder=EncoderKind.patches, patch_size=8, ch_mult=[1], embed_dim=4, n_embed=8, code_books=2, naming_width=8
    )
    config = TokenizerTrainConfig(
        data=weights.parent / "data", out=tmp_path / "run", weights=tmp_path / "named", model=sizes
    )
    images = ReplayBuffer.open(config.data).images("front")[:]
    train(replace(config, loop=LoopConfig(steps=40, batch_size=8, lr=0.02, warmup_steps=1, log_every=20, threads=1)))
    named = ImageTokenizer.load(config.weights)
    assert named.config.names == ["blue", "red"]
    first, last = (
        json.loads(line)["loss"] for line in (config.out / "tokenizer/metrics.jsonl").read_text().splitlines()
    )
    assert last < 0.8 * first
    plain = replace(config, naming_weight=0.0, out=tmp_path / "other", weights=tmp_path / "plain")
    train(plain)
    nameless = ImageTokenizer.load(plain.weights)
    assert nameless.config.names == [] and not plain.out.exists(), "nothing is trained by steps"
    assert np.array_equal(named.encode_images(images), nameless.encode_images(images)), "naming changes no code"


def test_cells_are_named_where_all_around_them_has_been_read(weights: Path, queries: PlanQueries) -> None:
    made, buffer = planner(weights, 0), ReplayBuffer.open(weights.parent / "data")
    things = load_names(buffer, "front", 1.0)
    assert things is not None and things.names == ["blue", "red"] and load_names(buffer, "front", 0) is None
    named = ImageNames(things, made.interleaver)
    first = SequenceWriter(queries, made.interleaver, WEIGHTS).write(0, 2)
    assert [row for row, _ in first.pictures] == [0, 1, 2]
    assert all(first.ids[place] == made.interleaver.vocabulary.boi for _, place in first.pictures)
    targets = named.targets([first.pictures, [(10, 0)]])
    assert targets["named"].shape == (3 * 16, 2), "an executed episode tells no facts"
    (red,) = np.flatnonzero(targets["named"][:16, 1])
    assert red == 2, "first row, third column of 4 x 4"
    begin = first.pictures[0][1] + 1
    assert targets["named_places"][red].tolist() == [0, begin + 4 + 3], (
        "is asked about in the second row, fourth column"
    )
    assert targets["named_places"][15].tolist() == [0, begin + 15]
    assert targets["named_places"][:16, 1].max() < first.pictures[0][1] + 17
    with pytest.raises(DataError, match=r"no episode tells what its pictures show; set sequences.naming_weight=0"):
        executed = ReplayBuffer.create(weights.parent / "executed_only")
        executed.extend([episode(5)])
        load_names(executed, "front", 1.0)


def test_a_planner_learns_to_name_what_it_sees(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "weights"
    copy_weights(weights, kept)
    small = planner(weights, 0).config.model
    sizes = TransformerSizes(**{field.name: getattr(small, field.name) for field in fields(TransformerSizes)})
    config = PlannerTrainConfig(
        data=weights.parent / "data",
        out=tmp_path / "run",
        weights=kept,
        planner=PlannerSettings(memory=0, image_stride=48, model=sizes),
        sequences=SequenceConfig(naming_weight=1.0, shift_share=0, input_noise=0),
        loop=LoopConfig(steps=120, batch_size=4, lr=0.02, warmup_steps=1, log_every=20, threads=1),
    )
    train_planner(config)
    lines = [json.loads(line) for line in (config.out / "planner/metrics.jsonl").read_text().splitlines()]
    naming = [line["naming"] for line in lines if "naming" in line]
    assert naming[-1] < 0.5 * naming[0]
    learned, images = Planner.load(kept), ReplayBuffer.open(config.data).images("front")[:3]
    assert learned.config.names == ["blue", "red"]
    (seen, _, moved) = learned.seen_objects(learned.images.encode_images(images))
    assert sorted(one.name for one in seen) == sorted(one.name for one in moved) == ["blue", "red"]
    with pytest.raises(InvalidValueError, match=r"did not learn to name things \(sequences.naming_weight\)"):
        planner(weights, 0).seen_objects(learned.images.encode_images(images))
    loop = replace(config.loop, steps=2, log_every=1)
    adapted = DidaTrainConfig(
        data=config.data, out=tmp_path / "dida", weights=kept, sequences=config.sequences, drawn_share=0, loop=loop
    )
    train_dida(adapted)
    assert Planner.load(kept).config.names == ["blue", "red"]
    train_planner(replace(config, start=str(kept), out=tmp_path / "nameless", sequences=SequenceConfig(shift_share=0)))
    assert Planner.load(kept).config.names == []
    assert "the planner forgets its 2 names: sequences.naming_weight=0" in capsys.readouterr().out


def test_names_in_instruction_and_subtask_are_replaced_alike(weights: Path, queries: PlanQueries) -> None:
    made = planner(weights, 0)
    invented = NonceNames(["red", "blue", "blue square", "table"])
    seen: set[str] = set()
    for seed in range(40):
        found = invented.renamed(np.random.default_rng(seed), f"{RED} then {BLUE}", [RED, BLUE])
        red, blue = found[RED], found[BLUE]
        assert found[f"{RED} then {BLUE}"] == f"{red} then {blue}"
        assert red.startswith("move the ") and red.endswith(" square left") and blue.endswith(" front")
        assert red != RED or blue != BLUE
        assert "square" not in blue or blue == BLUE, "the longer name is replaced"
        seen |= {red, blue}
    assert len(seen) > 30, "names are new ones each time"
    assert invented.renamed(np.random.default_rng(0), "tidy the table", [RED]) == {}
    plain = SequenceWriter(queries, made.interleaver, WEIGHTS).write(0, 2)
    row = SequenceWriter(queries, made.interleaver, WEIGHTS).write(0, 2, renamed=found)
    words = made.text.decode([token for token in row.ids if token < made.text.size])
    assert red in words and blue in words
    codes = made.interleaver.vocabulary.first_code
    assert not any(weight for token, weight in zip(row.ids, row.weights, strict=True) if token >= codes)
    assert sum(weight > 0 for weight in row.weights) > 8
    assert [token for token in row.ids if token >= codes] == [token for token in plain.ids if token >= codes]


def test_a_share_of_the_sequences_has_invented_names(weights: Path, queries: PlanQueries) -> None:
    made, buffer = planner(weights, 0), ReplayBuffer.open(weights.parent / "data")
    config = SequenceConfig(nonce_share=0.5, shift_share=0, wordless_share=0, complete_share=0)
    invented = nonce_names(buffer, config)
    assert nonce_names(buffer, SequenceConfig()) is None
    sampler = SequenceSampler(queries, made.interleaver, config, LoopConfig(), 0.0, nonce_names=invented)
    chosen = sampler.unfinished(np.random.default_rng(0), 400)
    rows = sampler.rows(chosen, 1, {}, np.random.default_rng(1))
    renamed = sum(
        row.ids != sampler.writer.write(query, 1).ids for query, row in zip(chosen.tolist(), rows, strict=True)
    )
    assert 160 < renamed < 240
    executed = ReplayBuffer.create(weights.parent / "without_facts")
    executed.extend([episode(5)])
    with pytest.raises(DataError, match=r"no episode tells what its pictures show; set sequences.nonce_share=0"):
        nonce_names(executed, config)


def test_families_are_chosen_by_their_weights(weights: Path, queries: PlanQueries) -> None:
    made, families = planner(weights, 0), ("move", "other", "other")
    two = replace(queries, families=families)

    def shares(**odds: float) -> list[float]:
        config = SequenceConfig(family_weights=odds, complete_share=0, boundary_share=0, shift_share=0)
        sampler = SequenceSampler(two, made.interleaver, config, LoopConfig(), 0.0)
        drawn = queries.episode[sampler.unfinished(np.random.default_rng(0), 4000)]
        return [float((drawn == e).mean()) for e in range(3)]

    moments = np.bincount(queries.episode[~queries.complete], minlength=3)
    assert shares() == pytest.approx(moments / moments.sum(), abs=0.03)
    heavy = moments * [3, 1, 1]
    assert shares(move=3.0) == pytest.approx(heavy / heavy.sum(), abs=0.03)
    assert shares(move=0.0)[0] == 0
    with pytest.raises(
        UnknownNameError, match=r"unknown family in sequences.family_weights 'sort'; known: move, other"
    ):
        shares(sort=2.0)
    with pytest.raises(InvalidValueError, match=r"family_weights is .*-1.*, must be finite and at least 0"):
        shares(move=-1.0)


def test_questions_about_pictures_are_sequences(weights: Path, queries: PlanQueries) -> None:
    made, buffer = planner(weights, 0), ReplayBuffer.open(weights.parent / "data")
    writer = QuestionWriter(buffer, queries.codes_Mn, made.interleaver, holdout=0.0)
    vocabulary, text, asked = made.interleaver.vocabulary, made.text, set()
    for seed in range(60):
        row = writer.write(np.random.default_rng(seed), 2.0)
        end = max(i for i, token in enumerate(row.ids) if token == vocabulary.bos_step)
        question = text.decode(row.ids[1 : row.ids.index(vocabulary.boi)])
        asked.add((question, text.decode(row.ids[end + 1 : -1]), row.ids.count(vocabulary.boi)))
        assert row.ids[-1] == vocabulary.eos and all(row.seen)
        assert row.weights == [0.0] * (end + 1) + [2.0] * (len(row.ids) - end - 1)
    assert ("what is on the table?", "a red and a blue", 1) in asked or (
        "what is on the table?",
        "a blue and a red",
        1,
    ) in asked
    assert ("what has changed?", "nothing", 2) in asked and ("where is the red?", "on the table", 1) in asked


def test_batches_mix_questions_in_and_a_set_without_facts_has_none(weights: Path, queries: PlanQueries) -> None:
    made, buffer = planner(weights, 1), ReplayBuffer.open(weights.parent / "data")
    config = SequenceConfig(question_share=0.5, shift_share=0, wordless_share=0, input_noise=0)
    writer, loop = QuestionWriter(buffer, queries.codes_Mn, made.interleaver, 0.0), LoopConfig(batch_size=8)
    sampler = SequenceSampler(queries, made.interleaver, config, loop, 0.0, questions=writer)
    rows = sampler.sequences(3)
    asked = [made.text.decode(row[1 : row.tolist().index(made.interleaver.vocabulary.boi)]) for row in rows.ids]
    assert sum("?" in words for words in asked) == 4 and len(asked) == 8
    assert np.array_equal(sampler.sequences(3).ids, rows.ids)
    executed = ReplayBuffer.create(weights.parent / "executed")
    executed.extend([episode(5)])
    with pytest.raises(DataError, match="no episode tells what its pictures show"):
        QuestionWriter(executed, queries.codes_Mn, made.interleaver, 0.0)


def test_a_share_of_the_unchanged_codes_stands_for_all_of_them(weights: Path, queries: PlanQueries) -> None:
    made, loop = planner(weights, 1), LoopConfig(batch_size=64)
    plain = SequenceConfig(shift_share=0, wordless_share=0, input_noise=0)
    all_of_them, some = (
        SequenceSampler(queries, made.interleaver, replace(plain, unchanged_share=share), loop, 0.0)
        for share in (1.0, 0.25)
    )
    full, thin = all_of_them.sequences(5), some.sequences(5)
    assert np.array_equal(full.ids, thin.ids)
    unchanged = np.zeros(full.ids.shape, bool)
    unchanged[:, 1:] = (full.ids[:, 1:] >= made.interleaver.vocabulary.first_code) & (
        full.ids[:, 1:] == full.references[:, :-1]
    )
    assert np.array_equal(full.weights[~unchanged], thin.weights[~unchanged])
    before, after = full.weights[unchanged], thin.weights[unchanged]
    assert set(np.round(after[before > 0] / before[before > 0], 5)) == {0.0, 4.0}
    assert after.sum() == pytest.approx(before.sum(), rel=0.15)


def test_an_answer_is_words_and_ends(weights: Path) -> None:
    made = planner(weights, 0)
    view = Observation(images={"front": picture({"red": "left", "blue": "front"})}, state=np.zeros(8, np.float32))
    said = made.decoder.answer(made.interleaver.question("what?", [made._codes(view.images["front"])]), 5)
    assert len(said) <= 5 and all(token < made.interleaver.vocabulary.text_size for token in said)
    assert isinstance(made.answer(view, "what is on the table?"), str)
    with pytest.raises(InvalidValueError, match="must ask something"):
        made.answer(view, " ")


@pytest.mark.parametrize("guided", [False, True])
def test_a_prompt_that_grows_is_read_once_and_gives_the_same_to_the_bit(
    weights: Path, queries: PlanQueries, guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingConfig(image_guidance=2.0 if guided else 1.0)
    kept, fed = planner(weights, 4, sampling), []
    forward = kept.model.model.forward
    monkeypatch.setattr(
        kept.model.model, "forward", lambda ids, *a, **k: fed.append(ids.shape[1]) or forward(ids, *a, **k)
    )
    images = ReplayBuffer.open(weights.parent / "data").images("front")[:5]
    views = [Observation(images={"front": image}, state=np.zeros(8, np.float32)) for image in images]
    past = [PastStep(observation=view, subtask=said) for view, said in zip(views, [RED, RED, BLUE, BLUE], strict=False)]
    longest = []
    for n in (0, 1, 2, 1, 3, 4):  # once an earlier prompt again, as when another task asks in between
        fed.clear()
        mine = kept.plan(views[n], queries.instructions[0], seed=n, past=past[:n])
        longest.append(sum(length for length in fed if length > 16))
        fresh = planner(weights, 4, sampling).plan(views[n], queries.instructions[0], seed=n, past=past[:n])
        assert mine.end_odds == fresh.end_odds and len(mine.steps) == len(fresh.steps)
        for one, other in zip(mine.steps, fresh.steps, strict=True):
            assert one.subtask == other.subtask and one.subgoal is not None and other.subgoal is not None
            assert np.array_equal(one.subgoal, other.subgoal)
    assert longest[1] == longest[2] == longest[5] < longest[4] < 2.5 * longest[5], f"ids read in long blocks: {longest}"
