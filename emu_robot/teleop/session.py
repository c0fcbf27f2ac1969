"""One tick of teleoperation: desk, hand, safety gate, arm, recorder. Reads no clock and knows no page.

Everything that moves the arm passes the safety gate. An arm is armed by a person, a simulated one at once.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from emu_robot.control.safety import ChunkMessage, Command, GateState, SafetyConfig, SafetyGate
from emu_robot.core import Floats, Observation
from emu_robot.errors import InvalidValueError
from emu_robot.robots.arm import Arm, HasOwnGate, HasOwnUnits, JudgesTask, LaysScenes, MayBeLost
from emu_robot.robots.bodies import ShowsBodies
from emu_robot.shared.settings import check_ranges, number
from emu_robot.teleop.autonomy import Autonomy, AutonomyConfig, DAggerPhase
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.driving import BEFORE, CHUNK_DT, Motion, TeleopConfig, Teleoperation
from emu_robot.teleop.episodes import Episodes, Phase
from emu_robot.teleop.hand import Hand, HandConfig, Wish
from emu_robot.teleop.joint_hand import JointHand
from emu_robot.teleop.leader_hand import Device, Leader, LeaderHand
from emu_robot.teleop.recorder import Recorder
from emu_robot.teleop.thinking import Thinking
from emu_robot.teleop.view import View

LATE = 1.5
"""Periods after which a tick counts as late."""
TAKEN = "you have the arm: hold the deadman to drive; C records a correction, P hands back"
NO_POLICY = "no policy drives in this session; start it with policy=mini"
OLD_PICTURES_S = 0.1
"""Age of pictures that counts as an overrun [s]."""


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Settings of a session."""

    rate_hz: int = number(30, 20, 30)
    """Ticks, commands and recorded frames per second [Hz]."""
    watchdog_s: float = number(0.15, 0.05, 0.5)
    """Silence of the operator's device after which the arm holds [s]."""
    countdown_s: float = number(3.0, 0.0, 10.0)
    """Time from the order to record to the first frame [s]."""
    hand: HandConfig = field(default_factory=HandConfig)
    """Speeds and reach of the operator's hand."""
    autonomy: AutonomyConfig = field(default_factory=AutonomyConfig)
    """When a policy is held."""

    def __post_init__(self) -> None:
        check_ranges(self)


