"""One policy that plays many episodes at once, each from pictures and state as a benchmark sends them.

Knows no protocol. Weights are loaded once; every episode has its own plan and its own random numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from emu_robot.core import ActionChunk, Floats32, Image, Observation, check_image
from emu_robot.errors import InvalidValueError, ShapeError, UnknownNameError
from emu_robot.models.weights import resolve_weights
from emu_robot.observation.image_fit import fit_image
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.emu_policy import EmuPolicy
from emu_robot.robots.order import to_ours, to_theirs
from emu_robot.robots.spec import RobotLayout
from emu_robot.serving.config import VlaEvalConfig
from emu_robot.shared.draws import episode_seed


class ServedPolicy:
    """Weights that episodes share. Computations of all episodes follow one another."""

    def __init__(self, config: VlaEvalConfig) -> None:
        """Raises `UnknownNameError` for the weights or a camera that they do not have, and the errors of loading."""
        folder = resolve_weights(config.policy)
        self._head = ActionDecoder.load(folder)
        self._settings, self._config = config.policy_config, config
        self._head.require_steps(self._settings.n_action_steps)
        for camera in config.cameras:
            if camera not in self._head.cameras:
                raise UnknownNameError("camera of the policy", camera, self._head.cameras)
        wants = self._settings.goal.resolved(self._head.goal).needs_planner
        self._planner = (
            Planner.load(folder, decoder=self._settings.decoder, int8=self._settings.int8) if wants else None
        )
        self._head.fix()
        self.computing = Lock()

    @property
    def layout(self) -> RobotLayout:
        """Meaning of state and action."""
        return self._head.layout

    @property
    def n_cameras(self) -> int:
        """Number of its cameras."""
        return len(self._head.cameras)

    def observation(self, images: Mapping[str, Any], state: Any) -> Observation:
        """What a benchmark sends, as the policy sees it.

        Raises `UnknownNameError` for a missing camera, `ShapeError` for a picture or a state of another form,
        `InvalidValueError` for a state that is not finite.
        """
        pictures = {camera: self._picture(camera, images) for camera in self._head.cameras}
        theirs = np.asarray(state, np.float32).reshape(-1)
        names = self.layout.state_names
        if len(theirs) != len(names):
            raise ShapeError("state", theirs.shape, f"({len(names)},): {', '.join(names)}")
        if not np.isfinite(theirs).all():
            raise InvalidValueError(f"the state is not finite: {theirs.tolist()}")
        return Observation(images=pictures, state=to_ours(theirs, self.layout.state_order))

    def begin(self, instruction: str, first: Observation) -> Callable[[Observation], Floats32]:
        """Start an episode. Returns observation -> chunk (T, A) of actions in the benchmark's order."""
        seed = episode_seed(instruction, first, self._config.seed)
        policy = EmuPolicy(self._head, self._planner, self._settings, seed=seed)
        policy.reset(instruction)

        def act(observation: Observation) -> Floats32:
            with self.computing:
                chunk: ActionChunk = policy.act(observation)
            if not np.isfinite(chunk.actions).all():
                raise InvalidValueError("the policy produced an action that is not finite")
            return to_theirs(chunk.actions, self.layout.action_order)

        return act

    def _picture(self, camera: str, images: Mapping[str, Any]) -> Image:
        name = self._config.cameras.get(camera, camera)
        if name not in images:
            hint = f"; say which one it is: cameras.{camera}=NAME" if name == camera else ""
            raise UnknownNameError(f"camera {name!r} for the policy's {camera!r}{hint}; camera", name, list(images))
        picture = np.asarray(images[name])
        check_image(f"picture of camera {name!r}", picture)
        return fit_image(picture, self._head.image_size, self._config.fit)


def check_instruction(words: Any, keys: Sequence[str]) -> str:
    """The task in words. Raises `InvalidValueError` if the observation with these keys has none."""
    if not isinstance(words, str) or not words.strip():
        raise InvalidValueError(f"the observation has no task_description in words; it has {', '.join(sorted(keys))}")
    return words
