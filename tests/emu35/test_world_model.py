"""A checkpoint of the official form answers with words and pictures, from Python and from the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from html_pages import read_page
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file

from emu_robot.cli import main as cli
from emu_robot.cli.plan import plan_steps
from emu_robot.core import PlanStep
from emu_robot.emu35.answer import End, EndReason, Role, Words
from emu_robot.emu35.config import DType, GenerationConfig, PlacementConfig, WorldModelConfig, is_official
from emu_robot.emu35.generation import InterleavedGenerator
from emu_robot.emu35.prompts import image_ids, task_prompt
from emu_robot.emu35.world_model import load_world_model, sides
from emu_robot.errors import ShapeError, UnknownNameError, WeightsError

SMALL = WorldModelConfig(
    image_area=64,
    placement=PlacementConfig(dtype=DType.float32, device="cpu"),
    generation=GenerationConfig(size=(2, 3), max_images=2, max_ids=400),
)
PICTURE = np.full((20, 30, 3), 90, np.uint8)


def test_pictures_keep_their_proportion() -> None:
    assert sides(480, 640, 720 * 720, 16) == (624, 832)
    assert sides(1242, 2208, 720 * 720, 16) == (544, 960)  # cut to whole pixels first: 540 x 960
    assert sides(10, 1000, 64, 16) == (16, 16)


def test_answers_are_words_and_pictures(checkpoint) -> None:
    model = load_world_model(checkpoint, SMALL)
    model.model.lm_head.weight[model.text.ids.boi] *= 3
    assert model.encode(PICTURE, 64).shape == (3, 5)
    parts = list(model.generate("open the drawer", [PICTURE, PICTURE[:, :20]], SMALL))
    pictures = [part for part in parts if isinstance(part, np.ndarray)]
    assert pictures
    assert all(picture.shape == (4, 6, 3) and picture.dtype == np.uint8 for picture in pictures)
    steps = [step for step in plan_steps(parts) if isinstance(step, PlanStep)]
    assert [step.subgoal for step in steps if step.subgoal is not None] == pictures
    free = replace(SMALL, generation=GenerationConfig(max_images=1, max_ids=400))
    drawn = next(part for part in model.generate("open", [PICTURE], free) if isinstance(part, np.ndarray))
    assert drawn.shape == (6, 10, 3)  # as large as the input picture in codes


def test_an_answer_goes_on_after_the_steps_taken_so_far(checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_world_model(checkpoint, SMALL)
    after = np.full((20, 30, 3), 200, np.uint8)
    asked: list[tuple[list[int], list[int], object]] = []
    answer = InterleavedGenerator.answer
    monkeypatch.setattr(InterleavedGenerator, "answer", lambda self, *of: (asked.append(of), answer(self, *of))[1])
    list(model.generate("tidy up", [PICTURE], SMALL))
    parts = list(model.generate("tidy up", [PICTURE], SMALL, past=[("open the drawer", after)]))
    assert parts, "it goes on"
    (plain, free, _), (longer, free_longer, seen) = asked
    now = image_ids(model.text, model.encode(after, 64))
    assert longer == [*plain, *model.text.encode("open the drawer"), *now]
    assert free_longer == [*free, *now] and seen == (3, 5), "guidance sees the pictures and reads no words"
    with pytest.raises(ShapeError, match="picture"):
        model.generate("tidy up", [PICTURE], SMALL, past=[("open", after[0])])


def test_bad_questions_are_refused_at_the_call(checkpoint) -> None:
    model = load_world_model(checkpoint, SMALL)
    with pytest.raises(ShapeError, match=r"picture.*\(H, W, 3\) uint8"):
        model.generate("open", [PICTURE.astype(np.float32)], SMALL)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownNameError, match="unknown task 'chat'; known: t2i, x2i"):
        WorldModelConfig(task="chat")  # pyright: ignore[reportArgumentType]


def test_plan_prints_steps_and_writes_a_strip(checkpoint, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    PillowImage.fromarray(PICTURE).save(tmp_path / "view.png")
    out = tmp_path / "plan.png"
    words = [
        "plan", f"weights={checkpoint}", f"image={tmp_path / 'view.png'}", "instruction=open the drawer", f"out={out}",
        "official.placement.device=cpu", "official.placement.dtype=float32", "official.image_area=64",
        "official.generation.size=2,3", "official.generation.max_images=1", "official.generation.max_ids=300",
    ]  # fmt: skip
    assert cli.main(words) == 0
    assert f"pictures: {out}" in capsys.readouterr().out
    assert PillowImage.open(out).height > 256
    past = ["past=[find the drawer]", f"past_images=[{tmp_path / 'view.png'}]"]
    assert cli.main([*words, *past]) == 0
    assert cli.main([*words, past[0]]) == 1
    assert "past= names 1 subtasks, past_images= 0 pictures" in capsys.readouterr().err
    assert cli.main([*words[:1], words[2], *words[3:4], *past, f"out={out}"]) == 1
    assert "past= changes nothing: mini reads the present picture alone" in capsys.readouterr().err
    assert cli.main([*words, "official.placement.quantize=nf5"]) == 1
    assert "nf5" in capsys.readouterr().err


OPTIONS = ["placement.device=cpu", "placement.dtype=float32", "image_area=64", "generation.max_ids=500"]


def test_steps_reasoning_and_the_end_are_told_apart() -> None:
    reasoning = Words(text="first\nthen", role=Role.GLOBAL_REASONING)
    begun = [reasoning, Words(text=" open "), PICTURE, Words(text="close")]
    lines = list(plan_steps([*begun, End(reason=EndReason.COMPLETE)]))
    assert lines == [
        "global reasoning: first then",
        PlanStep(subtask="open", subgoal=PICTURE),
        PlanStep(subtask="close"),
    ]
    stopped = list(plan_steps([*begun, End(reason=EndReason.MAX_IMAGES, detail="enough")]))
    assert stopped[1:] == [PlanStep(subtask="open", subgoal=PICTURE), "stopped: enough; it goes on: close"]


def test_a_picture_that_does_not_fit_is_no_completion(checkpoint, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_world_model(checkpoint, SMALL)
    PillowImage.fromarray(PICTURE).save(tmp_path / "view.png")
    with torch.inference_mode():
        asked = task_prompt(model.text, "vla", "open", [model.encode(PICTURE, 64)])
        hidden = model.model.model(torch.tensor([asked]))[0, -1]
    for shard in checkpoint.glob("*.safetensors"):
        state = load_file(shard)
        if "lm_head.weight" in state:
            state["lm_head.weight"][model.text.ids.boi] = hidden * 5
            save_file(state, shard)
    words = ["plan", f"weights={checkpoint}", f"image={tmp_path / 'view.png'}", "instruction=open"]
    words += [f"out={tmp_path / 'plan.png'}", "official.generation.size=200,200"]
    assert cli.main([*words, *(f"official.{option}" for option in OPTIONS)]) == 0
    said = capsys.readouterr().out
    assert "stopped: a picture of 200*200 codes takes 40208 ids" in said and "complete" not in said


def test_generate_writes_one_page_and_the_files(checkpoint, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    PillowImage.fromarray(PICTURE).save(tmp_path / "a.png")
    command = ["generate", f"weights={checkpoint}", "prompt=make it <red>", f"out={tmp_path / 'out'}", *OPTIONS]
    assert cli.main([*command, "task=x2i", f"image={tmp_path / 'a.png'},{tmp_path / 'a.png'}"]) == 0
    assert f"page: {tmp_path / 'out/index.html'}" in capsys.readouterr().out
    answer = json.loads((tmp_path / "out/answer.json").read_text())
    names = [part["picture"] for part in answer["parts"] if "picture" in part]
    page, pictures = read_page(tmp_path / "out/index.html")
    assert "make it <red>" in page and "task x2i" in page
    assert ("The model ended its answer here." in page) == (answer["end"] == "complete")
    assert len(pictures) == 2 + len(names)
    assert all(PillowImage.open(tmp_path / "out" / name).size == (10, 6) for name in names)
    for wrong, message in (
        (["task=x2i"], "task=x2i changes pictures"),
        (["task=t2i", f"image={tmp_path / 'a.png'}"], "draws from words alone"),
        (["prompt= "], "prompt= is missing"),
        (["task=chat"], "'chat'"),
    ):
        keys = {word.partition("=")[0] for word in wrong}
        assert cli.main([*(word for word in command if word.partition("=")[0] not in keys), *wrong]) == 1
        assert message in capsys.readouterr().err


def test_any_hub_id_loads_from_the_cache(checkpoint, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub/models--someuser--Emu3.5-vla/snapshots/abc"
    shutil.copytree(checkpoint, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert is_official("someuser/Emu3.5-vla") and not is_official("mini") and not is_official(Path("a/b/c"))
    assert load_world_model("someuser/Emu3.5-vla", SMALL).text.ids.n_codes == 16


def test_parts_of_different_checkpoints_are_refused(checkpoint) -> None:
    tokens = checkpoint / "emu3_vision_tokens.txt"
    whole = tokens.read_text()
    tokens.write_text(whole + "<|visual token 000016|>\n")
    with pytest.raises(WeightsError, match=r"config\.json says vocab_size=495, .* need 496"):
        load_world_model(checkpoint, SMALL)
    tokens.write_text(whole)
    config = checkpoint / "vision/config.yaml"
    config.write_text(config.read_text().replace("n_embed: 16", "n_embed: 8"))
    with pytest.raises(WeightsError, match=r"n_embed=8, emu3_vision_tokens\.txt names 16 codes"):
        load_world_model(checkpoint, SMALL)
