"""What fine-tuning on a LeRobotDataset takes: the settings of every step, fitted to the set and to the weights."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emu_robot.data.conversion import choose_cameras
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.prepare import PrepareConfig, locate
from emu_robot.errors import ConfigError
from emu_robot.evaluation.reconstructions import ReconstructionsConfig
from emu_robot.models.action_head import HeadConfig
from emu_robot.models.weights import resolve_weights, stage_config
from emu_robot.training.dida import DidaTrainConfig
from emu_robot.training.head import HeadTrainConfig
from emu_robot.training.loop import LoopConfig
from emu_robot.training.planner import PlannerTrainConfig
from emu_robot.training.tokenizer import EncodeConfig
from emu_robot.training.tracking import TrackerName, check_tracker


def _planner() -> PlannerTrainConfig:
    loop = LoopConfig(steps=2000, batch_size=16, lr=5e-4, beta2=0.98, warmup_steps=100, weight_decay=0.05, threads=1)
    return PlannerTrainConfig(loop=loop)


def _dida() -> DidaTrainConfig:
    loop = LoopConfig(steps=800, batch_size=16, lr=3e-4, beta2=0.98, warmup_steps=50, weight_decay=0.05, threads=1)
    return DidaTrainConfig(drawn_images=2000, loop=loop)


def _head() -> HeadTrainConfig:
    loop = LoopConfig(
        steps=3000, batch_size=32, lr=7e-4, warmup_steps=100, weight_decay=0.02, ema_decay=0.998, threads=1,
        channels_last=True, eval_every=1000,
    )  # fmt: skip
    return HeadTrainConfig(loop=loop)


@dataclass(kw_only=True)
class FinetuneConfig:
    """dataset: folder of a LeRobotDataset or its id on the hub. weights: released name or folder to start from.
    out: gets `data` (the prepared set), `run` (checkpoints, metrics), `weights` and report.html.

    prepare, planner, dida, head: settings of the steps, but for where they read and write, which follows from `out`.
    Without prepare.cameras the set's camera named like the planner's, or its first one, is the planner's.
    track: `LoopConfig.track` of all three trainings; none leaves each its own.
    """

    dataset: str = ""
    weights: str = "mini"
    out: Path = Path("outputs/finetune")
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    planner: PlannerTrainConfig = field(default_factory=_planner)
    dida: DidaTrainConfig = field(default_factory=_dida)
    head: HeadTrainConfig = field(default_factory=_head)
    track: TrackerName = field(default=TrackerName.none, repr=False)

    def __post_init__(self) -> None:
        if self.prepare.dataset:
            raise ConfigError("prepare.dataset is given; say dataset= instead")


def verb_runs(config: FinetuneConfig) -> dict[tuple[str, str], Any]:
    """(verb, what of it) -> its configuration, in order.

    Raises whatever is wrong with the dataset's metadata, and `SystemSetupError` for a tracker that is not installed.
    """
    folder, data = resolve_weights(config.weights), config.out / "data"
    camera = str(stage_config(folder, "planner")["camera"])
    size = HeadConfig(**stage_config(folder, "head")).image_size
    cameras = _cameras(LeRobotFiles(locate(config.dataset)), config.prepare.cameras, camera)
    paths = {"data": data, "out": config.out / "run", "weights": config.out / "weights"}
    loops = [_tracked(stage.loop, config.track) for stage in (config.planner, config.dida, config.head)]
    head = replace(config.head.model, cameras=[camera, *(name for name in cameras if name != camera)])
    return {
        ("prepare", "the set"): replace(
            config.prepare, dataset=config.dataset, out=data, cameras=cameras, image_size=size
        ),
        ("reconstructions", "of it"): ReconstructionsConfig(
            buffer=data, camera=camera, weights=str(folder), out=config.out
        ),
        ("encode", "it"): EncodeConfig(buffer=data, weights=str(folder), camera=camera),
        ("train-planner", "on it"): replace(config.planner, start=str(folder), loop=loops[0], **paths),
        ("train-dida", "on it"): replace(config.dida, loop=loops[1], **paths),
        ("train-head", "on it"): replace(config.head, start=str(folder), model=head, loop=loops[2], **paths),
        ("report", "of it"): config,
    }


def _tracked(loop: LoopConfig, track: TrackerName) -> LoopConfig:
    """The loop with this tracker, if one is named. Raises what `check_tracker` raises."""
    loop = loop if track is TrackerName.none else replace(loop, track=track)
    check_tracker(loop.track)
    return loop


def _cameras(files: LeRobotFiles, wanted: dict[str, str], planner: str) -> dict[str, str]:
    """Our name -> the set's, the planner's camera among ours. Raises `ConfigError` if that one was left out."""
    cameras = choose_cameras(files, wanted)
    if planner in cameras:
        return cameras
    if wanted:
        raise ConfigError(
            f"the planner looks through {planner!r}; say which camera that is: prepare.cameras.{planner}="
        )
    first, *others = cameras
    return {planner: cameras[first], **{name: cameras[name] for name in others}}
