"""The step policy as a node: observation and subgoal in, action chunks out.

A worker thread computes the chunks. The spinning thread sends the heartbeat, but only while the worker keeps up: a
policy that computes for too long is as silent as a dead one, and the gate holds the robot.
"""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("policy")

import threading
import time
from dataclasses import dataclass

import torch
from builtin_interfaces.msg import Time as TimeMessage
from emu_robot_interfaces.msg import ActionChunk, PlannerStatus, PolicyStatus, Subgoal
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from emu_robot.core import PlanStep
from emu_robot.errors import EmuRobotError
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.policy.config import ChunkConfig, PolicyConfig
from emu_robot.policy.step_policy import StepPolicy
from emu_robot.robots.deployment import read_deployment
from emu_robot.shared.draws import EpisodeSeed
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_actions, stamp_of, to_image
from emu_robot_ros.parameters import (
    MAX_SEED,
    declare_number,
    declare_settings,
    declare_text,
    number,
    read_settings,
    text,
)
from emu_robot_ros.run_policy import RunPolicyServer
from emu_robot_ros.running import run_node
from emu_robot_ros.sensors import Sensors

BEAT_S = 0.03
"""Time between two heartbeats [s]."""
JOIN_S = 1.0
"""How long to wait for a thread that still computes [s]; then it is abandoned."""
SIGHT_S = 0.3
"""How long to wait for a new picture of every camera [s]; then a warning names the silent one."""


@dataclass(frozen=True, kw_only=True)
class Pursued:
    """The step that the policy pursues."""

    step: PlanStep
    """Subtask and subgoal image."""
    instruction: str
    """The whole task in words."""
    session: int = 0
    """Session of the subgoal; 0 for run_policy."""
    sequence: int = 0
    """Number of the subgoal in its session; 0 for run_policy."""
    until: float = float("inf")
    """Time on the steady clock at which it lapses [s]."""
    planned: bool = True
    """Whether a planner must stay alive for it."""

    @property
    def task(self) -> tuple[int, str]:
        """Key that differs between tasks which follow each other at once."""
        return self.session, self.instruction


