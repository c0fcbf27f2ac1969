"""Any LeRobot arm behind our safety gate: `--robot.type=emu_gated --robot.arm.type=so101_follower …`."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError

from emu_robot.control.safety import SafetyConfig
from emu_robot.errors import ConfigError, InvalidValueError, RobotStoppedError
from emu_robot.lerobot.action_gate import ActionGate
from emu_robot.lerobot.arm_limits import SUFFIX, ArmLimits, DimensionLimits, arm_limits, read_limits

BRAKING_S = 2.0
"""Longest time that coming to rest may take before the arm is let go anyway [s]."""
TAKE_OVER_S = 1.0
"""Longest time that an arm is looked at before it is taken over [s]."""
SAY_EVERY_S = 2.0
"""How often a lasting reason to hold is logged [s]."""

if TYPE_CHECKING:
    ArmConfig = RobotConfig
else:

    class ArmConfig(draccus.ChoiceRegistry):
        """Every robot but our own wrapper: LeRobot's parser would look into a choice that contains itself for ever."""

        @classmethod
        def get_known_choices(cls) -> dict[str, type[RobotConfig]]:
            return {name: kind for name, kind in RobotConfig.get_known_choices().items() if kind is not EmuGatedConfig}

        @classmethod
        def get_choice_class(cls, name: str) -> type[RobotConfig]:
            return cls.get_known_choices()[name]

        @classmethod
        def get_choice_name(cls, subcls: type) -> str:
            return RobotConfig.get_choice_name(subcls)


@RobotConfig.register_subclass("emu_gated")
@dataclass(kw_only=True)
class EmuGatedConfig(RobotConfig):
    """An arm of LeRobot's, or of a plugin, and what it may do. `id` is that of the arm unless given."""

    arm: ArmConfig
    """The robot that is sent what the gate lets through, with all its own settings, cameras among them."""
    limits: str = ""
    """Robot file of ours that holds the arm's limits (so101, or the path of such a YAML file); empty: all of them are
    in `joints`."""
    unit: str = "degrees"
    """In what the arm gives and takes its joints where `limits` is used: degrees (`use_degrees=true`) or radians."""
    gripper_open: float = 100.0
    """What the arm calls an open gripper where `limits` is used, in its own unit; a closed one is 0."""
    grippers: list[str] = field(default_factory=lambda: ["gripper"])
    """Motors that are grippers: limited in position, speed and acceleration, but free to jump and to be stopped by what
    they hold. Names that the arm has not are passed over."""
    joints: dict[str, DimensionLimits] = field(default_factory=dict)
    """Limits by motor in the arm's own units; they go before those of `limits`, number by number."""
    fps: float = 30.0
    """Actions per second, as of the command that drives the arm (`--dataset.fps`, `--fps`) [Hz, 10..1000]. Calls that
    come sooner wait for their turn."""
    late_s: float = 0.2
    """Time between two actions from which the caller was late: the arm has stood still, and begins again at rest where
    it is measured [s, 2 / fps..1]."""
    max_jump: float = 0.35
    """Largest distance of an action from where a joint was sent last [rad, 0.001..3.2]; `joints` may say it
    by motor."""
    max_tracking_error: float = 0.5
    """Distance of a joint from where it was sent that is a fault [rad, 0.01..3.2]; a motor with a `max_jump` of its own
    has one that is as many times larger."""
    max_wrong_actions: int = 5
    """Actions in a row that are not finite or not complete and make a fault [1..1000]."""
    estop_file: str = "~/.emu_robot/{robot}-{id}.estop"
    """A file that is there is an emergency stop, over restarts, too; {robot} and {id} are the arm's. Empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limits and not getattr(self.arm, "use_degrees", True):
            raise ConfigError(
                f"the limits of {self.limits} are angles and arm.use_degrees is false: set arm.use_degrees=true, or "
                f'give limits="" and joints={{motor: {{lower, upper, velocity, acceleration}}}} in the arm\'s numbers'
            )
        self.known_limits()

    @property
    def safety(self) -> SafetyConfig:
        """Of the gate. Raises `InvalidValueError` naming what is out of its range."""
        return SafetyConfig(
            control_hz=self.fps,
            heartbeat_timeout_s=self.late_s,
            gap_timeout_s=self.late_s,
            state_timeout_s=self.late_s,
            max_jump=self.max_jump,
            max_tracking_error=self.max_tracking_error,
            max_rejections=self.max_wrong_actions,
            blend_s=0.0,
        )

    def known_limits(self) -> dict[str, DimensionLimits]:
        """Of the robot file, if there is one. Raises `EmuRobotError` for what is wrong with it, or with the gate's."""
        max_jump = self.safety.max_jump
        if not self.limits:
            return {}
        return read_limits(self.limits, self.unit, self.gripper_open, self.grippers, max_jump)