class Session:
    """Drives one arm for the operator at the desk."""

    def __init__(
        self,
        arm: Arm,
        desk: Desk,
        config: SessionConfig,
        *,
        recorder: Recorder | None = None,
        device: Device | None = None,
        policy: Thinking | None = None,
        seed: int = 0,
    ) -> None:
        """device: what the operator has beside pages and keys; the arm follows a `Leader`. policy: None for an arm that
        the operator alone drives. seed: that of the first scene, for an arm that lays scenes. Raises `ConfigError` for
        a policy of another arm."""
        self._arm, self._desk, self._config, self._seed = arm, desk, config, seed
        self._device, self._noted = device, ""
        self._leader = device if isinstance(device, Leader) else None
        self.episodes = Episodes(recorder, countdown_s=config.countdown_s)
        self._id, self._sequence, self._number = time.time_ns(), 0, 0
        self._names = arm.layout.action_names
        self._ticked_at = -np.inf
        self._held = self._must_release = False
        self._sent: Floats | None = None
        self.autonomy: Autonomy | None = None
        """The policy that drives in turn with the operator; None without one."""
        if policy is not None:
            self.autonomy = Autonomy(policy, arm, config.autonomy, session=self._id + 1, say=self._say)
        self._begin()

    def _begin(self) -> None:
        """Take a gate and a hand that know nothing of the scene before. A deadman that is held must be released."""
        config, arm = self._config, self._arm
        joints = len(arm.home)
        self.gate = SafetyGate(
            config=SafetyConfig(
                control_hz=config.rate_hz, deadman_timeout_s=config.watchdog_s, heartbeat_timeout_s=config.watchdog_s
            ),
            limits=arm.limits,
            joints=joints,
            names=self._names,
            sources=("teleop",) if self.autonomy is None else ("teleop", "policy"),
        )
        self.hand = self._take_hand()
        timing = TeleopConfig(rate_hz=float(config.rate_hz), input_timeout_s=config.watchdog_s)
        self._teleop = Teleoperation(self.hand, timing)
        self._teleop.on_deadman(False, -np.inf)
        self._must_release, self._sent = self._held, None
        if self.autonomy is not None:
            self.autonomy.begin(self.gate, self.episodes.task)

    def _take_hand(self) -> Hand | LeaderHand:
        arm, config = self._arm, self._config.hand
        if self._leader is not None:
            return LeaderHand(self._names[: len(arm.home)], arm.limits)
        if arm.kinematics is None:
            return JointHand(arm.limits, arm.home, config)
        return Hand(arm.kinematics, arm.limits, arm.home, config)

    def lay_scene(self, seed: int, now: float) -> None:
        """Lay the scene of a seed, and begin to drive from rest. Raises `InvalidValueError` if the arm lays none."""
        if not isinstance(self._arm, LaysScenes):
            raise InvalidValueError(f"{self._arm.name} lays no scenes")
        self._seed = seed
        task, subtasks = self._arm.new_scene(seed, now)
        self.episodes.lay(task, subtasks if self.autonomy is None else ())
        self._begin()

    def tick(self, now: float) -> View:
        """Read the desk and the arm, send one command, record one frame."""
        is_late, self._ticked_at = now - self._ticked_at > LATE / self._config.rate_hz, now
        samples, orders = self._desk.take()
        for sample in samples:
            self._take(sample)
        self._hear_leader()
        observation = self._observe(now)
        for order in orders:
            self._follow(order, observation, now)
        command = self._command(observation, now)
        old = self._pictures_at < now - OLD_PICTURES_S
        if observation is not None and command is not None:
            self._record(observation, command, now, is_overrun=is_late or old)
        return self._view(observation, now)

    def _record(self, observation: Observation, command: Command, now: float, *, is_overrun: bool) -> None:
        """With a policy, only what it does and what corrects it is recorded; no pause, and no wait within one."""
        autonomy = self.autonomy
        corrects = autonomy is not None and autonomy.phase is DAggerPhase.CORRECTING
        if autonomy is not None:
            self.episodes.want(autonomy.subtask)
            moves = command.state is GateState.TRACKING or bool(command.velocity.any())
            if not autonomy.is_driving and not (corrects and moves):
                return
        own = self._to_own(command.position)
        self.episodes.add(observation, own, now, is_overrun=is_overrun, intervention=corrects)

    # -- in

    def _take(self, sample: Sample) -> None:
        self._held = sample.pressed
        self._must_release = self._must_release and sample.pressed
        self._teleop.on_deadman(sample.pressed and not self._must_release, sample.at)
        if self._leader is None:
            self._teleop.on_input(sample.at)
        self.hand.wish = sample.wish if sample.pressed else Wish()
        self._number = max(sample.number, 0)

    def _hear_leader(self) -> None:
        newest = None if self._leader is None else self._leader.newest()
        if newest is not None and isinstance(self.hand, LeaderHand):
            self.hand.on_leader(newest[0])
            self._teleop.on_input(newest[1])

    def _to_own(self, position: Floats) -> Floats:
        """A position (A,) as it is recorded."""
        return self._arm.to_own(position) if isinstance(self._arm, HasOwnUnits) else position

    def _observe(self, now: float) -> Observation | None:
        """The state goes to gate and hand; with pictures it is an observation."""
        self._pictures_at, taken = -np.inf, self._arm.pictures()
        known = self._arm.state(now)
        if known is None:
            return None
        position, age = known
        if self.gate.on_state(position, now, age):
            self._teleop.on_state(position, now - age)
            if self.autonomy is not None:
                self.autonomy.on_state(position, now - age)
        if taken is None:
            return None
        images, self._pictures_at = taken
        return Observation(images=images, state=self._to_own(position).astype(np.float32))

    def _follow(self, order: Order, observation: Observation | None, now: float) -> None:
        match order.kind:
            case OrderKind.STOP:
                self._must_release = self._held
                self._teleop.on_deadman(False, now)
                self.gate.fault("stopped by an operator")
                if isinstance(self._arm, HasOwnGate):
                    self._arm.ask_armed(False)
            case OrderKind.RESUME:
                self._resume(now)
            case OrderKind.GRIPPER:
                pressed = self._teleop.is_pressed(now)
                said = self.hand.toggle_gripper() if pressed else "hold the deadman to move the gripper"
                self.episodes.said = said or self.episodes.said
            case OrderKind.PAUSE | OrderKind.TAKE | OrderKind.CORRECT | OrderKind.SUBTASK:
                self._steer(order, now)
            case OrderKind.NEXT if self.autonomy is not None:
                self._steer(Order(kind=OrderKind.SUBTASK, text=order.text), now)
            case OrderKind.SCENE if self.episodes.phase is Phase.IDLE:
                self._relay(self._seed + 1, now)
            case OrderKind.SCENE:
                self.episodes.said = "end the episode before another scene"
            case _:
                task = self.episodes.task
                ended = self.episodes.order(order, observation, self._ages(observation, now), now)
                if self.autonomy is not None and self.episodes.task != task:
                    self.autonomy.begin(self.gate, self.episodes.task)
                if ended is not None:
                    self._relay(self._seed + (ended is not OrderKind.DISCARD), now)

    def _steer(self, order: Order, now: float) -> None:
        """Follow an order to the policy."""
        autonomy = self.autonomy
        if autonomy is None:
            self._say(NO_POLICY)
        elif order.kind is OrderKind.SUBTASK:
            autonomy.coach(order.text)
        elif order.kind is OrderKind.CORRECT:
            autonomy.correct(now)
        elif order.kind is OrderKind.TAKE or autonomy.is_driving:
            taken = order.kind is OrderKind.TAKE
            autonomy.pause(now, TAKEN if taken else "the policy is paused; P lets it go on")
        elif autonomy.resume(now, self._id):
            self._teleop.on_deadman(False, now)
            self._must_release = self._held

    def _say(self, words: str) -> None:
        self.episodes.said = words

    def _ages(self, observation: Observation | None, now: float) -> Mapping[str, float]:
        """Age of each camera's picture [s]."""
        return {} if observation is None else dict.fromkeys(observation.images, max(now - self._pictures_at, 0.0))

    def _relay(self, seed: int, now: float) -> None:
        """Lay another scene if the arm can. A person resets the scene of a real arm."""
        if isinstance(self._arm, LaysScenes):
            self.lay_scene(seed, now)

    def _resume(self, now: float) -> None:
        if isinstance(self._arm, HasOwnGate) and not self._arm.is_gate_armed:
            self._arm.ask_armed(True)
        try:
            if self.gate.state is GateState.DISARMED:
                if not isinstance(self._arm, HasOwnGate):
                    self.gate.arm(now)
            else:
                self.gate.reset(now)
        except InvalidValueError as error:
            self.episodes.said = str(error)

    # -- out

    def _command(self, observation: Observation | None, now: float) -> Command | None:
        """Send one command through the gate. Returns it."""
        if self.gate.state is GateState.DISARMED and self._is_armed_elsewhere():
            self._arm_again(now)
        if isinstance(self._arm, MayBeLost) and self._arm.lost and self.gate.is_commanding:
            self._must_release = self._held
            self._teleop.on_deadman(False, now)
            self.gate.disarm(now)
        if self.autonomy is not None and self.autonomy.is_driving:
            self._let_drive(self.autonomy, observation, now)
        if self.autonomy is None or not self.autonomy.is_driving:
            self._drive_by_hand(now)
        command = self.gate.tick(now)
        if command is None:
            return None
        self._arm.command(command.position, now)
        self._sent = command.position
        return command

    def _drive_by_hand(self, now: float) -> None:
        if self.autonomy is not None and self._sent is not None and self.gate.state is not GateState.TRACKING:
            self.hand.go_on_from(self._sent)
        self._teleop.on_gate(self.gate.state)
        motion = self._teleop.step(now)
        self.gate.on_deadman(self._teleop.is_pressed(now), now)
        if isinstance(self._arm, HasOwnGate):
            actions = None if motion is None else motion.actions
            self._arm.drive(actions, began_s=BEFORE * CHUNK_DT, dt=CHUNK_DT)
        if motion is not None:
            self._offer(motion, now)

    def _let_drive(self, autonomy: Autonomy, observation: Observation | None, now: float) -> None:
        """The policy drives, unless the operator presses the deadman."""
        if self._teleop.is_pressed(now):
            autonomy.pause(now, TAKEN)
        else:
            autonomy.drive(observation, self._pictures_at, now)

    def _is_armed_elsewhere(self) -> bool:
        """Whether no person need arm the session's gate: the arm is simulated, or behind a gate that is armed."""
        arm = self._arm
        return arm.is_gate_armed if isinstance(arm, HasOwnGate) else arm.is_simulated

    def _arm_again(self, now: float) -> None:
        try:
            self.gate.arm(now)
        except InvalidValueError:  # joint states have not come for long enough; the next tick tries again
            return

    def _offer(self, motion: Motion, now: float) -> None:
        self._sequence += 1
        chunk = ChunkMessage(
            session=self._id,
            sequence=self._sequence,
            captured=now - BEFORE * CHUNK_DT,
            dt=CHUNK_DT,
            actions=motion.actions,
            source="teleop",
            names=self._names,
        )
        self.gate.offer(chunk, now)

    def _why_still(self) -> str:
        """Why the arm is not driven; empty while it is."""
        gate, reason = self.gate, self._teleop.reason
        if gate.state in (GateState.FAULT, GateState.ESTOP):
            reason = f"{gate.state.value}: {gate.reason}"
        elif self._must_release:
            reason = "release the deadman first"
        elif gate.state is GateState.DISARMED and not self._arm.is_simulated:
            reason = "not armed: Resume (U) arms it"
        lost = self._arm.lost if isinstance(self._arm, MayBeLost) else ""
        silent = self._leader.trouble if self._leader is not None else ""
        return f"{lost or silent}; {reason}" if reason and (lost or silent) else reason

    def _tell_news(self) -> None:
        """Say once what a device has to tell."""
        trouble = self._arm.trouble if isinstance(self._arm, MayBeLost) else ""
        note = trouble or (self._device.trouble if self._device is not None else "") or self.hand.note
        if note and note != self._noted:
            self.episodes.said = note
        self._noted = note

    def _view(self, observation: Observation | None, now: float) -> View:
        episodes, recorder = self.episodes, self.episodes.recorder
        measured, home, kinematics = self.gate.measured.position, self._arm.home, self._arm.kinematics
        position = measured if measured is not None else np.append(home, np.ones(len(self._names) - len(home)))
        tool = None if kinematics is None else kinematics.pose(position[: len(home)])
        autonomy, reason = self.autonomy, self._why_still()
        drives = autonomy is not None and autonomy.is_driving
        if autonomy is not None and drives and self.gate.state not in (GateState.FAULT, GateState.ESTOP):
            reason = autonomy.reason(now)
        self._tell_news()
        return View(
            now=now,
            position=position,
            tool=tool,
            target=tool if reason or drives else self.hand.target,
            joints=self._names[: len(home)] if isinstance(self.hand, JointHand) else (),
            gate=self.gate.state,
            reason=reason,
            policy=None if autonomy is None else autonomy.phase,
            coached="" if autonomy is None else autonomy.coached,
            operator=self._desk.holder(now),
            number=self._number,
            phase=episodes.phase,
            begins_in_s=episodes.begins_in(now),
            seconds=episodes.n_frames / self._config.rate_hz,
            task=episodes.task,
            subtasks=episodes.subtasks,
            step=episodes.step,
            succeeds=isinstance(self._arm, JudgesTask) and self._arm.success,
            said=episodes.said,
            committed=recorder.committed if recorder else 0,
            pending=recorder.pending if recorder else 0,
            minutes_left=recorder.minutes_left if recorder else np.inf,
            pictures=observation.images if observation is not None else {},
            bodies=self._arm.bodies if isinstance(self._arm, ShowsBodies) else (),
            body_poses=self._arm.body_poses if isinstance(self._arm, ShowsBodies) else np.zeros((0, 7)),
        )
