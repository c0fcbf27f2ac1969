"""A LeRobot checkpoint as a policy of our harness: `policy=lerobot:FOLDER`, or a hub id in place of the folder.

It runs through its own processors, as in `lerobot-eval`. It keeps its queue of actions to itself: our loop gets one
action for every control tick.
"""

import hashlib
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PreTrainedConfig
from lerobot.envs import EnvConfig
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_STATE
from lerobot.utils.random_utils import set_seed

from emu_robot.core import ActionChunk, Observation
from emu_robot.environments.contract import CameraSpec, EnvironmentSpec
from emu_robot.errors import WeightsError
from emu_robot.lerobot.env_names import known_kinds
from emu_robot.lerobot.env_observation import camera_key, to_batch
from emu_robot.lerobot.saved_policy import find_policy

OWN_NAMES = ("emu_robot",)
"""Types of policies that find their cameras under several names by themselves."""


class LeRobotPolicies:
    """Policies that LeRobot or one of its plugins can load."""

    def check(self, name: str, spec: EnvironmentSpec) -> None:
        """Raise `WeightsError` where the checkpoint does not fit: its action, state or cameras."""
        config, _ = _read(name)
        shapes = {key: tuple(feature.shape) for key, feature in _features(config).items()}
        sizes = {ACTION: len(spec.layout.action_names), OBS_STATE: len(spec.layout.state_names)}
        for key, size in sizes.items():
            if key in shapes and shapes[key] != (size,):
                raise _unfit(name, f"{key} has {shapes[key]} numbers in the policy, ({size},) in the environment")
        if config.type == "xvla":
            raise _unfit(name, "lerobot-eval gives XVLA processors of its own for an environment; use that command")
        if config.type not in OWN_NAMES:
            _check_inputs(name, config, spec)

    def load(self, name: str, spec: EnvironmentSpec) -> "LeRobotPolicy":
        """The policy, on the device that its configuration names if this machine has it."""
        return load_policy(name)

    def made_with(self, name: str) -> Mapping[str, str]:
        """Hash of all files of the checkpoint, and LeRobot's version."""
        _, folder = _read(name)
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors")):
            digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
        return {"checkpoint": digest.hexdigest(), "lerobot": version("lerobot")}


class LeRobotPolicy:
    """Plays `select_action`, one action per observation."""

    def __init__(self, policy: Any, before: Any, after: Any) -> None:
        self._policy, self._before, self._after = policy, before, after
        self._wanted = frozenset(policy.config.input_features or {})
        self._instruction = ""

    def seed(self, seed: int) -> None:
        """Choose the random numbers of the following episodes."""
        set_seed(seed)

    def reset(self, instruction: str) -> None:
        """Drop queued actions and begin an episode."""
        self._instruction = instruction
        self._policy.reset()

    def act(self, observation: Observation) -> ActionChunk:
        """A chunk of one action."""
        with torch.no_grad(), self._precision():
            batch = self._before(to_batch(observation, self._instruction, self._wanted))
            with torch.inference_mode():
                action = self._policy.select_action(batch)
            action = self._after(action)
        return ActionChunk(actions=action.to("cpu").numpy().astype(np.float32, copy=False))

    def _precision(self) -> AbstractContextManager[Any]:
        config = self._policy.config
        return torch.autocast(torch.device(config.device).type) if config.use_amp else nullcontext()


def load_policy(name: str) -> LeRobotPolicy:
    """The policy of a folder or hub id, with its own processors. Raises `WeightsError`."""
    config, folder = _read(name)
    config.pretrained_path = folder
    try:
        policy = make_policy(config, env_cfg=_OwnActions(features=dict(config.output_features or {})))
        policy.eval()
        before, after = make_pre_post_processors(
            policy_cfg=config,
            pretrained_path=str(folder),
            preprocessor_overrides={
                "device_processor": {"device": str(policy.config.device)},
                "rename_observations_processor": {"rename_map": {}},
            },
        )
    except Exception as error:  # every type of policy raises its own
        raise WeightsError(f"lerobot:{name} cannot be loaded ({type(error).__name__}: {error})") from error
    return LeRobotPolicy(policy, before, after)


@dataclass
class _OwnActions(EnvConfig):
    """Tells LeRobot's loader the policy's own action, in place of an environment's."""

    def __post_init__(self) -> None:
        self.features_map = {key: key for key in self.features}

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {}


def _read(name: str) -> tuple[PreTrainedConfig, Path]:
    """The configuration of a checkpoint, and its folder. Raises `WeightsError`."""
    known_kinds()  # imports LeRobot's plugins, which may bring the policy
    try:
        folder = find_policy(name)
        return PreTrainedConfig.from_pretrained(folder), folder
    except Exception as error:  # a hub that cannot be reached, a wrong id, a wrong file
        said = " ".join(str(error).split())
        raise WeightsError(f"lerobot:{name} is no folder of a LeRobot policy, nor on the hub ({said})") from error


def _features(config: PreTrainedConfig) -> dict[str, Any]:
    return {**(config.input_features or {}), **(config.output_features or {})}


def _check_inputs(name: str, config: PreTrainedConfig, spec: EnvironmentSpec) -> None:
    """Cameras may be missing on one side only, as LeRobot has it. Another size of pictures is told, not refused."""
    wanted = {key: feature for key, feature in (config.input_features or {}).items() if key != OBS_STATE}
    pictures = {key: feature.shape for key, feature in wanted.items() if feature.type is FeatureType.VISUAL}
    given = {camera_key(camera, pictures): size for camera, size in spec.cameras.items()}
    others = sorted(set(wanted) - set(pictures))
    if others:
        raise _unfit(name, f"it needs {', '.join(others)}, which our harness does not pass on")
    if pictures and not (set(pictures) <= set(given) or set(given) <= set(pictures)):
        raise _unfit(name, f"its cameras are {', '.join(pictures)}, those of the environment {', '.join(given)}")
    for key in set(pictures) & set(given):
        trained = CameraSpec(height=pictures[key][-2], width=pictures[key][-1])
        if trained != given[key]:
            logging.warning("lerobot:%s learned %s at %s px, the environment has %s", name, key, trained, given[key])


def _unfit(name: str, why: str) -> WeightsError:
    return WeightsError(f"policy lerobot:{name} does not fit the environment: {why}")
