import json
import os
import signal
from functools import partial

import fakes
import numpy as np
import pytest

from emu_robot.core import Plan, PlanStep
from emu_robot.evaluation.centroids import position_error
from emu_robot.evaluation.named_objects import naming_figures
from emu_robot.evaluation.plan_accuracy import PlanAccuracyConfig, plan_accuracy
from emu_robot.evaluation.tokenizer_quality import Frame, gripper_readability, object_errors, psnr
from emu_robot.shared.interrupts import Interrupted
from emu_robot.tokenizers.object_naming import SeenObject

GREY = 150


def scene(u, v, colour=(200, 40, 30), half=4):
    image = np.full((128, 128, 3), GREY, np.uint8)
    image[v - half : v + half + 1, u - half : u + half + 1] = colour
    return image


def blurred(image):
    total = sum(np.roll(image.astype(float), (dv, du), (0, 1)) for dv in (-1, 0, 1) for du in (-1, 0, 1))
    return np.asarray(total / 9).round().astype(np.uint8)


def test_position_errors_are_shifts():
    true = scene(60, 70)
    assert position_error(true, true, (60, 70)) == pytest.approx(0)
    assert position_error(true, scene(63, 66), (60, 70)) == pytest.approx(5, abs=0.5)
    assert position_error(true, blurred(true), (60, 70)) == pytest.approx(0, abs=0.05)
    assert position_error(true, scene(60, 70, colour=(170, 38, 30)), (60, 70)) == pytest.approx(0, abs=0.05)


def test_a_vanished_object_is_lost():
    true = scene(60, 70)
    assert position_error(true, np.full_like(true, GREY), (60, 70)) == 9.0
    assert position_error(true, scene(60, 70, colour=(30, 40, 200)), (60, 70)) == 9.0
    assert position_error(np.full_like(true, GREY), true, (60, 70)) is None


def frames_with_gripper(n=40):
    rng, frames = np.random.default_rng(0), []
    for k in range(n):
        u, v = (int(x) for x in rng.integers(30, 98, 2))
        image, wide = scene(10, 10), bool((k // 2) % 2)
        for side in (-1, 1):
            finger = u + side * (7 if wide else 2)
            image[v - 5 : v + 6, finger - 1 : finger + 2] = 20
        frames.append(Frame(image, {"red cube": (10.0, 10.0)}, (u, v), 1.0 if wide else 0.3, k))
    return frames


def test_the_gripper_is_read_from_what_shows_it():
    frames = frames_with_gripper()
    kept = gripper_readability(frames, [frame.image for frame in frames])
    assert kept["reconstructions"].startswith("100.0%")
    gone = gripper_readability(frames, [scene(10, 10) for _ in frames])
    assert gone["originals"].startswith("100.0%")
    assert not gone["reconstructions"].startswith("100.0%")


def test_object_errors_over_frames():
    frames = frames_with_gripper(6)
    errors = object_errors(frames, [np.roll(frame.image, 2, axis=1) for frame in frames])
    assert errors["median"] == pytest.approx(2)
    assert errors["lost"].endswith("(0/6)")
    assert psnr(frames[0].image, frames[0].image) > 100


def test_what_is_named_in_the_codes_is_compared_with_what_is_there():
    there = [{"red cube": (32.0, 64.0), "red can": (96.0, 64.0)}, {"green cube": (10.0, 10.0)}]
    seen = [
        [
            SeenObject("red cube", 34 / 128, 0.5, 0.9),
            SeenObject("red cube", 0.75, 0.5, 0.9),  # a can, taken for a cube
            SeenObject("red can", 0.25, 0.25, 0.9),  # nothing is there
            SeenObject("plate", 0.1, 0.1, 0.9),
        ],
        [],
    ]
    figures = naming_figures(there, seen, 128)
    counts = {name: figures[name].split("(")[-1] for name in ("named", "confused", "unseen", "invented")}
    assert counts == {"named": "1/3)", "confused": "1/3)", "unseen": "1/3)", "invented": "1/3)"}
    assert figures["median"] == pytest.approx(2)


class Oracle:
    """Says the true step while there is one, with the right image; every third time something else."""

    def __init__(self, config):
        self.asked = 0

    def plan(self, observation, instruction, max_steps=None, *, seed=0, past=(), doubt=0.0):
        self.asked += 1
        red, blue = (tuple(fakes.COLOURS[name]) for name in ("red cube", "blue can"))
        image = observation.images["front"]
        at_plate = tuple(int(x) for x in image[100, 64])
        done = 0 if at_plate not in (red, blue) else 1 if at_plate == red else 2
        if done == 2:
            return Plan(instruction=instruction, steps=())
        words = ["put the red cube on the plate", "put the blue can on the plate"][done]
        return Plan(instruction=instruction, steps=(PlanStep(subtask=words, subgoal=image.copy()),))


class Stopping(Oracle):
    """Is interrupted while it answers its eighth question."""

    def plan(self, *given, **how):
        if self.asked == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return super().plan(*given, **how)


def test_a_stopped_measurement_of_plans_continues(tmp_path):
    made: list[Oracle] = []

    def make(kind, config):
        made.append(kind(config))
        return made[-1]

    def measure(kind, name):
        config = PlanAccuracyConfig(env="fake", tasks=["both"], n=5, workers=0, out=tmp_path / name)
        return plan_accuracy(config, partial(make, kind))

    with pytest.raises(Interrupted, match=r"unfinished.jsonl keeps 3 of 5 results; the same command continues"):
        measure(Stopping, "a")
    rest, whole = measure(Oracle, "a"), measure(Oracle, "b")
    assert [planner.asked for planner in made] == [9, 6, 15]
    timed = {"plan_s"}
    assert {k: v for k, v in rest.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["plan_accuracy.json"]


def test_plan_accuracy_counts_words_and_measures_images(tmp_path):
    config = PlanAccuracyConfig(env="fake", tasks=["both"], n=5, workers=0, out=tmp_path)
    summary = plan_accuracy(config, Oracle)
    assert summary["next_subtask"]["text"].endswith("(10/10)")
    assert summary["completion"]["text"].endswith("(5/5)")
    assert summary["mae"]["median"] == pytest.approx(summary["mae_copy"]["median"])  # its subgoal is the present view
    assert summary["mae"]["median"] > 20
    assert summary["position_error"]["n"] == 10
    assert {name: cell["n"] for name, cell in summary["per_composition"].items()} == {"red cube, plate": 5}
    assert summary["kept_compositions"]["text"].endswith("(5/5)")
    assert json.loads((tmp_path / "plan_accuracy.json").read_text())["config"]["tasks"] == ["both"]
