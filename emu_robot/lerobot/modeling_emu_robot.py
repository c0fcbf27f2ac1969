"""`--policy.type=emu_robot`: planner and action head, trained, saved, loaded and run by LeRobot's own commands.

A checkpoint is one of our weights folders with LeRobot's files beside it, so `emu-robot eval policy=<folder>` reads it.
Suffixes: B batch (environments or samples), T chunk, A action, S state.
"""

import copy
import logging
from dataclasses import replace
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, ClassVar, Self

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from numpy.typing import NDArray
from torch import Tensor

from emu_robot.core import Observation
from emu_robot.data.lerobot_names import IMAGE_PREFIX
from emu_robot.data.prepare import PrepareConfig
from emu_robot.errors import ConfigError, InvalidValueError, UnknownNameError
from emu_robot.lerobot.adapters import Fitted, default_targets
from emu_robot.lerobot.batches import listed, to_observations, to_pictures, to_prefix, to_query
from emu_robot.lerobot.configuration_emu_robot import EmuRobotConfig
from emu_robot.lerobot.episodes import Episodes
from emu_robot.lerobot.saved_policy import find_policy, save_fitted
from emu_robot.lerobot.training_examples import MARKED_ONLY, TrainingExamples, prepare_once, seeded
from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.weights import copy_weights, load_weights, resolve_weights, stage_config
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import GoalMode, PolicyConfig
from emu_robot.policy.emu_policy import EmuPolicy
from emu_robot.robots.order import to_theirs
from emu_robot.shared.draws import episode_seed
from emu_robot.training.head import HeadTrainConfig, head_loss
from emu_robot.training.losses import near_digits
from emu_robot.training.planner import planner_loss
from emu_robot.training.planner_config import SequenceConfig
from emu_robot.training.warm_start import warm_start

CACHE = ".emu_robot"
"""Folder of a dataset, beside its `meta`, for the prepared set."""
_deciding = Lock()
"""Lets one thread at a time decide, as a planner serves one thread."""


