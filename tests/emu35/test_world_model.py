"""A checkpoint of the official form answers with words and pictures, from Python and from the command line."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from emu_robot.cli import main as cli
from emu_robot.cli.plan import plan_steps
from emu_robot.emu35.config import DType, GenerationConfig, PlacementConfig, WorldModelConfig
from emu_robot.emu35.world_model import load_world_model, sides
from emu_robot.errors import ShapeError, UnknownNameError

SMALL = WorldModelConfig(
    image_area=64,
    placement=PlacementConfig(dtype=DType.float32, device="cpu"),
    generation=GenerationConfig(size=(2, 3), max_images=2, max_ids=400),
)
PICTURE = np.full((20, 30, 3), 90, np.uint8)


def test_pictures_keep_their_proportion() -> None:
    assert sides(480, 640, 720 * 720, 16) == (624, 832)
    assert sides(10, 1000, 64, 16) == (16, 80)


def test_answers_are_words_and_pictures(checkpoint) -> None:
    model = load_world_model(checkpoint, SMALL)
    model.model.lm_head.weight[model.text.ids.boi] *= 3
    assert model.encode(PICTURE, 64).shape == (3, 5)
    parts = list(model.generate("open the drawer", [PICTURE, PICTURE[:, :20]], SMALL))
    pictures = [part for part in parts if isinstance(part, np.ndarray)]
    assert pictures
    assert all(picture.shape == (4, 6, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert [step.subgoal for step in plan_steps(parts) if step.subgoal is not None] == pictures


def test_bad_questions_are_refused_at_the_call(checkpoint) -> None:
    model = load_world_model(checkpoint, SMALL)
    with pytest.raises(ShapeError, match=r"picture.*\(H, W, 3\) uint8"):
        model.generate("open", [PICTURE.astype(np.float32)], SMALL)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownNameError, match="unknown task 'chat'; known: t2i, x2i"):
        model.generate("open", [], WorldModelConfig(task="chat"))  # pyright: ignore[reportArgumentType]


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
    assert cli.main([*words, "official.placement.quantize=nf5"]) == 1
    assert "nf5" in capsys.readouterr().err
