"""Any arm of LeRobot's as the arm of a session: `emu-robot teleop arm=lerobot:so101_follower arm.port=...`."""

import threading
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import draccus
import numpy as np

from emu_robot.core import Floats, Image
from emu_robot.errors import ConfigError, EmuRobotError, SystemSetupError
from emu_robot.lerobot.camera_reader import CameraReader
from emu_robot.lerobot.devices import ARM, check_calibration_file, connect, make_device, read_settings
from emu_robot.lerobot.driven_limits import DrivenArmConfig, driven_limits, joint_unit, without_radians
from emu_robot.robots.arm import Kinematics
from emu_robot.robots.spec import ActionKind, RobotLayout
from emu_robot.teleop.polling import Polling, one_line

READ_HZ = 60.0
"""States per second; each command adds one [Hz]."""
OLD_S = 0.1
"""Age at which a command that could not be sent is forgotten [s]."""
FIRST_S = 5.0
"""Longest wait for the first state [s]."""


def open_arm(type_name: str, words: Mapping[str, str]) -> "LeRobotArm":
    """A connected arm. words: its settings by dotted key, ours (`DrivenArmConfig`) and those of its type.

    Raises `EmuRobotError`, with nothing left connected.
    """
    tree = read_settings(words)
    ours = {field.name: tree.pop(field.name) for field in fields(DrivenArmConfig) if field.name in tree}
    try:
        config = draccus.decode(DrivenArmConfig, ours)
    except EmuRobotError:
        raise
    except Exception as error:  # draccus raises several
        raise ConfigError(f"arm: {one_line(error)}") from error
    robot = make_device(ARM, type_name, tree)
    check_calibration_file(ARM, robot, type_name)
    arm = LeRobotArm(robot, config)
    arm.connect(type_name)
    return arm


