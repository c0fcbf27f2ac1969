"""Tokenizer and planner stages on a toy table: they learn, resume, and what they release plans."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tabletop import SIZE, episode, toy_buffer

from emu_robot.core import Observation
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, InvalidValueError, ShapeError, UnknownNameError, WeightsError
from emu_robot.models.transformer_sizes import TransformerSizes
from emu_robot.models.weights import copy_weights, stage_hash
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.decoding.noise_paths import PathName
from emu_robot.planner.planner import Planner, PlannerConfig, PlannerSettings, interleaver
from emu_robot.shared.draws import draw_seed
from emu_robot.shared.interrupts import Interrupted
from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerSizes, to_pixels
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training import dida as dida_stage
from emu_robot.training import planner as planner_stage
from emu_robot.training import tokenizer as tokenizer_stage
from emu_robot.training.loop import LoopConfig
from emu_robot.training.lora import LoraSettings
from emu_robot.training.losses import importance_BHW, near_codes, weighted_cross_entropy
from emu_robot.training.new_tokenizers import with_tokenizers
from emu_robot.training.planner_config import PlannerTrainConfig, SequenceConfig
from emu_robot.training.planner_data import PlanQueries, ShiftedImages
from emu_robot.training.self_distillation import DrawnSteps, draw_steps
from emu_robot.training.sequence_sampler import SequenceSampler, shifted_images

LOOP = {"batch_size": 16, "lr": 3e-3, "warmup_steps": 10, "threads": 1, "log_every": 30, "ema_decay": 0.9}


def tokenizer_config(root: Path) -> tokenizer_stage.TokenizerTrainConfig:
    model = ImageTokenizerSizes(
        patch_size=8, ch=32, ch_mult=[1], z_channels=16, embed_dim=8, n_embed=64, mid_attention=False
    )
    loop = LoopConfig(steps=120, channels_last=True, **LOOP)
    return tokenizer_stage.TokenizerTrainConfig(
        data=root / "data", out=root / "run", weights=root / "weights", model=model, loop=loop
    )


def planner_config(root: Path, steps: int = 60) -> PlannerTrainConfig:
    model = TransformerSizes(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
    )
    planner = PlannerSettings(image_stride=48, max_words=1, model=model)
    loop = LoopConfig(steps=steps, **LOOP)
    return PlannerTrainConfig(
        data=root / "data",
        out=root / "run",
        weights=root / "weights",
        holdout=0.1,
        eval_queries=16,
        planner=planner,
        loop=loop,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    toy_buffer(root / "data", 40).close()
    tokenizer_stage.train(tokenizer_config(root))
    encode(root, root / "data")
    planner_stage.train(planner_config(root))
    return root


def encode(root: Path, buffer: Path) -> None:
    tokenizer_stage.encode(tokenizer_stage.EncodeConfig(buffer=buffer, weights=str(root / "weights")))


def queries(root: Path) -> PlanQueries:
    return PlanQueries.load(ReplayBuffer.open(root / "data"), "front", root / "weights")


def observation(seed: int = 999) -> Observation:
    return Observation(images={"front": episode(seed).images["front"][0]}, state=np.zeros(8, np.float32))


def test_tokenizer_learned_and_encodes_a_buffer(root: Path) -> None:
    buffer, tokenizer = ReplayBuffer.open(root / "data"), ImageTokenizer.load(root / "weights")
    codes, images = buffer.load_codes("front", stage_hash(root / "weights", "tokenizer")), buffer.images("front")[:]
    assert np.array_equal(codes, tokenizer.encode_images(images))
    squares = np.abs(images.astype(float) - 180).max(-1) > 30
    error = np.abs(tokenizer.decode_images(codes).astype(float) - images).mean(-1)[squares].mean()
    assert error < 0.5 * np.abs(180 - images.astype(float)).mean(-1)[squares].mean()
    assert len(np.unique(codes)) > 3, "the background and both colours, one of them in two places"


def test_queries_follow_the_episode(root: Path) -> None:
    data, buffer = queries(root), ReplayBuffer.open(root / "data")
    frames, ends = buffer.load("images/frame"), [0, *buffer.episode_ends.tolist()]
    assert len(data) == buffer.n_images
    for query in range(60):
        e = int(data.episode[query])
        meta, frame = buffer.metadata[e], frames[data.row[query]] - ends[e]
        done = sum(keyframe <= frame for keyframe in meta["keyframes"])
        steps = data.steps(query, 9)
        assert [step.subtask for step in steps] == meta["subtasks"][done:]
        assert data.is_last(query, len(steps))
        assert bool(data.complete[query]) == (not steps)
        for step, keyframe in zip(steps, meta["keyframes"][done:], strict=True):
            row = int(np.searchsorted(frames, ends[e] + keyframe))
            assert np.array_equal(step.codes, data.codes_Mn[row])


def test_batches_hold_whole_sequences(root: Path) -> None:
    data, config = queries(root), planner_config(root)
    text, image = TextTokenizer.load(root / "weights"), ImageTokenizer.load(root / "weights").config
    form = interleaver(PlannerConfig.of(config.planner, text, image), text, image)
    sequences = replace(config.sequences, input_noise=0, wordless_share=0.3)
    sampler = SequenceSampler(data, form, sequences, config.loop, config.holdout)
    vocabulary, lengths, wordless = form.vocabulary, set(), 0
    for step in range(6):
        batch = {name: tensor.numpy() for name, tensor in sampler(step).items()}
        assert all(np.array_equal(batch[name], tensor.numpy()) for name, tensor in sampler(step).items())
        first = batch["ids"].shape[1] - batch["targets"].shape[1]
        assert np.array_equal(batch["ids"][:, first + 1 :], batch["targets"][:, :-1])
        lengths.add(batch["ids"].shape[1])
        for ids, positions, references, targets, weights in zip(*batch.values(), strict=True):
            used = ids[ids != vocabulary.pad]
            assert references[: len(used)].tolist() == form.references(used.tolist())
            assert positions[: len(used)].tolist() == form.positions(used.tolist())
            weighted = targets[weights > 0]
            if (used >= vocabulary.text_size).all():
                wordless += 1
                assert (weighted >= vocabulary.first_code).all()
            else:
                assert weighted[0] in (vocabulary.bos_step, vocabulary.eos)
            assert not set(weighted) & {vocabulary.pad, vocabulary.eoi}
            assert (weights[targets == vocabulary.pad] == 0).all()
    assert len(lengths) == 2
    assert 0 < wordless < 6 * config.loop.batch_size / 2


def test_a_shifted_scene_is_coded_as_one_that_stands_elsewhere(root: Path) -> None:
    tokenizer = ImageTokenizer.load(root / "weights")
    images = ReplayBuffer.open(root / "data").images("front")
    cell = tokenizer.config.downscale
    (first,), (second, third) = ShiftedImages(images, tokenizer).codes(
        [[0], [0, 5]], np.array([[0, 0], [cell + SIZE, -3 * cell]])
    )
    stored = tokenizer.encode_images(images[[0, 5]]).reshape(2, 4, 4)
    assert np.array_equal(first, stored[0].ravel())
    for codes, original in ((second, stored[0]), (third, stored[1])):
        assert np.array_equal(codes.reshape(4, 4), np.roll(original, (1, -3), (0, 1)))


def test_codes_that_look_alike_may_stand_for_each_other() -> None:
    codebook = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]])
    near = near_codes(codebook, 0.02, 5, count=2)
    assert near.codes.tolist() == [[0, 1], [1, 0], [2, 1]]
    assert near.shares[0, 0] > near.shares[0, 1] > 0.3
    assert near.shares[2, 0] > 0.999
    alone = near_codes(codebook, 0, 5)
    logits, targets, weights = torch.randn(2, 5, 8), torch.randint(5, 8, (2, 5)), torch.rand(2, 5)
    everywhere = torch.ones(2, 5, dtype=torch.bool)
    plain = weighted_cross_entropy(logits, targets, weights)
    torch.testing.assert_close(weighted_cross_entropy(logits, targets, weights, everywhere, alone), plain)
    ideal = torch.full((1, 1, 8), -30.0)
    ideal[0, 0, [5, 6]] = near.shares[0].log()
    one = torch.ones(1, 1)
    loss = weighted_cross_entropy(ideal, torch.tensor([[5]]), one, one.bool(), near)
    assert abs(float(loss)) < 1e-5


def test_planner_plans_and_metrics_are_recorded(root: Path) -> None:
    planner = Planner.load(root / "weights")
    longest = planner.text.longest(queries(root).sentences)
    assert planner.config.max_words == planner.grammar.max_words == longest > 1
    plan = planner.plan(observation(), episode(999).instruction, max_steps=2)
    again = planner.plan(observation(), episode(999).instruction, max_steps=2)
    assert [step.subtask for step in plan.steps] == [step.subtask for step in again.steps]
    assert len(plan.steps) <= 2
    for step in planner.stream(observation(), "move the red square left"):
        assert step.subtask
        assert step.subgoal is not None
        assert step.subgoal.shape == (SIZE, SIZE, 3)
    asked = "move the red square left", episode(999).instruction
    together = planner.next_steps([observation().images["front"]] * 2, asked, [0, 0])
    for instruction, step in zip(asked, together, strict=True):
        alone = planner.plan(observation(), instruction, max_steps=1).steps
        assert [s.subtask for s in alone] == ([] if step is None else [step.subtask])
        if step is not None:
            np.testing.assert_array_equal(step.subgoal, alone[0].subgoal, strict=True)
    first, second = planner.imagine(observation(), [asked[0], asked[0]])
    prompt = planner.prompt(observation().images["front"], asked[0])
    (codes,) = planner.draw([prompt], [asked[0]], [draw_seed("imagine", 0, 0)])
    np.testing.assert_array_equal(first, planner.images.decode_images(codes[None])[0])
    (codes,) = planner.draw([planner.interleaver.prompt(asked[0], codes)], [asked[0]], [draw_seed("imagine", 0, 1)])
    np.testing.assert_array_equal(second, planner.images.decode_images(codes[None])[0])
    metrics = planner_stage.planner_metrics(planner, queries(root), np.arange(40), 20)
    assert {"subtask_accuracy", "complete_accuracy", "changed_code_accuracy"} <= set(metrics)
    assert all(0 <= value <= 1 for value in metrics.values())


def test_resumed_planner_stage_is_bit_identical(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "weights"):
        (tmp_path / name).symlink_to(root / name)

    def run(out: str, fail_at: int | None = None) -> dict[str, torch.Tensor]:
        config = planner_config(tmp_path, steps=8)
        config = replace(config, out=tmp_path / out, loop=replace(config.loop, save_every=3))
        monkeypatch.setattr(Planner, "save", lambda *_: None)
        call = SequenceSampler.__call__

        def batch(self, step: int):
            if step == fail_at:
                raise KeyboardInterrupt
            return call(self, step)

        with monkeypatch.context() as patch:
            patch.setattr(SequenceSampler, "__call__", batch)
            planner_stage.train(config)
        return torch.load(tmp_path / out / "planner/checkpoint.pt", weights_only=True)["model"]

    whole = run("a")
    with pytest.raises(KeyboardInterrupt):
        run("b", fail_at=5)
    resumed = run("b")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_bad_input_to_the_planner_is_named(root: Path) -> None:
    planner = Planner.load(root / "weights")
    with pytest.raises(InvalidValueError, match="instruction is '  ', must say what to do"):
        planner.plan(observation(), "  ")
    other = Observation(images={"wrist": observation().images["front"]}, state=np.zeros(8, np.float32))
    with pytest.raises(UnknownNameError, match="camera of the observation 'front'; known: wrist"):
        planner.stream(other, "move")
    small = Observation(images={"front": np.zeros((16, 16, 3), np.uint8)}, state=np.zeros(8, np.float32))
    with pytest.raises(ShapeError, match=r"camera 'front': got \(16, 16, 3\) uint8, expected \(32, 32, 3\)"):
        planner.plan(small, "move")
    with pytest.raises(InvalidValueError, match="max_steps is 0"):
        planner.plan(observation(), "move", max_steps=0)


def test_damaged_planner_weights_are_named(root: Path, tmp_path: Path) -> None:
    for path in (root / "weights").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "planner.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"abc")
    with pytest.raises(WeightsError, match=r"planner\.safetensors is corrupted"):
        Planner.load(tmp_path)


def test_buffer_without_the_codes_of_this_tokenizer(root: Path, tmp_path: Path) -> None:
    buffer = toy_buffer(tmp_path / "data", 2)
    with pytest.raises(DataError, match="codes_front: no such array"):
        PlanQueries.load(buffer, "front", root / "weights")
    buffer.encode("front", ImageTokenizer.load(root / "weights").encode_images, "another")
    with pytest.raises(DataError, match="codes_front: made by another image tokenizer"):
        PlanQueries.load(buffer, "front", root / "weights")


def test_what_differs_from_the_background_weighs_more() -> None:
    background = torch.zeros(3, 9, 9)
    images = torch.zeros(2, 3, 9, 9)
    images[0, :, 4, 4] = 1.0
    images[1, 0, 4, 4] = 1.0
    grey, red = importance_BHW(images, background, foreground=4, colour=16)
    assert grey[0, 0] == red[0, 0] == 1
    assert grey[4, 4] == 5
    assert red[4, 4] > 15
    assert grey[2, 2] == 5


@pytest.mark.parametrize("rank", [0, 4])
def test_a_planner_is_tuned_on_from_another(root: Path, tmp_path: Path, rank: int) -> None:
    sequences, paths = SequenceConfig(shift_share=0), {"weights": tmp_path / "weights", "out": tmp_path / "run"}
    config = replace(planner_config(root, steps=20), start=str(root / "weights"), sequences=sequences, **paths)
    planner_stage.train(replace(config, lora=LoraSettings(rank=rank)))
    before, after = Planner.load(root / "weights"), Planner.load(tmp_path / "weights")
    assert n_right_words(after) >= n_right_words(before) - 2
    states = before.model.state_dict(), after.model.state_dict()
    changed = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    adapted = {name for name in states[0] if name.endswith("_proj.weight")}
    assert changed == adapted if rank else changed > adapted


def test_only_a_planner_that_saw_sequences_without_words_is_guided(root: Path, tmp_path: Path) -> None:
    sequences, paths = SequenceConfig(wordless_share=0, shift_share=0), {"weights": tmp_path / "weights"}
    config = replace(planner_config(root, steps=1), sequences=sequences, out=tmp_path / "run", **paths)
    begun = Planner.load(root / "weights")
    copy_weights(root / "weights", tmp_path / "start")
    Planner(replace(begun.config, max_words=1), begun.model, begun.text, begun.images).save(tmp_path / "start")
    planner_stage.train(replace(config, start=str(tmp_path / "start")))
    assert begun.decoder.images.guides
    tuned = Planner.load(tmp_path / "weights")
    assert not tuned.decoder.images.guides
    assert tuned.config.max_words == begun.config.max_words, "it follows the set where the start had less"


def test_adapters_need_a_planner_to_adapt(root: Path) -> None:
    with pytest.raises(InvalidValueError, match="needs start="):
        replace(planner_config(root), lora=LoraSettings(rank=2))


def test_a_planner_goes_on_with_other_tokenizers(root: Path, tmp_path: Path) -> None:
    other = tokenizer_config(root)
    other = replace(other, out=tmp_path / "run", weights=tmp_path / "weights", text_vocabulary=275)
    tokenizer_stage.train(replace(other, loop=replace(other.loop, seed=1)))
    begun = Planner.load(root / "weights")
    text, images = TextTokenizer.load(tmp_path / "weights"), ImageTokenizer.load(tmp_path / "weights")
    pictures = ReplayBuffer.open(root / "data").images("front")[:200]
    model, settings = with_tokenizers(begun, text, images, pictures)
    carried = Planner(settings, model.eval(), text, images)
    assert carried.plan(observation(), episode(999).instruction, max_steps=1) is not None
    before, after = (one.model.lm_head.weight for one in (begun, carried))
    assert text.size < begun.text.size
    red = before[begun.text.encode("red")].mean(0)
    torch.testing.assert_close(after[text.encode("red")].mean(0), red)
    old, new = (one.interleaver.vocabulary for one in (begun, carried))
    torch.testing.assert_close(after[new.bos_step], before[old.bos_step])
    codes = [one.images.encode_images(pictures).astype(np.int64) for one in (begun, carried)]
    code = codes[1][7, 3]
    met = torch.from_numpy(codes[0][codes[1] == code])
    torch.testing.assert_close(after[new.first_code + code], before[old.first_code + met].mean(0))
    books = replace(images.config, code_books=2)
    digits = ImageTokenizer(books).eval().requires_grad_(False)
    digits.trained_books.initialize(digits.features(to_pixels(torch.from_numpy(pictures))))
    model, settings = with_tokenizers(begun, text, digits, pictures)
    assert (settings.model.code_books, settings.model.book_size) == (2, books.book_size)
    carried = Planner(settings, model.eval(), text, digits)
    assert carried.plan(observation(), episode(999).instruction, max_steps=1) is not None
    meant, found = (
        one.model.model.embed(
            torch.from_numpy(one.images.encode_images(pictures).astype(np.int64))
            + one.interleaver.vocabulary.first_code
        )
        for one in (begun, carried)
    )
    spread = (meant - meant.mean((0, 1))).square().mean()
    assert (found - meant).square().mean() < 0.9 * spread, "the sum over the digits of a cell is near what it meant"
    model, settings = with_tokenizers(carried, text, images, pictures)
    assert settings.model.code_books == 1 and not [name for name in model.state_dict() if "next_digit" in name]
    assert Planner(settings, model.eval(), text, images).plan(observation(), "move it", max_steps=1) is not None
    wider = ImageTokenizer(replace(images.config, patch_size=4))
    with pytest.raises(InvalidValueError, match=r"has 8 cells a side, the planner's own 4"):
        with_tokenizers(begun, text, wider, pictures)


def n_right_words(planner: Planner) -> int:
    """Of 20 new layouts, where the first step is said right."""
    right = 0
    for seed in range(900, 920):
        plan = planner.plan(observation(seed), episode(seed).instruction, max_steps=1)
        right += not plan.is_complete and plan.steps[0].subtask == episode(seed).subtasks[0]
    return right


def test_planner_draws_steps_to_learn_from_and_goes_on_where_it_was_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner_draw = Planner.draw
    data, path = queries(root), tmp_path / "drawn.npz"
    shifted = shifted_images(
        root / "weights", ReplayBuffer.open(root / "data"), "front", SequenceConfig(), LoopConfig(**LOOP)
    )
    chosen = np.flatnonzero(~data.complete)[:40]

    def draw(count: int, share: float = 0.5) -> DrawnSteps:
        return draw_steps(root / "weights", data, chosen[:count], shifted, share, path, seed=0)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="drawn.npz holds 32 of 40 images"):
        patch.setattr(Planner, "draw", lambda *given: os.kill(os.getpid(), signal.SIGTERM) or planner_draw(*given))
        draw(40)
    first, size = draw(32), path.stat().st_size
    whole = draw(40)
    assert path.stat().st_size > size and whole.images.shape == (40, 2, 16)
    assert np.array_equal(whole.query, chosen) and np.array_equal(whole.images[:32], first.images)
    stored = (whole.images[:, 0] == data.codes_Mn[data.row[chosen]]).all(1)
    assert 5 < stored.sum() < 35
    planner = Planner.load(root / "weights")
    prompt = planner.interleaver.prompt(data.instruction(int(chosen[3])), whole.images[3, 0])
    assert np.array_equal(planner.draw([prompt], data.texts(int(chosen[3]), 1), [0])[0], whole.images[3, 1])
    step = planner.first_steps([prompt], [0])[0]
    assert step is not None and np.array_equal(planner.draw([prompt], [step[0]], [0])[0], step[1])
    with pytest.raises(DataError, match="expected at most 8"):
        draw(8)


def test_dida_stage_adapts_the_planner_and_keeps_its_words(root: Path, tmp_path: Path) -> None:
    for path in (root / "weights").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="decoder=dida needs weights adapted"):
        Planner.load(tmp_path, decoder=DecoderConfig(kind=Decoder.DIDA))
    before = n_right_words(Planner.load(tmp_path))
    loop = replace(LoopConfig(steps=100, **LOOP), log_every=5)
    config = dida_stage.DidaTrainConfig(
        data=root / "data",
        out=tmp_path / "run",
        weights=tmp_path,
        path=PathName.mask,
        drawn_images=40,
        holdout=0.1,
        loop=loop,
    )
    dida_stage.train(config)
    lines = [json.loads(line) for line in (tmp_path / "run/dida/metrics.jsonl").read_text().splitlines()]
    losses = [line["noisy"] for line in lines if "noisy" in line]
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:2]), losses
    planner = Planner.load(tmp_path, decoder=DecoderConfig(kind=Decoder.DIDA, steps=2))
    assert planner.config.dida_path == "mask"
    assert n_right_words(planner) >= before - 2, before
    codes = planner.first_steps([planner.prompt(observation().images["front"], episode(999).instruction)], [0])[0]
    assert codes is not None and codes[1].shape == (16,)