class EmuRobotPolicy(PreTrainedPolicy):
    """Our policy under LeRobot's contract; one `EmuPolicy` for each environment of a batch.

    Each thread has its own episodes; threads decide one after the other.
    """

    config_class = EmuRobotConfig  # pyright: ignore[reportAssignmentType]  # LeRobot declares both as None
    name = "emu_robot"  # pyright: ignore[reportAssignmentType]
    _fsdp_wrap_modules: ClassVar[list[str]] = ["Block", "KeypointTrunk"]  # LeRobot's word for it, after 0.6.1
    _no_split_modules: ClassVar[list[str]] = _fsdp_wrap_modules  # accelerate's, which LeRobot 0.6.1 leaves it to

    def __init__(self, config: EmuRobotConfig, dataset_stats: Any = None, dataset_meta: Any = None, **_: Any) -> None:
        """dataset_meta: metadata of the training set; without it the policy can only act. dataset_stats is unused."""
        super().__init__(config)
        config.validate_features()
        self.config: EmuRobotConfig = config
        self._folder = resolve_weights(config.weights)
        self._examples: TrainingExamples | None = None
        self._fitted: Fitted | None = None
        self._planner: Planner | None = None
        self._planner_device = torch.device("cpu")
        self._episodes: dict[int, Episodes] = {}
        if dataset_meta is not None:
            self._prepare_training(Path(dataset_meta.root), config.cameras_in(dataset_meta.features))
        elif config.fitted:
            started = stage_config(self._folder, "head", HeadConfig)
            self._fit(Fitted.from_dict(config.fitted, started), Planner.load(self._folder))
        else:
            self._load()
        self.goal = GoalMode(self.config.goal).resolved(self._action_decoder.goal)
        logging.info("goal=%s", self.goal.value)
        self.reset()

    # -- building

    def _load(self) -> None:
        """Load the head from the weights folder, to act."""
        self._action_decoder = ActionDecoder.load(self._folder)
        self.head = self._action_decoder.head

    def _fit(self, fitted: Fitted, planner: Planner) -> None:
        """Make a head of this shape and a planner for its camera, both started from the weights.

        Parameters that the weights lack are always initialised alike, so that adapters find the head of their training.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = ActionHead(fitted.head)
        untrained = self._untrained = warm_start(self.head, load_weights(self._folder, "head"))
        some = f" ({', '.join(untrained[:8])} ...)" if untrained else ""
        logging.info("head: %d parameters start untrained%s", len(untrained), some)
        settings = replace(planner.config, camera=fitted.head.cameras[0], max_words=fitted.max_words)
        planner = self._planner = Planner(settings, planner.model, planner.text, planner.images)
        self.world_model = planner.model.requires_grad_(True) if self.config.train_planner else None
        self._action_decoder = ActionDecoder(self.head, fitted.stats, planner.text, fitted.layout, fitted.control_hz)
        self._fitted = fitted

    def _prepare_training(self, root: Path, features: dict[str, str]) -> None:
        """Make the set's head, started from the weights, and the losses' examples. features: camera -> the set's."""
        config, planner = self.config, Planner.load(self._folder)
        started = stage_config(self._folder, "head", HeadConfig)
        cameras = self._camera_order(planner)
        buffer = prepare_once(
            PrepareConfig(
                dataset=str(root),
                out=Path(config.cache_dir or root / CACHE) / f"{cameras[0]}_{started.image_size}",
                cameras={camera: features[camera].removeprefix(IMAGE_PREFIX) for camera in cameras},
                image_size=started.image_size,
                image_every=MARKED_ONLY,
                use_labels=config.use_labels,
            )
        )
        head = replace(started, cameras=cameras, action_horizon=config.chunk_size)
        examples = self._examples = TrainingExamples(buffer, head, planner, self._folder)
        config.state_order, config.action_order = map(list, (examples.layout.state_order, examples.layout.action_order))
        fitted = Fitted(
            head=examples.config,
            stats=examples.stats,
            layout=examples.layout,
            control_hz=examples.control_hz,
            max_words=max(planner.config.max_words, examples.longest_words),
        )
        self._fit(fitted, planner)
        books_PSD, first_code = planner.images.quantize.books(), planner.interleaver.vocabulary.first_code
        self._planner_loss = planner_loss(near_digits(books_PSD, SequenceConfig().code_temperature, first_code))

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

        Frames after the last completed subtask of a failed episode are ignored. Raises `ConfigError` if the policy was
        made without a dataset, `InvalidValueError` for another reduction than "mean".
        """
        if self._examples is None:
            raise ConfigError("this policy was made without a dataset (dataset_meta), so it cannot be trained")
        if reduction != "mean":
            raise InvalidValueError(f"reduction is {reduction!r}; only 'mean' is there")
        frame, device = batch["index"].cpu().numpy().astype(np.int64).ravel(), next(self.head.parameters()).device
        rng = seeded(frame)
        size = self.head.config.image_size
        views = {camera: to_pictures(batch[key], size) for camera, key in self.config.cameras_in(batch).items()}
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

    # -- adapters

    def wrap_with_peft(self, peft_config: Any = None, peft_cli_overrides: dict[str, Any] | None = None) -> Any:
        """The policy inside a `peft.PeftModel`, its own weights frozen, see `adapters`.

        Raises `ConfigError` if the policy was made without a dataset.
        """
        if self._fitted is None:
            raise ConfigError("this policy was made without a dataset (dataset_meta), so it takes no adapters")
        self.config.fitted = self._fitted.to_dict()
        self.name_or_path = self.config.weights
        return super().wrap_with_peft(peft_config, peft_cli_overrides)

    def _get_default_peft_targets(self) -> dict[str, Any]:
        return default_targets(self, self._untrained)

    def _validate_peft_config(self, peft_config: Any) -> None:
        """Accept any, as there are always weights to start from."""

    # -- acting

    def reset(self) -> None:
        """Begin new episodes in this thread's environments."""
        self._episodes[get_ident()] = Episodes()

    @property
    def _here(self) -> Episodes:
        return self._episodes.setdefault(get_ident(), Episodes())

    @property
    def last_predicted_latents(self) -> Tensor | None:
        """The first environment's subgoal, (1, 3, T, H, W) uint8, once per chunk of T actions.

        `decode_predicted_latents` turns several into a video.
        """
        return self._here.latents

    @last_predicted_latents.setter
    def last_predicted_latents(self, latents: Tensor | None) -> None:
        self._here.latents = latents

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **_: Any) -> Tensor:
        """(B, A), the next action of each environment; plans and predicts when the last chunk is used up."""
        queue = self._here.queue
        if not queue:
            chunk_BTA = self.predict_action_chunk(batch)[:, : self.config.n_action_steps]
            queue.extend(chunk_BTA.unbind(1))
        return queue.popleft()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        execution_horizon: int | None = None,
        **_: Any,
    ) -> Tensor:
        """(B, chunk_size, A) actions in the robot's order.

        prev_chunk_left_over: (K, A) or (1, K, A), the rest of the chunk before. `inference_delay` of its actions will
        be executed before this chunk arrives (real-time chunking, for one environment).
        """
        observations, here = self._observations(batch), self._here
        tasks = listed(batch.get("task", [""] * len(observations)))
        prefix = to_prefix(prev_chunk_left_over, inference_delay, execution_horizon, self.config)
        with _deciding:
            if not here.drivers:
                here.drivers = [self._driver(*episode) for episode in zip(tasks, observations, strict=True)]
                here.tasks = tasks
            if len(here.drivers) != len(observations):
                n_episodes = len(here.drivers)
                raise InvalidValueError(f"{len(observations)} observations for {n_episodes} episodes; call reset")
            here.follow(tasks)
            chunks = [driver.act(seen, prefix) for driver, seen in zip(here.drivers, observations, strict=True)]
        here.latents, step = None, chunks[0].step
        subgoal = step.subgoal if step is not None else None
        if self.config.save_predicted_video and subgoal is not None:
            picture = torch.from_numpy(np.ascontiguousarray(subgoal.transpose(2, 0, 1)))[None, :, None]
            here.latents = picture.repeat(1, 1, self.config.n_action_steps, 1, 1)
        actions_BTA = to_theirs(np.stack([chunk.actions for chunk in chunks]), self.config.action_order)
        return torch.from_numpy(np.ascontiguousarray(actions_BTA)).to(next(self.head.parameters()).device)

    @staticmethod
    def decode_predicted_latents(latents: Tensor) -> NDArray[np.uint8]:
        """(1, 3, T, H, W) -> (T, H, W, 3) uint8."""
        return latents[0].permute(1, 2, 3, 0).to(torch.uint8).cpu().numpy()

    def supports_text_generation(self) -> bool:
        return self.goal.needs_planner

    def generate_text(self, batch: dict[str, Any]) -> str:
        """The next subtask of one environment in words, for LeRobot's text queries (after 0.6.1), see `to_query`.

        Raises `InvalidValueError` if the planner judges the task complete, since LeRobot takes no empty answer.
        """
        task, observation = to_query(batch), self._observations(batch)[0]
        with _deciding:
            planner, seed = self._acting_planner(), episode_seed(task, observation, self.config.seed)
            step = planner.next_steps([observation.images[planner.config.camera]], [task], [seed])[0]
        if step is None:
            raise InvalidValueError(f"no subtask is left: the planner judges {task!r} complete")
        return step.subtask

    def drop_queued_actions(self) -> None:
        """Forget the rest of the last chunk: LeRobot (after 0.6.1) calls it when the task changes."""
        self._here.queue.clear()

    def supports_rtc(self) -> bool:
        return True

    def _driver(self, task: str, first: Observation) -> EmuPolicy:
        """The policy of one episode. LeRobot passes neither seeds nor the environment of a row, so the episode's random
        numbers depend on its task and first observation alone, not on the batch or on earlier episodes."""
        config = PolicyConfig(
            goal=GoalMode(self.config.goal),
            n_action_steps=self.config.n_action_steps,
            whole_chunks=True,
            chunk=self.config.chunk,
            replan=self.config.replan,
        )
        planner = self._acting_planner() if self.goal.needs_planner else None
        seed = episode_seed(task, first, self.config.seed)
        driver = EmuPolicy(self._action_decoder, planner, config, seed=seed)
        driver.reset(task)
        return driver

    def _acting_planner(self) -> Planner:
        """The planner, moved to the head's device, since LeRobot moves policies alone."""
        planner, device = self._planner, next(self.head.parameters()).device
        if planner is None:
            self._planner = planner = Planner.load(self._folder, device=device, int8=device.type == "cpu")
        elif self._planner_device != device:
            model, images = planner.model.to(device), planner.images.to(device)
            self._planner = planner = Planner(planner.config, model, planner.text, images)
        self._planner_device = device
        return planner

    def _observations(self, batch: dict[str, Any]) -> list[Observation]:
        return to_observations(batch, self.config, self.head.config.image_size)

    # -- files

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write our weights folder, in full precision, and config.json; `state_dict`: if gathered elsewhere."""
        folder = Path(save_directory)
        if folder.resolve() != self._folder.resolve():
            copy_weights(self._folder, folder)
        here = copy.copy(self.config)
        here.weights, here.fitted, here.use_peft = ".", {}, False
        here._save_pretrained(folder)
        if self._fitted is None or self._planner is None:
            return
        state = self.state_dict() if state_dict is None else state_dict
        save_fitted(folder, state, self._fitted, here.cameras, self._planner if self.world_model else None)

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
        """Load a checkpoint or weights folder, released weights ("mini") or a hub id, in evaluation mode."""
        hub = {"revision": revision, "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
        folder = find_policy(pretrained_name_or_path, **hub)
        config = config or PreTrainedConfig.from_pretrained(folder)
        if not isinstance(config, EmuRobotConfig):
            raise ConfigError(f"{folder}: holds a policy of type {config.type}, not {cls.name}")
        config.weights = str(folder)
        for name in ("strict", "force_download", "resume_download", "proxies"):
            kwargs.pop(name, None)
        policy = cls(config, **kwargs)
        return policy.to(config.device).eval()