class PolicyNode(LifecycleNode):
    """Pursues the planner's subgoals, or the words of run_policy without a planner."""

    def __init__(self) -> None:
        super().__init__("policy")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "weights", "mini", "released weights or a weights folder")
        declare_text(self, "device", "cpu", "where the head computes: cpu, cuda")
        declare_text(self, "fit", "pad", "how a camera's picture becomes a square: pad, crop or stretch")
        declare_number(self, "threads", 1, 1, 64, "that the head computes in")
        declare_number(self, "seed", 0, 0, MAX_SEED, "seed of the chunks' noise, together with the task's number")
        declare_settings(self, PolicyConfig, ["n_action_steps"])
        declare_settings(self, ChunkConfig)
        declare_number(self, "stall", 0.4, 0.05, 5.0, "computing for longer than this silences the heartbeat [s]")
        declare_number(self, "planner_timeout", 0.12, 0.05, 5.0, "silence of the planner after which to stop [s]")
        self._computing, self._sending = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._worker: threading.Thread | None = None

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        torch.set_num_threads(int(number(self, "threads")))
        try:
            self._robot = read_deployment(text(self, "robot"))
            config = read_settings(self, ChunkConfig)
            self._step_policy = StepPolicy.load(text(self, "weights"), text(self, "device"), config)
            head, steps = self._step_policy.head, int(number(self, "n_action_steps"))
            head.require_steps(steps)
            self._robot.require_actions(head.layout.action_names, head.layout.n_grippers)
            self._came = threading.Event()
            self._image_size, fit = head.image_size, ImageFit(text(self, "fit"))
            self._sensors = Sensors(self, self._robot, head.cameras, head.image_size, fit, self._came.set)
        except (EmuRobotError, ValueError) as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._chunk_s, self._next_episode = steps / head.control_hz, EpisodeSeed(int(number(self, "seed")))
        self._session, self._sequence = time.time_ns(), 0
        self._subgoal: Pursued | None = None
        self._own: Pursued | None = None
        self._planner_heard, self._problem = float("-inf"), ""
        self._busy_since: float | None = None
        self._judged: tuple[Pursued | None, float] = (None, float("nan"))
        self._inference = self._age = 0.0
        self._open()
        return TransitionCallbackReturn.SUCCESS

    def _open(self) -> None:
        """Create publishers, subscriptions and the server of run_policy."""
        self._chunks = self.create_publisher(ActionChunk, topics.ACTION_CHUNK, qos.CHUNKS)
        self._status = self.create_publisher(PolicyStatus, topics.POLICY_STATUS, qos.STATUS)
        self._inputs = [
            self.create_subscription(Subgoal, topics.SUBGOAL, self._on_subgoal, qos.LATCHED),
            self.create_subscription(PlannerStatus, topics.PLANNER_STATUS, self._on_planner_status, qos.STATUS),
        ]
        self._runs = RunPolicyServer(self, self._follow, self._refusal, lambda: (self._sequence, self._inference))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stopped, self._busy_since = threading.Event(), None
        self._worker = threading.Thread(target=self._work, args=(self._stopped,), name="chunks", daemon=True)
        self._worker.start()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [
            self.create_timer(BEAT_S, self._beat, clock=steady),
            self.create_timer(0.1, self._runs.watch, clock=steady),
        ]
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest("the policy was deactivated")
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._rest("the policy was shut down")
        return super().on_shutdown(state)

    def _rest(self, why: str) -> None:
        """Stop, and report that nothing is pursued."""
        self._subgoal = None
        self._runs.end(why)
        self._stop_working()
        for timer in self._timers:
            self.destroy_timer(timer)
        self._tell(None)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._sensors.destroy()
        for publisher in (self._chunks, self._status):
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._runs.destroy()
        del self._step_policy
        return super().on_cleanup(state)

    def destroy_node(self) -> None:
        self._stop_working()
        super().destroy_node()

    def _stop_working(self) -> None:
        """Send no chunk after this. A thread that still computes one ends later."""
        with self._sending:
            self._stopped.set()
        if self._worker is not None:
            self._came.set()
            self._worker.join(JOIN_S)

    # -- subgoals

    @property
    def _pursued(self) -> Pursued | None:
        """The step to pursue now; None if there is none, if it lapsed, or if its planner is silent."""
        now, pursued = time.monotonic(), self._own or self._subgoal
        if pursued is None or now > pursued.until:
            return None
        if pursued.planned and now - self._planner_heard > number(self, "planner_timeout"):
            return None
        return pursued

    def _refusal(self) -> str:
        """Why run_policy may not begin now; empty if it may."""
        if self._stopped.is_set():
            return "the policy is not active"
        return "" if self._pursued is None else "something is being done already"

    def _follow(self, words: str) -> None:
        """Follow the words of run_policy; empty: end that."""
        step = PlanStep(subtask=words)
        self._own = Pursued(step=step, instruction=words, planned=False) if words else None

    def _on_subgoal(self, message: Subgoal) -> None:
        if not message.instruction or not message.subtask:
            self._subgoal = None
            return
        try:
            size, given = self._image_size, message.image
            image = fit_image(to_image(given), size, ImageFit.stretch) if given.data else None
        except EmuRobotError as error:
            self.get_logger().error(f"subgoal {message.sequence}: {error}")
            return  # the last subgoal stays until it lapses
        ttl = message.time_to_live.sec + 1e-9 * message.time_to_live.nanosec
        self._planner_heard = time.monotonic()
        self._subgoal = Pursued(
            step=PlanStep(subtask=message.subtask, subgoal=image),
            instruction=message.instruction,
            session=message.session,
            sequence=message.sequence,
            until=time.monotonic() + ttl if ttl else float("inf"),
        )

    def _on_planner_status(self, message: PlannerStatus) -> None:
        if self._subgoal is not None and message.session == self._subgoal.session:
            self._planner_heard = time.monotonic()

    # -- chunks, in the worker's thread

    def _work(self, stopped: threading.Event) -> None:
        """Compute one chunk per period, as soon as every camera has shown a new picture."""
        step_policy = self._step_policy
        self._warm_up(step_policy)
        due, task = 0.0, None
        while not stopped.is_set():
            self._came.wait(SIGHT_S)
            self._came.clear()
            pursued, now = self._pursued, time.monotonic()
            if pursued is None:
                due, task = 0.0, None
            elif now >= due:
                due = max(due + self._chunk_s, now) if due else now + self._chunk_s
                if task != pursued.task:
                    task, episode = pursued.task, self._next_episode
                    step_policy.begin(episode)
                    self._next_episode = episode.next
                self._busy_since = now
                self._compute(pursued, step_policy, stopped)
                self._busy_since = None

    def _compute(self, pursued: Pursued, step_policy: StepPolicy, stopped: threading.Event) -> None:
        """Compute and send one chunk, if there is an observation."""
        try:
            observation, captured = self._sensors.observe()
            started = time.monotonic()
            self._age = 1e-9 * self.get_clock().now().nanoseconds - captured
            with self._computing:
                chunk = step_policy.chunk(observation, pursued.step)
        except EmuRobotError as error:
            if str(error) != self._problem:
                self.get_logger().warning(f"no chunk: {error}")
            self._problem = str(error)
            return
        self._problem = ""
        self._inference = time.monotonic() - started
        message = ActionChunk(session=self._session, source="policy", dt=1.0 / step_policy.head.control_hz)
        message.header.stamp, message.names = stamp_of(captured), list(self._robot.dimension_names)
        message.actions = from_actions(chunk.actions)
        with self._sending:
            if stopped.is_set() or self._pursued is None:
                return
            self._sequence += 1
            self._judged = (pursued, float("nan") if chunk.progress is None else chunk.progress)
            message.sequence = self._sequence
            self._chunks.publish(message)
            self._tell(pursued)

    def _warm_up(self, step_policy: StepPolicy) -> None:
        """The first inference takes several times as long as those after it."""
        try:
            with self._computing:
                step_policy.chunk(step_policy.head.blank_observation(), PlanStep(subtask="wait"))
        except EmuRobotError as error:
            self.get_logger().error(f"warm-up: {error}")

    # -- heartbeat

    def _beat(self) -> None:
        if self._stopped.is_set():  # the events executor may call a destroyed timer that was due
            return
        busy = self._busy_since
        if busy is not None and time.monotonic() - busy > number(self, "stall"):
            self.get_logger().warning("a chunk takes too long", throttle_duration_sec=1.0)
            return
        self._tell(None if self._problem or self._sensors.problem() else self._pursued)

    def _tell(self, pursued: Pursued | None) -> None:
        """Publish that the policy is alive and what it pursues; an empty instruction means nothing."""
        message = PolicyStatus(session=self._session, chunks=self._sequence, progress=float("nan"))
        message.header.stamp = self._now()
        if pursued is not None:
            judged, progress = self._judged
            message.instruction = pursued.instruction
            message.progress = progress if judged is pursued else float("nan")
            message.subgoal_session, message.subgoal_sequence = pursued.session, pursued.sequence
            message.inference, message.observation_age = self._inference, self._age
        self._status.publish(message)

    def _now(self) -> TimeMessage:
        return self.get_clock().now().to_msg()


def main() -> None:
    run_node(PolicyNode)
