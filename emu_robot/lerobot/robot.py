"""A Panda in MuJoCo as a LeRobot robot: `--robot.type=emu_sim_panda`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from lerobot.robots import Robot, RobotConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError

from emu_robot.data.expert_demonstration import Disturbance
from emu_robot.errors import InvalidValueError
from emu_robot.lerobot import targets
from emu_robot.lerobot.announcements import Announcements, Phase
from emu_robot.robots.spec import PANDA
from emu_sim.environment import TabletopEnvironment
from emu_sim.grammar import TABLETOP
from emu_sim.tasks import sample_task

REST_TICKS = 20
"""Ticks at home after a finished task until the next layout, where no episodes are announced."""
SEARCHED_SEEDS = 20_000
"""Number of seeds searched for a given instruction."""

_connected: WeakValueDictionary[str | None, "EmuSimPanda"] = WeakValueDictionary()
"""Robot id -> the robot of this process, for teleoperators that need its simulation."""


@RobotConfig.register_subclass("emu_sim_panda")
@dataclass(kw_only=True)
class EmuSimPandaConfig(RobotConfig):
    """Layouts of the simulated arm."""

    families: str = "single"
    """Families or the groups "single", "long", "all", joined by commas."""
    split: str = "seen"
    """Compositions of a task: "seen" or "heldout"."""
    seed: int = 0
    """Seed of the first layout, at least 0; each new layout takes the next one. Seeds below 10_000_000 are
    demonstrations, the others evaluations (`--robot.seed=10000000` for a policy under `lerobot-rollout`)."""
    instruction: str = ""
    """If given, only seeds whose task has exactly these words. LeRobot stores `--dataset.single_task` with every frame,
    so give both the same words to make it true."""
    noise: float = 0.0
    """Standard deviation of the executed targets around the sent ones [rad, 0..1], as in `emu-robot collect`. Without
    noise, layouts that differ only beside the arm's path give the same motion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        TABLETOP.resolve(self.families.split(","), self.split)
        if self.seed < 0:
            raise InvalidValueError(f"seed is {self.seed}; it must not be negative")
        if not 0 <= self.noise <= 1:
            raise InvalidValueError(f"noise is {self.noise}; it must be in [0, 1] rad")


class EmuSimPanda(Robot):
    """A simulated arm. Each `send_action` is one control tick of 50 ms; the calling loop keeps real time (20 Hz).

    Observation: joint1.pos .. joint7.pos [rad], gripper.pos in [0, 1] (1 open), and the cameras front and wrist, each
    (128, 128, 3) uint8. Action: the same eight numbers, as targets.

    A new layout comes with `connect`, at each reset phase that LeRobot announces (`lerobot-record`,
    `lerobot-rollout --strategy.type=episodic`; `--dataset.reset_time_s=0` is enough), and, without announcements
    (`lerobot-teleoperate`), once the task is done and the arm has been home for a second. Each puts the arm home at
    once. layouts: number of them so far.
    """

    config_class = EmuSimPandaConfig
    name = "emu_sim_panda"
    cameras = PANDA.cameras  # LeRobot counts them to plan its image writers

    def __init__(self, config: EmuSimPandaConfig) -> None:
        super().__init__(config)
        self.config = config
        self._environment: TabletopEnvironment | None = None
        self._announcements = Announcements()
        self._next_seed = config.seed
        self._rested = 0
        self.layouts = 0

    @property
    def observation_features(self) -> dict[str, Any]:
        image = (PANDA.image_size, PANDA.image_size, 3)
        return {**dict.fromkeys(PANDA.state_names, float), **dict.fromkeys(PANDA.cameras, image)}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(PANDA.action_names, float)

    @property
    def is_connected(self) -> bool:
        return self._environment is not None

    @property
    def environment(self) -> TabletopEnvironment:
        """The simulation. Raises `DeviceNotConnectedError` before `connect`."""
        if self._environment is None:
            raise DeviceNotConnectedError(f"{self} is not connected. Run `.connect()` first.")
        return self._environment

    @property
    def instruction(self) -> str:
        """Instruction of the present layout."""
        return self.environment.instruction

    @property
    def is_resetting(self) -> bool:
        """Whether LeRobot has announced a reset and no recording since."""
        return self._announcements.phase is Phase.RESETTING

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Build the simulation and lay a scene.

        Raises `InvalidValueError` if the id is in use, or if no task has the given instruction.
        """
        if self.id in _connected:
            raise InvalidValueError(f"robot id {self.id!r} is connected already; give each robot its own id")
        environment = TabletopEnvironment(self.config.families.split(","), self.config.split)
        self._lay_next(environment)
        self._environment = environment
        _connected[self.id] = self
        self._announcements.listen()

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        """A simulated arm needs none."""

    def configure(self) -> None:
        """Nothing to set."""

    @check_if_not_connected
    def new_episode(self) -> None:
        """Lay the next scene: the next seed, or the next one with the given instruction."""
        self._lay_next(self.environment)

    def _lay_next(self, environment: TabletopEnvironment) -> None:
        seed = self._find_seed(environment.families, environment.split)
        environment.reset(seed, observe=False)
        self._next_seed, self._rested = seed + 1, 0
        self.layouts += 1
        self._disturbance = Disturbance(
            np.random.default_rng([seed, 1]), environment.spec.layout, self.config.noise, burst_probability=0.0
        )
        self._announcements.reset_requested = False
        logging.info("%s: seed %d, %r", self.name, seed, environment.instruction)

    def _find_seed(self, families: Sequence[str], split: str) -> int:
        wanted, first = self.config.instruction, self._next_seed
        if not wanted:
            return first
        heard: dict[str, None] = {}
        for seed in islice(count(first), SEARCHED_SEEDS):
            said = sample_task(TABLETOP, families, split, np.random.default_rng(seed)).instruction
            if said == wanted:
                return seed
            heard[said] = None
        raise InvalidValueError(
            f"no layout of {', '.join(families)} ({split}) in seeds {first}..{first + SEARCHED_SEEDS - 1} is asked "
            f"for with {wanted!r}; for example: {'; '.join(islice(heard, 5))}"
        )

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """The present view, of a new layout if one is due."""
        unannounced = self._announcements.phase is Phase.UNANNOUNCED
        if self._announcements.reset_requested or (unannounced and self._rested >= REST_TICKS):
            self.new_episode()
        observation = self.environment.observe()
        return {**targets.named(observation.state), **observation.images}

    @check_if_not_connected
    def send_action(self, action: Mapping[str, float]) -> dict[str, float]:
        """Run one control tick; return the targets, clipped to joint limits and gripper range. The configured noise
        disturbs their execution.

        Raises `InvalidValueError` for a missing or non-finite target, `UnknownNameError` for an unknown one.
        """
        sent = targets.clipped(targets.checked(action))
        self.environment.step(targets.clipped(self._disturbance(sent)), observe=False)
        self._rested = self._rested + 1 if self.environment.subtask is None else 0
        return targets.named(sent)

    @check_if_not_connected
    def disconnect(self) -> None:
        """Free the simulation."""
        self.environment.close()
        self._environment = None
        self._announcements.stop()
        _connected.pop(self.id, None)


def connected_robot(robot_id: str | None) -> EmuSimPanda:
    """The connected robot of this id in this process; raises `DeviceNotConnectedError` with the known ids."""
    if robot_id not in _connected:
        known = ", ".join(map(repr, _connected)) or "none"
        raise DeviceNotConnectedError(f"no emu_sim_panda with id {robot_id!r} is connected here; known: {known}")
    return _connected[robot_id]
