"""`--policy.type=emu_robot`: planner and action head, trained, saved, loaded and run by LeRobot's own commands.

A checkpoint is one of our weights folders with LeRobot's files beside it, so `emu-robot eval policy=<folder>` reads it.
Suffixes: B batch (environments or samples), T chunk, A action, S state.
"""

import copy
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Observation
from emu_robot.data.conversion import ImageFit, fit_image
from emu_robot.data.lerobot_files import IMAGE_PREFIX, LeRobotFiles
from emu_robot.data.prepare import PrepareConfig
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.head_runner import ActionPrefix, HeadRunner
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.training_examples import MARKED_ONLY, TrainingExamples, prepare_once, seeded
from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.planner import Planner
from emu_robot.policy import EmuPolicy, GoalMode, PolicyConfig
from emu_robot.training.head import HeadTrainConfig, head_loss
from emu_robot.training.losses import near_codes
from emu_robot.training.planner import SequenceConfig, planner_loss
from emu_robot.training.warm_start import warm_start
from emu_robot.weights import copy_weights, load_weights, resolve_weights, save_weights
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from lerobot.utils.constants import OBS_STATE

CACHE = ".emu_robot"
"""Folder of a dataset, beside its `meta`, that keeps what is looked up of it."""


class EmuRobotPolicy(PreTrainedPolicy):
    """Our policy under LeRobot's contract; one `EmuPolicy` for each environment of a batch.

    last_predicted_latents: the subgoal that is pursued in the first environment, as (1, 3, T, H, W) uint8, once per
    chunk of T actions; `decode_predicted_latents` makes a video of many.
    """

    config_class = EmuRobotConfig  # pyright: ignore[reportAssignmentType]  # LeRobot declares both as None
    name = "emu_robot"  # pyright: ignore[reportAssignmentType]
    _fsdp_wrap_modules: ClassVar[list[str]] = ["DecoderLayer", "KeypointTrunk"]

    def __init__(self, config: EmuRobotConfig, dataset_stats: Any = None, dataset_meta: Any = None, **_: Any) -> None:
        """dataset_meta: of the set to train on; without one the policy can only act. dataset_stats are not used."""
        super().__init__(config)
        config.validate_features()
        self.config: EmuRobotConfig = config
        self._folder = resolve_weights(config.weights)
        self._examples: TrainingExamples | None = None
        self.last_predicted_latents: Tensor | None = None
        if dataset_meta is None:
            self._load()
        else:
            self._prepare_training(Path(dataset_meta.root))
        self.reset()

    # -- building

    def _load(self) -> None:
        """Everything from the weights folder, to act with."""
        self._runner = HeadRunner.load(self._folder)
        self.head = self._runner.head
        self._planner: Planner | None = None

    def _prepare_training(self, root: Path) -> None:
        """A head for the set's cameras and dimensions, started from the weights, and what the losses look up."""
        config, weights = self.config, load_weights(self._folder, "head")
        planner = Planner.load(self._folder)
        started = HeadConfig(**weights.config)
        cameras = self._camera_order(planner)
        files = LeRobotFiles(root)
        buffer = prepare_once(
            PrepareConfig(
                dataset=str(root),
                out=Path(config.cache_dir or root / CACHE) / f"{cameras[0]}_{started.image_size}",
                cameras={camera: config.cameras[camera].removeprefix(IMAGE_PREFIX) for camera in cameras},
                image_size=started.image_size,
                image_every=MARKED_ONLY,
                use_labels=config.use_labels,
            )
        )
        head = replace(started, cameras=cameras, action_horizon=config.chunk_size)
        planner.config.camera = cameras[0]
        examples = self._examples = TrainingExamples(buffer, head, planner, self._folder)
        config.state_order = _order(examples.layout.state_names, files.names("observation.state"))
        config.action_order = _order(examples.layout.action_names, files.names("action"))
        planner.config.max_words = max(planner.config.max_words, examples.longest_subtask)
        self.head = ActionHead(examples.config)
        anew = warm_start(self.head, weights)
        logging.info("head: %d parameters start anew%s", len(anew), f" ({', '.join(anew[:8])} ...)" if anew else "")
        self._planner = planner
        self.world_model = planner.model.requires_grad_(True) if config.train_planner else None
        self._runner = HeadRunner(self.head, examples.stats, planner.text, examples.layout, examples.control_hz)
        codebook_KD = planner.images.quantize.codebook()
        near = near_codes(codebook_KD, SequenceConfig().code_temperature, planner.interleaver.vocabulary.first_code)
        self._planner_loss = planner_loss(examples.first_target, near)

    def _camera_order(self, planner: Planner) -> list[str]:
        """The planner's camera, then the others."""
        cameras, wanted = list(self.config.cameras), self.config.planner_camera
        if wanted and wanted not in cameras:
            raise UnknownNameError("planner_camera", wanted, cameras)
        first = wanted or (planner.config.camera if planner.config.camera in cameras else cameras[0])
        return [first, *(camera for camera in cameras if camera != first)]

    # -- learning

    def get_optim_params(self) -> list[torch.nn.Parameter]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, batch: dict[str, Any], reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """The head's loss and, weighted, the planner's, with their parts.

        Frames behind the last completed subtask of a failed episode teach nothing. Raises `ConfigError` if the policy
        was made without a dataset, `InvalidValueError` for another reduction than "mean".
        """
        if self._examples is None:
            raise ConfigError("this policy was made without a dataset (dataset_meta), so it cannot be trained")
        if reduction != "mean":
            raise InvalidValueError(f"reduction is {reduction!r}; only 'mean' is there")
        frame, device = batch["index"].cpu().numpy().astype(np.int64).ravel(), next(self.head.parameters()).device
        rng = seeded(frame)
        views = {camera: self._pictures(batch[key]) for camera, key in self.config.cameras.items()}
        taught = self._examples.in_subtask(frame)
        if not taught.any():
            return torch.stack([0.0 * parameter.sum() for parameter in self.parameters()]).sum(), {}
        examples = self._examples.of_head(frame[taught], {name: view[taught] for name, view in views.items()}, rng)
        examples = {name: tensor.to(device) for name, tensor in examples.items()}
        loss, parts = head_loss(self.head, examples, HeadTrainConfig())
        if self.world_model is not None:
            planned = self._planner_part(frame, views, rng, device)
            loss, parts = loss + self.config.planner_weight * planned, parts | {"planner": planned}
        return loss, {name: float(torch.as_tensor(value).detach()) for name, value in parts.items()}

    def _planner_part(
        self, frame: NDArray[np.int64], views: dict[str, NDArray[np.uint8]], rng: np.random.Generator, device: Any
    ) -> Tensor:
        assert self._examples is not None and self._planner is not None and self.world_model is not None
        images = self._planner.images.to(device)
        codes = images.encode_images(views[self._planner.config.camera])
        batch = {name: tensor.to(device) for name, tensor in self._examples.of_planner(frame, codes, rng).items()}
        return self._planner_loss(self.world_model, batch)[0]

    def _get_default_peft_targets(self) -> dict[str, Any]:
        """Adapters on the linear layers behind the pictures."""
        return {"target_modules": r"head\.(context|flow)\..*(mlp\.\d|modulation|_in)|head\.context\.0"}

    # -- acting

    def reset(self) -> None:
        """Begin new episodes."""
        self._queue: deque[Tensor] = deque()
        self._drivers: list[EmuPolicy] = []
        self.last_predicted_latents = None

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """(B, A), the next action of each environment; plans and predicts when the last chunk is used up."""
        if not self._queue:
            chunk_BTA = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            self._queue.extend(chunk_BTA.unbind(1))
        return self._queue.popleft()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        execution_horizon: int | None = None,
        **_: Any,
    ) -> Tensor:
        """(B, chunk_size, A) actions as the robot takes them.

        prev_chunk_left_over: (K, A) or (1, K, A) of the chunk before, of which `inference_delay` actions will be
        executed before this one arrives (real-time chunking, for one environment).
        """
        observations = self._observations(batch)
        tasks = batch["task"] if "task" in batch else [""] * len(observations)
        if not self._drivers:
            self._drivers = [self._driver(task) for task in ([tasks] if isinstance(tasks, str) else tasks)]
        if len(self._drivers) != len(observations):
            raise InvalidValueError(f"{len(observations)} observations for {len(self._drivers)} episodes; call reset")
        prefix = self._prefix(prev_chunk_left_over, inference_delay, execution_horizon)
        chunks = [driver.act(seen, prefix) for driver, seen in zip(self._drivers, observations, strict=True)]
        subgoal = chunks[0].step.subgoal if chunks[0].step is not None else None
        self.last_predicted_latents = None
        if self.config.save_predicted_video and subgoal is not None:
            picture_3HW = torch.from_numpy(np.ascontiguousarray(subgoal.transpose(2, 0, 1)))
            self.last_predicted_latents = picture_3HW[None, :, None].repeat(1, 1, self.config.n_action_steps, 1, 1)
        actions_BTA = np.stack([chunk.actions for chunk in chunks])
        if self.config.action_order:
            actions_BTA = actions_BTA[..., np.argsort(self.config.action_order)]
        return torch.from_numpy(np.ascontiguousarray(actions_BTA)).to(next(self.head.parameters()).device)

    @staticmethod
    def decode_predicted_latents(latents: Tensor) -> NDArray[np.uint8]:
        """(1, 3, T, H, W) -> (T, H, W, 3) uint8."""
        return latents[0].permute(1, 2, 3, 0).to(torch.uint8).cpu().numpy()

    def generate_text(self, batch: dict[str, Any], query_kind: str = "next_subtask", **_: Any) -> list[str]:
        """What comes next in each environment, in words; empty where the task is held complete."""
        if query_kind != "next_subtask":
            raise UnknownNameError("query_kind", query_kind, ["next_subtask"])
        planner, observations = self._acting_planner(), self._observations(batch)
        images = [observation.images[planner.config.camera] for observation in observations]
        steps = planner.next_steps(images, list(batch["task"]))
        return [step.subtask if step is not None else "" for step in steps]

    def supports_rtc(self) -> bool:
        return True

    def _driver(self, task: str) -> EmuPolicy:
        config = PolicyConfig(
            goal=GoalMode(self.config.goal), n_action_steps=self.config.n_action_steps, whole_chunks=True
        )
        planner = self._acting_planner() if config.goal.needs_planner else None
        driver = EmuPolicy(self._runner, planner, config)
        driver.reset(task)
        return driver

    def _acting_planner(self) -> Planner:
        if self._planner is None:
            device = next(self.head.parameters()).device
            self._planner = Planner.load(self._folder, device=device, int8=device.type == "cpu")
        return self._planner

    def _observations(self, batch: dict[str, Any]) -> list[Observation]:
        """One per environment, in our order of dimensions and our size of pictures."""
        views = {camera: self._pictures(batch[key]) for camera, key in self.config.cameras.items()}
        state_BS = batch[OBS_STATE].float().cpu().numpy()
        if self.config.state_order:
            state_BS = state_BS[:, self.config.state_order]
        return [
            Observation(images={camera: view[i] for camera, view in views.items()}, state=state)
            for i, state in enumerate(state_BS)
        ]

    def _pictures(self, images_B3HW: Tensor) -> NDArray[np.uint8]:
        """(B, 3, H, W) in [0, 1] -> (B, H, W, 3) uint8 as the head takes them."""
        size = self.head.config.image_size
        pictures = (images_B3HW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return np.stack([fit_image(picture, size, ImageFit.pad) for picture in pictures])

    def _prefix(self, left_over: Tensor | None, delay: int | None, horizon: int | None) -> ActionPrefix | None:
        if left_over is None:
            return None
        actions_KA = left_over.reshape(-1, left_over.shape[-1]).float().cpu().numpy()
        if self.config.action_order:
            actions_KA = actions_KA[:, self.config.action_order]
        if self.config.rtc_config is None:
            raise ConfigError("prev_chunk_left_over needs rtc_config, which `--inference.type=rtc` sets")
        until = min(horizon or self.config.rtc_config.execution_horizon, len(actions_KA))
        weights = RTCProcessor(self.config.rtc_config).get_prefix_weights(delay or 0, until, len(actions_KA))
        return ActionPrefix(actions_KA, weights.numpy().astype(np.float32))

    # -- files

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Our weights folder, in full precision, and LeRobot's config.json; `state_dict`: gathered elsewhere."""
        folder = Path(save_directory)
        if folder.resolve() != self._folder.resolve():
            copy_weights(self._folder, folder)
        here = copy.copy(self.config)
        here.weights = "."
        here._save_pretrained(folder)
        if self._examples is None:
            return
        state = self.state_dict() if state_dict is None else state_dict
        extra = {
            "norm_stats": self._examples.stats.to_dict(),
            "layout": asdict(self._examples.layout),
            "control_hz": self._examples.control_hz,
        }
        save_weights(folder, "head", _part(state, "head."), self.head.config, extra=extra)
        if self.world_model is not None and self._planner is not None:
            self._planner.save(folder, half=False, state=_part(state, "world_model."))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """From a checkpoint or a released weights folder, or from the hub; in evaluation mode."""
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            hub = {"revision": revision, "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
            folder = Path(snapshot_download(str(pretrained_name_or_path), **hub))
        config = config or PreTrainedConfig.from_pretrained(folder)
        if not isinstance(config, EmuRobotConfig):
            raise ConfigError(f"{folder}: holds a policy of type {config.type}, not {cls.name}")
        config.weights = str(folder)
        for name in ("strict", "force_download", "resume_download", "proxies"):
            kwargs.pop(name, None)
        policy = cls(config, **kwargs)
        policy.to(config.device)
        return policy.eval()


def _order(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """Where each of our dimensions stands in theirs; empty if nothing moves."""
    order = [list(theirs).index(name) for name in ours]
    return [] if order == list(range(len(theirs))) else order


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
