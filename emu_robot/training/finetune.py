"""Settings of fine-tuning on a LeRobotDataset: every step is fitted to the data set and to the weights."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emu_robot.data.conversion import choose_cameras
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.prepare import Preparation, PrepareConfig, captioner, chosen, locate
from emu_robot.errors import ConfigError
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.weights import resolve_weights, stage_config
from emu_robot.policy.weights_contract import planner_camera
from emu_robot.training.dida import DidaTrainConfig, DidaTraining
from emu_robot.training.goal_choice import GoalChoice, GoalChoiceConfig
from emu_robot.training.head import HeadTrainConfig, HeadTraining
from emu_robot.training.holdout import held_out_episodes
from emu_robot.training.loop import LoopConfig, check_loop
from emu_robot.training.planner_config import PlannerTrainConfig, PlannerTraining
from emu_robot.training.tokenizer import EncodeConfig
from emu_robot.training.tokenizer_choice import START, TokenizerChoice, TokenizerChoiceConfig, check_choice
from emu_robot.training.tracking import TrackerName

HOLDOUT = 0.1
"""Share of the episodes that all trainings leave out, the same ones, so that they are new to planner and head alike."""


def _planner() -> PlannerTraining:
    loop = LoopConfig(steps=2000, batch_size=16, lr=5e-4, beta2=0.98, warmup_steps=100, weight_decay=0.05, threads=1)
    return PlannerTraining(holdout=HOLDOUT, loop=loop)


def _dida() -> DidaTraining:
    loop = LoopConfig(steps=800, batch_size=16, lr=3e-4, beta2=0.98, warmup_steps=50, weight_decay=0.05, threads=1)
    return DidaTraining(drawn_images=2000, holdout=HOLDOUT, loop=loop)


def _head() -> HeadTraining:
    loop = LoopConfig(
        steps=3000, batch_size=32, lr=7e-4, warmup_steps=100, weight_decay=0.02, ema_decay=0.998, threads=1,
        channels_last=True, eval_every=1000,
    )  # fmt: skip
    return HeadTraining(holdout=HOLDOUT, loop=loop)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Settings of fine-tuning. Files of the steps follow from `out`, sizes from `weights`."""

    dataset: str = ""
    """Folder of a LeRobotDataset (v2.1, v3.0) or its id on the hub."""
    weights: str = "mini"
    """Released name or weights folder to start from."""
    out: Path = Path("outputs/finetune")
    """Folder that gets `data` (the prepared set), `start` (the weights that planner and head start from), `run`
    (checkpoints, metrics), `weights`, tokenizer.json, goals.json and report.html."""
    prepare: Preparation = field(default_factory=Preparation)
    """Preparation of the data set. Without prepare.cameras the planner sees the camera of its own camera's name,
    else the first one."""
    tokenizer: TokenizerChoice = field(default_factory=lambda: TokenizerChoice(holdout=HOLDOUT))
    """Choice of the image tokenizer."""
    planner: PlannerTraining = field(default_factory=_planner)
    """Stage planner."""
    dida: DidaTraining = field(default_factory=_dida)
    """Stage dida."""
    head: HeadTraining = field(default_factory=_head)
    """Stage head."""
    goals: GoalChoice = field(default_factory=GoalChoice)
    """Comparison of the goal modes, which chooses the weights' own."""
    track: TrackerName = field(default=TrackerName.none, repr=False)
    """Tracker of all trainings, besides metrics.jsonl; none: the tracker of each stage's loop."""

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        if self.track is TrackerName.none:
            return {}
        stages = ("planner", "dida", "head")
        return dict.fromkeys((f"{stage}.loop.track" for stage in stages), f"track={self.track}")


def verb_runs(config: FinetuneConfig) -> dict[tuple[str, str], Any]:
    """(verb, name of the run) -> its configuration, in order.

    Raises the errors of the data set's metadata and of the settings of all steps, before the first step.
    """
    folder, data = resolve_weights(config.weights), config.out / "data"
    camera, size = planner_camera(folder)[0], stage_config(folder, "head", HeadConfig).image_size
    files = LeRobotFiles(locate(config.dataset))
    captioner(config.prepare.captioner)
    cameras = _cameras(files, config.prepare.cameras, camera)
    paths: dict[str, Any] = {"data": data, "out": config.out / "run", "weights": config.out / "weights"}
    stages: dict[str, Any] = {"planner": config.planner, "dida": config.dida, "head": config.head}
    for stage in stages.values():
        held_out_episodes([1] * len(chosen(files, config.prepare)), stage.holdout)
    settings = {name: _choices(stage, config.track) | paths for name, stage in stages.items()}
    for name, values in settings.items():
        check_loop(values["loop"], paths["out"] / name)
    choice = TokenizerChoiceConfig(
        **vars(config.tokenizer), data=data, out=config.out, camera=camera, start=str(folder)
    )
    check_choice(choice)
    start = str(config.out / START)
    compared: dict[str, Any] = vars(config.goals) | stages | paths | {"out": config.out}
    prepared: dict[str, Any] = vars(config.prepare) | {"cameras": cameras}
    ordered = [camera, *(name for name in cameras if name != camera)]
    preparation = PrepareConfig(**prepared, dataset=config.dataset, out=data, image_size=size)
    return {
        ("estimate-preparation", "of the set"): preparation,
        ("prepare", "the set"): preparation,
        ("estimate", "of the rest"): config,
        ("choose-tokenizer", "for it"): choice,
        ("encode", "it"): EncodeConfig(buffer=data, weights=start, camera=camera),
        ("train-planner", "on it"): PlannerTrainConfig(**settings["planner"], start=start),
        ("train-dida", "on it"): DidaTrainConfig(**settings["dida"]),
        ("train-head", "on it"): HeadTrainConfig(**settings["head"], start=start, cameras=ordered),
        ("choose-goal", "for it"): GoalChoiceConfig(**compared),
        ("report", "of it"): config,
    }


def _choices(stage: Any, track: TrackerName) -> dict[str, Any]:
    """The settings of a stage by name, with this tracker if one is named."""
    loop = stage.loop if track is TrackerName.none else replace(stage.loop, track=track)
    return vars(stage) | {"loop": loop}


def _cameras(files: LeRobotFiles, wanted: dict[str, str], planner: str) -> dict[str, str]:
    """Our camera name -> the data set's. Raises `ConfigError` without the planner's camera."""
    cameras = choose_cameras(files, wanted)
    if planner in cameras:
        return cameras
    if wanted:
        raise ConfigError(
            f"the planner looks through {planner!r}; say which camera that is: prepare.cameras.{planner}="
        )
    first, *others = cameras
    return {planner: cameras[first], **{name: cameras[name] for name in others}}
