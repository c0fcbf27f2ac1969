"""Record one expert demonstration with disturbances to recover from. Knows no files and no processes."""

from collections.abc import Mapping

import numpy as np

from emu_robot.control.chunk_broker import ChunkBroker
from emu_robot.core import Floats, Floats32, Image, Observation, Policy
from emu_robot.data.episode import Episode
from emu_robot.environments.capabilities import (
    HasExpert,
    HasSubtasks,
    MayNeedMemory,
    require,
    step_world,
    with_images,
)
from emu_robot.environments.contract import Environment
from emu_robot.robots.spec import RobotLayout

DWELL = 3
"""Frames recorded after each keyframe before the next subtask starts, and after the last one."""
NOISE_CORRELATION = 0.9
"""Correlation of the noise from one control tick to the next: at 20 Hz it wanders over about half a second."""
BURST_START, BURST_LENGTH = (5, 60), (4, 13)
"""Ranges [control ticks] of a burst's start within its subtask and of its duration."""
BURST_OFFSET = 0.15
"""Largest displacement of a joint target in a burst [rad]."""
POLICY_START, POLICY_LENGTH = (0, 60), (20, 100)
"""Ranges [control ticks] of a policy's start within a subtask and of its duration. Half of the starts are at 0."""


class Disturbance:
    """Turns a clean action into the executed one: correlated joint noise, and bursts that push arm or gripper away."""

    def __init__(self, rng: np.random.Generator, layout: RobotLayout, noise: float, burst_probability: float) -> None:
        """noise: standard deviation, in the unit of the arm's actions. burst_probability: per subtask, in [0, 1]."""
        self._rng, self._layout, self._noise, self._probability = rng, layout, noise, burst_probability
        self._noise_A: Floats | float = 0.0
        self.start_subtask()

    def start_subtask(self) -> None:
        """Draw whether and when this subtask is disturbed by a burst, and how."""
        begin, length = self._rng.integers(*BURST_START), self._rng.integers(*BURST_LENGTH)
        self._ticks = 0
        self._burst = range(begin, begin + length) if self._rng.random() < self._probability else range(0)
        self._opening = self._rng.random() if self._rng.random() < 0.25 else None
        self._offset_A = None

    def __call__(self, action: Floats32) -> Floats32:
        """Clean action (A,), grippers last -> the executed one (A,)."""
        n_joints, grippers = len(action) - self._layout.n_grippers, list(self._layout.gripper_actions)
        fresh = self._rng.normal(scale=self._noise, size=n_joints)
        self._noise_A = NOISE_CORRELATION * self._noise_A + np.sqrt(1 - NOISE_CORRELATION**2) * fresh
        executed = action.astype(np.float64)
        executed[:n_joints] += self._noise_A
        if self._ticks in self._burst:
            if self._opening is not None and grippers:
                executed[grippers] = self._layout.gripper_command(self._opening)
            else:
                executed[:n_joints] += self._displacement(n_joints)
        self._ticks += 1
        return executed.astype(np.float32)

    def _displacement(self, n_joints: int) -> Floats:
        if self._offset_A is None:
            moved = self._rng.permutation(n_joints) < self._rng.integers(1, 4)
            self._offset_A = moved * self._rng.uniform(-BURST_OFFSET, BURST_OFFSET, n_joints)
        return self._offset_A


class PolicyDriver:
    """Lets a policy drive for a stretch of some subtasks. The expert's actions are recorded meanwhile (DAgger, Ross et
    al. 2011), so the data holds corrections of the policy's own mistakes."""

    def __init__(self, env: Environment, policy: Policy, rng: np.random.Generator, share: float) -> None:
        """share: probability that it drives in a subtask."""
        self._env, self._rng, self._share = env, rng, share
        self._broker = ChunkBroker(policy)
        self.start_subtask()

    def start_subtask(self) -> None:
        """Draw whether and when the policy drives in this subtask."""
        begin = 0 if self._rng.random() < 0.5 else int(self._rng.integers(*POLICY_START))
        length = int(self._rng.integers(*POLICY_LENGTH))
        self._ticks = 0
        self._span = range(begin, begin + length) if self._rng.random() < self._share else range(0)

    def __call__(self, observation: Observation) -> Floats32 | None:
        """The policy's action (A,) for the last observation; None while the expert drives."""
        tick, self._ticks = self._ticks, self._ticks + 1
        if tick not in self._span:
            return None
        if tick == self._span.start:
            self._broker.reset(self._env.instruction)
        if self._broker.needs_observation:
            self._broker.refill(with_images(self._env, observation))
        return self._broker.next_action()


def record_episode(
    env: Environment,
    seed: int,
    *,
    split: str,
    noise: float,
    burst_probability: float,
    image_every: int,
    policy: Policy | None = None,
    policy_share: float = 0.0,
) -> Episode:
    """Let the expert solve the task of `seed`; its clean actions are recorded, the disturbed ones executed.

    A `policy`, if any, drives in `policy_share` of the subtasks for a while. Images are stored every `image_every`
    frames and at each start, keyframe and dwell frame. While dwelling, the robot holds still. The episode ends `DWELL`
    frames after its last keyframe, or fails after the environment's `max_steps`. An environment without subtasks has a
    single one, its instruction.
    Raises `InvalidValueError` if the environment has no expert.
    """
    observation = env.reset(seed)
    expert = require(env, HasExpert, "collecting").expert()
    disturbance = Disturbance(np.random.default_rng([seed, 1]), env.spec.layout, noise, burst_probability)
    driver = None
    if policy is not None:
        driver = PolicyDriver(env, policy, np.random.default_rng([seed, 2]), policy_share)
    told = isinstance(env, HasSubtasks)
    subtasks = env.subtasks if isinstance(env, HasSubtasks) else (env.instruction,)
    images: dict[int, Mapping[str, Image]] = {}
    starts, keyframes, states, actions = [0], [], [], []
    done, success, is_dwelling = (False,) * len(subtasks), False, False
    for t in range(env.max_steps):
        if is_dwelling and t > keyframes[-1] + DWELL:
            starts.append(t)
            disturbance.start_subtask()
            if driver:
                driver.start_subtask()
            is_dwelling = False
        if not is_dwelling and done[len(keyframes)]:
            keyframes.append(t)
            is_dwelling = True
        if t % image_every == 0 or t == starts[-1] or is_dwelling:
            images[t] = with_images(env, observation).images
        if is_dwelling:
            action = env.spec.layout.hold(observation.state, typical=actions[-1], last=actions[-1])
        else:
            action = np.asarray(expert.action(), np.float32)
        states.append(observation.state)
        actions.append(action)
        if len(keyframes) == len(subtasks) and t == keyframes[-1] + DWELL:
            break
        driven = driver(observation) if driver and not is_dwelling else None
        disturbed = action if is_dwelling else disturbance(action)
        transition = step_world(env, disturbed if driven is None else driven, observe=False)
        observation, success = transition.observation, transition.success
        done = transition.subtasks_done if told else (done[0] or success,)
    return Episode(
        instruction=env.instruction,
        family=env.task_name,
        split=split,
        seed=seed,
        success=success and len(keyframes) == len(subtasks),
        fps=env.spec.control_hz,
        subtasks=subtasks,
        keyframes=np.array(keyframes, np.int32),
        starts=np.array(starts, np.int32),
        state=np.array(states, np.float32),
        action=np.array(actions, np.float32),
        image_frames=np.array(list(images), np.int32),
        images={camera: np.stack([frame[camera] for frame in images.values()]) for camera in images[0]},
        needs_memory=isinstance(env, MayNeedMemory) and env.needs_memory,
    )
