"""Any LeRobot arm behind our safety gate: `--robot.type=emu_gated --robot.arm.type=so101_follower …`."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError

from emu_robot.control.safety import SafetyConfig
from emu_robot.errors import InvalidValueError, RobotStoppedError
from emu_robot.lerobot.action_gate import ActionGate
from emu_robot.lerobot.arm_limits import ArmLimits, DimensionLimits, LimitSettings, arm_limits, positioned_motors

BRAKING_S = 2.0
"""Longest braking before the arm is let go anyway [s]."""
TAKE_OVER_S = 1.0
"""Longest wait for a usable state before a take-over fails [s]."""
SAY_EVERY_S = 2.0
"""Time between logs of a lasting reason to hold [s]."""

if TYPE_CHECKING:
    ArmConfig = RobotConfig
else:

    class ArmConfig(draccus.ChoiceRegistry):
        """Every robot but our own wrapper: LeRobot's parser never ends on a choice that contains itself."""

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
class EmuGatedConfig(LimitSettings, RobotConfig):
    """An arm of LeRobot or of a plugin, and its limits. `id` is the arm's unless given."""

    arm: ArmConfig
    """The robot behind the gate, with all its own settings, such as cameras."""
    fps: float = 30.0
    """Actions per second, equal to that of the command that drives the arm (`--dataset.fps`, `--fps`) [Hz, 10..1000].
    Earlier calls wait."""
    late_s: float = 0.2
    """Time between two actions after which the arm begins again at rest, from its measured position
    [s, 2 / fps..1]."""
    max_jump: float = 0.35
    """Largest distance of an action from a joint's last command [rad, 0.001..3.2]; `joints` may set it by motor."""
    max_tracking_error: float = 0.5
    """Distance of a joint from its command that is a fault [rad, 0.01..3.2]; a motor's own `max_jump` scales it
    alike."""
    max_wrong_actions: int = 5
    """Number of infinite or incomplete actions in a row that is a fault [1..1000]."""
    estop_file: str = "~/.emu_robot/{robot}-{id}.estop"
    """A file whose presence is an emergency stop, over restarts, too; {robot} and {id} are the arm's. Empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_unit(self.arm)
        self.known_limits()

    @property
    def safety(self) -> SafetyConfig:
        """The gate's settings. Raises `InvalidValueError` naming a value out of its range."""
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
        """Limits in the robot file, if any. Raises `EmuRobotError` for a fault in it or in the gate's settings."""
        return self.in_file(self.safety.max_jump)


class EmuGated(Robot):
    """Passes an arm's observations on unchanged, and its actions through `emu_robot.control.safety.SafetyGate`.

    Every action must name every motor of the arm with a finite position. Commands keep the limits of position, velocity
    and acceleration. If an action is far from a joint's last command, the arm holds, the log names the joint, and
    motion resumes when the two are close. After several wrong actions in a row, a large tracking error or a silent
    driver, and while the e-stop file exists, the arm comes to rest and `send_action` raises `RobotStoppedError`.

    There is no thread here, as two threads may not share LeRobot's buses. The gate acts only in `send_action`. Between
    calls, and after a crash, servos hold their last command, which is at most one action's step ahead, and the e-stop
    file is not read. After SIGKILL the servos stay under torque. A program that ends otherwise disconnects, which by
    LeRobot's default switches the torque off: the arm sinks. Not safety-rated: keep a hand at the power switch.

    Name, features and cameras are the arm's, so that datasets equal those of the arm itself. LeRobot 0.6.1 stores the
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
        """Layouts that a simulated arm has had; each new one moves it."""
        self._sent_at = self._said_at = -float("inf")
        self._said = ""

    def _limits_of_arm(self) -> ArmLimits:
        """The arm's limits. Raises `ConfigError` if it is not driven by positions alone, or lacks limits."""
        config = self.config
        motors = positioned_motors(self.name, self._arm.action_features, self._arm.observation_features)
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
        """The robot behind the gate; actions sent to it directly are not checked."""
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
        """Connect the arm and take it over at rest at its position.

        Raises `RobotStoppedError` while an emergency stop lasts, `InvalidValueError` for an arm beyond its limits or at
        an unknown position; such an arm is disconnected again.
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
        """The arm's observation; the gate takes its positions."""
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
        """Send an action through the gate; return the action that the arm reports as sent.

        Waits until an action's time has passed since the last one. Raises `RobotStoppedError` on an emergency stop and
        on a fault, after the arm has come to rest.
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
        """Come to rest, then disconnect the arm, even after an error."""
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
        """Observe the arm until the gate begins. Raises `InvalidValueError` if it does not."""
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
        """Wait for a tick after the last command: closer ones would double the speed."""
        time.sleep(max(0.0, self._sent_at + 1.0 / self.config.fps - time.monotonic()))

    def _refresh(self, gate: ActionGate) -> None:
        """Begin again after a silence; observe the arm if the caller has not."""
        now = time.monotonic()
        if self._is_late(now):
            logging.warning("%s: no action for %.2f s, beginning again at rest", self, now - self._sent_at)
        if gate.state_age(now) > self.config.late_s / 2:
            self.get_observation()

    def _is_late(self, now: float) -> bool:
        return now - self._sent_at > self.config.late_s

    def _send(self, command: dict[str, float] | None) -> dict[str, float]:
        """Send a command; return the arm's report of it, empty without a command."""
        self._sent_at = time.monotonic()
        return dict(self._arm.send_action(command)) if command else {}

    def _come_to_rest(self, gate: ActionGate) -> None:
        """Brake by a command per tick. An arm without a recent command stands still already."""
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
        """Log why the arm holds: at once if the reason is new, then every `SAY_EVERY_S`."""
        reason, now = gate.reason if gate.is_holding else "", time.monotonic()
        kind = reason.split(",")[0]
        if reason and (kind != self._said or now - self._said_at > SAY_EVERY_S):
            logging.warning("%s holds: %s", self, reason)
            self._said_at = now
        self._said = kind