class LeRobotArm:
    """Reads and commands a robot in one thread, for two may not share LeRobot's buses, and each camera in its own.

    Its position is in radians and openings; layout and recordings hold the driver's own numbers, as LeRobot's do. It
    is in the hands of a person, who arms it by *Resume*.
    """

    is_simulated = False

    def __init__(self, robot: Any, config: DrivenArmConfig) -> None:
        """robot: LeRobot's, not connected. Raises `EmuRobotError` if its limits or its kinematics are not known."""
        self._robot, self._config, self.name = robot, config, str(robot.name)
        self._own = driven_limits(robot, config)
        self.limits = self._own.scaled
        self.layout = self._layout()
        self.kinematics: Kinematics | None = self._kinematics()
        shapes = {name: shape for name, shape in robot.observation_features.items() if isinstance(shape, tuple)}
        deep = [name for name, shape in shapes.items() if len(shape) != 3 or shape[2] != 3]
        if deep:
            raise ConfigError(f"{self.name}: {deep[0]} is no colour camera; a session records colour alone")
        self.cameras: Mapping[str, tuple[int, int]] = {n: (int(s[0]), int(s[1])) for n, s in shapes.items()}
        self._readers = self._take_cameras()
        self._lock = threading.Lock()
        self._command: tuple[Floats, float] | None = None
        self._seen: tuple[Floats, float] | None = None
        self._images: dict[str, tuple[Image, float]] = {}
        self._polling = Polling(self.name, self._exchange, hz=READ_HZ)
        self.home: Floats = self._home()

    # -- what a session asks

    def state(self, now: float) -> tuple[Floats, float] | None:
        """The last position (A,), and its age [s]; None before the first."""
        with self._lock:
            return None if self._seen is None else (self._seen[0], now - self._seen[1])

    def pictures(self) -> tuple[Mapping[str, Image], float] | None:
        """The newest picture of each camera, and the time of the oldest of them [s]; None before the first."""
        with self._lock:
            found = dict(self._images)
        found |= {reader.name: reader.newest for reader in self._readers if reader.newest is not None}
        if len(found) < len(self.cameras):
            return None
        oldest = min((at for _, at in found.values()), default=time.monotonic())
        return {name: found[name][0] for name in self.cameras}, oldest

    def command(self, position: Floats, now: float) -> None:
        """Send targets (A,) as soon as the bus is free; a newer command replaces one that waits."""
        with self._lock:
            self._command = (position.copy(), now)
        self._polling.soon()

    def to_own(self, position: Floats) -> Floats:
        """A position (A,) in the driver's numbers."""
        return self._own.from_gate(position)

    def from_own(self, values: Floats) -> Floats:
        """The inverse of `to_own`."""
        return self._own.to_gate(values)

    @property
    def lost(self) -> str:
        """Why the arm cannot be reached; empty while it answers."""
        return self._polling.trouble

    @property
    def trouble(self) -> str:
        """Cameras that do not answer, in words; empty if all do."""
        return "; ".join(reader.trouble for reader in self._readers if reader.trouble)

    def close(self) -> None:
        """Let go of the arm and its cameras. By LeRobot's default the torque ends, and the arm sinks."""
        self._polling.close()
        for reader in self._readers:
            reader.close()
        try:
            self._robot.disconnect()
        except Exception as error:  # an arm that is gone cannot be told
            print(f"{self.name} could not be let go properly: {one_line(error)}", flush=True)

    def connect(self, type_name: str) -> None:
        """Connect arm and cameras, and wait for the first state. Raises `EmuRobotError`, all disconnected again."""
        connect(ARM, self._robot, type_name)
        try:
            for reader in self._readers:
                reader.start()
            self._polling.start()
            self._wait_for_state(type_name)
        except BaseException:
            self.close()
            raise

    # -- the bus

    def _exchange(self) -> None:
        """Send the command that waits, then read the state. The only function that uses the robot while it runs."""
        with self._lock:
            command, self._command = self._command, None
        if command is not None and time.monotonic() - command[1] < OLD_S:
            values = self._own.from_gate(command[0]).tolist()
            self._robot.send_action(dict(zip(self._own.names, values, strict=True)))
        at = time.monotonic()
        seen = self._robot.get_observation()
        place = self._own.to_gate(np.array([float(seen[name]) for name in self._own.names]))
        read_apart = {reader.name for reader in self._readers}
        images = {name: (seen[name], at) for name in self.cameras if name not in read_apart}
        with self._lock:
            self._seen, self._images = (place, at), images

    def _wait_for_state(self, type_name: str) -> None:
        ends = time.monotonic() + FIRST_S
        while self._seen is None:
            if time.monotonic() > ends:
                raise SystemSetupError(f"{type_name}: no state within {FIRST_S:g} s; {self.lost}")
            time.sleep(0.01)
        if not self._config.home:
            self.home = self._seen[0][: self._own.joints].copy()

    # -- what it is

    def _take_cameras(self) -> list[CameraReader]:
        """Readers of the robot's own cameras, which it then no longer reads with its state."""
        cameras = getattr(self._robot, "cameras", None)
        if not isinstance(cameras, dict):
            return []
        self._robot.cameras = {}
        return [CameraReader(name, camera) for name, camera in cameras.items() if name in self.cameras]

    def _layout(self) -> RobotLayout:
        own, n = self._own, len(self._own.names) - self._own.joints
        units = (*[joint_unit(self._robot, self._config)] * own.joints, *["1"] * n)
        return RobotLayout(
            state_names=own.names,
            action_names=own.names,
            n_grippers=n,
            relative_dims=own.joints,
            state_units=units,
            action_units=units,
            action_kind=ActionKind.TARGET,
            gripper_open=float(own.motion.upper[-1]) if n else None,
            gripper_closed=float(own.motion.lower[-1]) if n else None,
        )

    def _kinematics(self) -> Kinematics | None:
        if self._config.urdf is None:
            return None
        from emu_sim.urdf import read_urdf  # only here: it needs the simulator

        unknown = without_radians(self._robot, self._config)
        if unknown:
            raise ConfigError(f"arm.urdf needs radians, and nothing tells how {unknown[0]} turns: give arm.limits")
        names = [name.removesuffix(".pos") for name in self._own.names[: self._own.joints]]
        return read_urdf(self._config.urdf, names, self._config.tool)

    def _home(self) -> Floats:
        n, given = self._own.joints, self._config.home
        if given and len(given) != n:
            raise ConfigError(f"arm.home has {len(given)} numbers, must have one for each of the {n} joints")
        return np.array(given or np.zeros(n)) / self._own.scale[:n]