class EmuGated(Robot):
    """Passes an arm's observations on as they are, and its actions through `emu_robot.control.safety.SafetyGate`.

    Every action must name every motor of the arm with a finite position. What is sent keeps the limits of position,
    velocity and acceleration. An action far from where a joint was sent last is not begun: the arm holds, the log names
    the joint, and it goes on when the two meet. Wrong actions in a row, an arm that does not follow, a silent driver:
    the arm comes to rest, and `send_action` raises `RobotStoppedError`. So it does while the e-stop file is there.

    There is no thread here, as LeRobot's buses may not be shared by two. The gate acts when `send_action` is called,
    and only then: while its caller computes, saves an episode or is dead, servos hold the last position they were sent,
    which is at most one action's step ahead, and the file is not looked at. A program killed by SIGKILL leaves them
    there under torque; one that ends otherwise disconnects, which by LeRobot's default switches the torque off: the arm
    sinks. Not safety-rated: keep a hand at the power switch.

    Name, features and cameras are the arm's, so that datasets are those of the arm itself. LeRobot 0.6.1 stores the
    action that it was given, not the one that `send_action` returns.
    """

    config_class = EmuGatedConfig
    name = "emu_gated"

    def __init__(self, config: EmuGatedConfig) -> None:
        self._arm = make_robot_from_config(config.arm)
        super().__init__(config)
        self.config = config
        self.name = self.robot_type = self._arm.name
        self.id = config.id or self._arm.id
        self._limits = self._limits_of_arm()
        path = config.estop_file.replace("{robot}", self.name).replace("{id}", str(self.id))
        self._stop_file = Path(path).expanduser() if path else None
        self._connected_gate: ActionGate | None = None
        self._layouts: int | None = None
        """Of an arm in a simulation, which puts it elsewhere with every new one."""
        self._sent_at = self._said_at = -float("inf")
        self._said = ""

    def _limits_of_arm(self) -> ArmLimits:
        """Raises `ConfigError` for an arm that is not driven by positions alone, or without limits."""
        actions, seen = self._arm.action_features, self._arm.observation_features
        wrong = [name for name in actions if not name.endswith(SUFFIX) or seen.get(name) is not float]
        if wrong or not actions:
            raise ConfigError(
                f"{self.name} is not driven by positions it can measure: {', '.join(wrong) or 'no actions'}"
            )
        config, motors = self.config, [name.removesuffix(SUFFIX) for name in actions]
        return arm_limits(motors, config.known_limits(), config.joints, config.grippers, config.max_jump)

    def __str__(self) -> str:
        return str(self._arm)

    # -- the arm's own

    @property
    def observation_features(self) -> dict[str, Any]:
        return self._arm.observation_features

    @property
    def action_features(self) -> dict[str, Any]:
        return self._arm.action_features

    @property
    def cameras(self) -> Any:
        """The arm's."""
        return getattr(self._arm, "cameras", {})

    @property
    def arm(self) -> Robot:
        """The robot behind the gate; what is sent to it directly is not checked."""
        return self._arm

    @property
    def is_connected(self) -> bool:
        return self._arm.is_connected

    @property
    def is_calibrated(self) -> bool:
        return self._arm.is_calibrated

    def calibrate(self) -> None:
        """Calibrate the arm."""
        self._arm.calibrate()

    def configure(self) -> None:
        """Configure the arm."""
        self._arm.configure()

    # -- through the gate

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Connect the arm and take it over at rest where it is.

        Raises `RobotStoppedError` while an emergency stop lasts, `InvalidValueError` for an arm that is beyond its
        limits or whose place is not known; such an arm is disconnected again.
        """
        gate = ActionGate(self._limits, self.config.safety, self._stop_file)
        self._raise_if_stopped(gate)
        self._arm.connect(calibrate)
        try:
            self._take_over(gate)
        except BaseException:
            gate.close()
            self._arm.disconnect()
            raise
        self._connected_gate = gate

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """The arm's observation; its positions are what the gate knows of the arm."""
        gate, at = self._gate, time.monotonic()
        observation = self._arm.get_observation()
        if self._layouts != getattr(self._arm, "layouts", None) and not gate.is_stopped:
            gate.forget()
            self._take_over(gate)
        else:
            gate.observe(observation, at, time.monotonic())
        return observation

    @check_if_not_connected
    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Send what the gate makes of an action; returns what the arm says that it was sent.

        Waits until an action's time has passed since the last one. Raises `RobotStoppedError`, the arm at rest, on an
        emergency stop and on a fault.
        """
        gate, sent = self._gate, {}
        self._wait_for_turn()
        gate.watch_stop_file()
        if not gate.is_stopped:
            self._refresh(gate)
            sent = self._send(gate.step(action, time.monotonic()))
        if gate.is_stopped:
            self._come_to_rest(gate)
            self._raise_if_stopped(gate)
        self._say(gate)
        return sent

    def estop(self, reason: str = "requested") -> None:
        """Stop until a person removes the e-stop file; the next `send_action` brings the arm to rest and raises."""
        self._gate.estop(reason)

    @check_if_not_connected
    def disconnect(self) -> None:
        """Come to rest, then disconnect the arm, also after an error."""
        try:
            if self._connected_gate is not None:
                self._come_to_rest(self._connected_gate)
        finally:
            if self._connected_gate is not None:
                self._connected_gate.close()
            self._connected_gate = None
            self._arm.disconnect()

    # -- one tick

    @property
    def _gate(self) -> ActionGate:
        if self._connected_gate is None:
            raise DeviceNotConnectedError(f"{self} is not connected. Run `.connect()` first.")
        return self._connected_gate

    def _take_over(self, gate: ActionGate) -> None:
        """Look at the arm until the gate begins. Raises `InvalidValueError` if it does not."""
        began, why = time.monotonic(), "not seen yet"
        while why:
            at = time.monotonic()
            observation = self._arm.get_observation()
            self._layouts = getattr(self._arm, "layouts", None)
            gate.observe(observation, at, time.monotonic())
            why = gate.outside(observation) or gate.begin(time.monotonic())
            if why and time.monotonic() - began > TAKE_OVER_S:
                raise InvalidValueError(f"{self} cannot be taken over: {why}")
            self._sent_at = time.monotonic()
            if why:
                self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Two commands closer than a tick would be two steps in the time of one."""
        time.sleep(max(0.0, self._sent_at + 1.0 / self.config.fps - time.monotonic()))

    def _refresh(self, gate: ActionGate) -> None:
        """Begin again after a silence; look at the arm where the caller has not."""
        now = time.monotonic()
        if self._is_late(now):
            logging.warning("%s: no action for %.2f s, beginning again at rest", self, now - self._sent_at)
        if gate.state_age(now) > self.config.late_s / 2:
            self.get_observation()

    def _is_late(self, now: float) -> bool:
        return now - self._sent_at > self.config.late_s

    def _send(self, command: dict[str, float] | None) -> dict[str, float]:
        """What the arm was sent; nothing where the gate has nothing to say."""
        self._sent_at = time.monotonic()
        return dict(self._arm.send_action(command)) if command else {}

    def _come_to_rest(self, gate: ActionGate) -> None:
        """Brake, by a command per tick; an arm that was sent nothing lately stands still already."""
        began = time.monotonic()
        if self._is_late(began):
            return
        while not gate.at_rest and time.monotonic() - began < BRAKING_S:
            self._wait_for_turn()
            self._send(gate.brake(time.monotonic()))

    def _raise_if_stopped(self, gate: ActionGate) -> None:
        if gate.is_estopped:
            remedy = f"remove {self._stop_file} and start again" if self._stop_file else "start again"
            raise RobotStoppedError(f"{self}: emergency stop ({gate.reason}); when the arm is safe, {remedy}")
        if gate.is_stopped:
            raise RobotStoppedError(f"{self}: fault ({gate.reason}); mend its cause and start again")

    def _say(self, gate: ActionGate) -> None:
        """Log why the arm holds: at once when that is new, from time to time while it lasts."""
        reason, now = gate.reason if gate.is_holding else "", time.monotonic()
        kind = reason.split(",")[0]
        if reason and (kind != self._said or now - self._said_at > SAY_EVERY_S):
            logging.warning("%s holds: %s", self, reason)
            self._said_at = now
        self._said = kind
