"""The recorder as a node: writes every topic of the graph, as it is on the wire, into MCAP files."""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("recorder")

import math
import re
import time
from collections import Counter
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from emu_robot_interfaces.action import RecordEpisode
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import NameValidationException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from rclpy.validate_topic_name import validate_topic_name

from emu_robot.data.mcap_writing import McapRecording, Topic, free_gb
from emu_robot.data.recording_contract import Contract, weights_sha256
from emu_robot.errors import EmuRobotError, InvalidValueError, SystemSetupError
from emu_robot.robots.deployment import find_deployment, parse_deployment
from emu_robot.robots.file import read_text
from emu_robot.shared.provenance import commit, version
from emu_robot_ros import topics
from emu_robot_ros.message_definitions import definition_of, message_class, message_name, package_version
from emu_robot_ros.parameters import declare_text
from emu_robot_ros.recorded_topics import RELIABLE, graph, listening
from emu_robot_ros.running import run_node

INTERFACES = "emu_robot_interfaces"


class RecorderNode(LifecycleNode):
    """Serves the action `record_episode`; listens only while it records."""

    def __init__(self) -> None:
        super().__init__("recorder")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "folder", "recordings", "folder of the recordings, each a folder in it")
        declare_text(self, "topics", "", "further topics to record, separated by commas")
        declare_text(self, "weights", "", "name or folder of the policy's weights, to be noted in recordings")
        self._declare_number("min_free_gb", 2.0, 100_000.0, "free disk space at which recordings end [GB]")
        self._declare_number("queue_mb", 256.0, 65_536.0, "memory for what waits to be written; more is dropped [MB]")
        self._is_active = False
        self._server: ActionServer | None = None
        self._recording: McapRecording | None = None
        self._ended: Future | None = None
        self._to_find: set[str] = set()

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            path = find_deployment(self._text("robot"))
            self._robot_yaml = read_text(path)
            self._sources = graph(parse_deployment(self._robot_yaml, path))
            for source in self._sources:
                definition_of(message_name(source.kind))  # to fail now, not during a recording
            names = [name.strip() for name in self._text("topics").split(",") if name.strip()]
            self._extras = {self.resolve_topic_name(name) for name in names if validate_topic_name(name)}
            self._is_simulated = bool(self.get_parameter("use_sim_time").value)
            self._folder = Path(self._text("folder")).expanduser()
            self._folder.mkdir(parents=True, exist_ok=True)
            software = {"emu_robot": version(), "git": commit() or "", INTERFACES: package_version(INTERFACES)}
        except (EmuRobotError, NameValidationException, OSError) as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        weights = self._text("weights")
        self._about = {"weights": weights, "weights_sha256": weights_sha256(weights), "software": software}
        self._server = ActionServer(
            self,
            RecordEpisode,
            topics.RECORD_EPISODE,
            self._record,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = False
        self._end("the recorder was deactivated")
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = False
        self._end("the recorder was stopped")
        return super().on_shutdown(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._ended is not None:  # the last goal has not had its result yet
            return TransitionCallbackReturn.FAILURE
        if self._server is not None:
            self._server.destroy()
            self._server = None
        return super().on_cleanup(state)

    def destroy_node(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self.get_logger().info(f"{self._recording.path}: closed, the recorder was stopped")
        super().destroy_node()

    # -- the action

    def _on_goal(self, goal: RecordEpisode.Goal) -> GoalResponse:
        if not self._is_active or self._ended is not None:
            what = "is already recording" if self._is_active else "is not active"
            self.get_logger().warning(f"{goal.task!r} refused: the recorder {what}")
            return GoalResponse.REJECT
        self._ended = Future(executor=self.executor)
        return GoalResponse.ACCEPT

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        self._end("canceled")
        return CancelResponse.ACCEPT

    async def _record(self, goal: ServerGoalHandle) -> RecordEpisode.Result:
        try:
            self._recording = self._open(goal.request)
            result = await self._record_until_ended(goal, self._recording)
        except (EmuRobotError, OSError) as error:
            result = RecordEpisode.Result(message=str(error))
            self.get_logger().error(str(error))
        finally:
            self._ended = self._recording = None
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.success:
            goal.succeed()
        else:
            goal.abort()
        return result

    async def _record_until_ended(self, goal: ServerGoalHandle, recording: McapRecording) -> RecordEpisode.Result:
        self.get_logger().info(f"recording {recording.path}")
        began, limit, steady = time.monotonic(), goal.request.time_limit, Clock(clock_type=ClockType.STEADY_TIME)
        self._listen(recording)
        timers = [self.create_timer(1.0, partial(self._watch, goal, recording, began), clock=steady)]
        if limit:
            timers.append(self.create_timer(limit, partial(self._end, "time limit reached"), clock=steady))
        assert self._ended is not None
        why, is_well = cast(tuple[str, bool], await self._ended)
        duration = time.monotonic() - began
        for timer in timers:
            self.destroy_timer(timer)
        for subscription in self._subscriptions_now:
            self.destroy_subscription(subscription)
        recording.close()
        result = RecordEpisode.Result(path=str(recording.path), messages=recording.received.total(), duration=duration)
        result.success = is_well and not recording.problem
        result.message = f"{why} after {duration:.1f} s; {self._account(recording)}"
        self.get_logger().info(f"{recording.path}: {result.message}")
        return result

    def _open(self, request: RecordEpisode.Goal) -> McapRecording:
        if not (math.isfinite(request.time_limit) and request.time_limit >= 0):
            raise InvalidValueError(f"time_limit is {request.time_limit} s, must be 0 (none) or positive")
        shortage, _ = self._shortage()
        if shortage:
            raise SystemSetupError(f"not recording: {shortage}")
        contract = Contract(
            task=request.task,
            robot=self._robot_yaml,
            topics={source.role: self.resolve_topic_name(source.name) for source in self._sources},
            simulated_clock=self._is_simulated,
            **self._about,
        )
        queue_bytes = int(1e6 * self._number("queue_mb"))
        return McapRecording(self._new_path(request.task), contract, time_ns=self._now_ns(), queue_bytes=queue_bytes)

    def _account(self, recording: McapRecording) -> str:
        """Received and missing messages, in words."""
        received, dropped = recording.received, recording.dropped
        silent = [name for name in (*self._listened, *sorted(self._to_find)) if not received[name]]
        said = [f"{received.total()} messages", f"{dropped.total()} dropped"]
        said += [f"{n} of them on {name}" for name, n in dropped.items()]
        said += [f"{n} on {name} lost on their way here" for name, n in self._lost.items() if n]
        said += [f"nothing came on {' '.join(silent)}"] if silent else []
        return "; ".join([*said, *([recording.problem] if recording.problem else [])])

    # -- while recording

    def _listen(self, recording: McapRecording) -> None:
        """Subscribe to every known topic; `_watch` adds topics of the parameter `topics` as they appear."""
        self._subscriptions_now: list[Any] = []
        self._listened: list[str] = []
        self._lost: Counter[str] = Counter()
        for source in self._sources:
            self._subscribe(recording, self.resolve_topic_name(source.name), source.kind, source.profile)
        self._to_find = self._extras - set(self._listened)
        self._find(recording)

    def _find(self, recording: McapRecording) -> None:
        there = {name: kinds for name, kinds in self.get_topic_names_and_types() if name in self._to_find}
        for name, kinds in there.items():
            try:
                self._subscribe(recording, name, message_class(kinds[0]), RELIABLE)
                self._to_find.remove(name)
            except EmuRobotError as error:
                self.get_logger().error(f"{name} cannot be recorded: {error}", throttle_duration_sec=10.0)

    def _subscribe(self, recording: McapRecording, name: str, kind: Any, expected: QoSProfile) -> None:
        definition, digest = definition_of(message_name(kind))
        offers = [info.qos_profile for info in self.get_publishers_info_by_topic(name)]
        profile = listening(kind, offers or [expected])
        is_reliable = profile.reliability == ReliabilityPolicy.RELIABLE
        is_latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        recording.add(Topic(name, message_name(kind), definition, digest, is_reliable, is_latched))
        self._listened.append(name)
        store: Any = partial(self._store, recording, name)
        events = SubscriptionEventCallbacks(message_lost=partial(self._on_lost, name))
        subscription = self.create_subscription(kind, name, store, profile, raw=True, event_callbacks=events)
        self._subscriptions_now.append(subscription)

    def _store(self, recording: McapRecording, topic: str, data: bytes, info: dict[str, int]) -> None:
        received = self._now_ns() if self._is_simulated else info["received_timestamp"]
        recording.put(topic, received, data)

    def _on_lost(self, topic: str, info: Any) -> None:
        self._lost[topic] += info.total_count_change

    def _watch(self, goal: ServerGoalHandle, recording: McapRecording, began: float) -> None:
        """Every second: send feedback, look for new topics, and check disk space and writing."""
        self._find(recording)
        shortage, free = self._shortage()
        feedback = RecordEpisode.Feedback(messages=recording.received.total(), free_space=free)
        feedback.duration = time.monotonic() - began
        goal.publish_feedback(feedback)
        if shortage or recording.problem:
            self._end(shortage or "writing failed", is_well=False)

    def _end(self, why: str, is_well: bool = True) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result((why, is_well))

    # -- helpers

    def _shortage(self) -> tuple[str, float]:
        """Why there is no room to record, empty if there is; and free space [GB]."""
        try:
            free, needed = free_gb(self._folder), self._number("min_free_gb")
        except OSError as error:
            return f"{self._folder}: {error.strerror}", 0.0
        is_short = free < needed
        return f"{free:.1f} GB free in {self._folder}, min_free_gb is {needed:.1f}" if is_short else "", free

    def _new_path(self, task: str) -> Path:
        """A new folder's path, named after time, namespace and task."""
        words = re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")[:40]
        space = self.get_namespace().strip("/").replace("/", "_")
        name = "_".join(part for part in (f"{datetime.now():%Y-%m-%d_%H-%M-%S}", space, words) if part)
        names = (name if i == 0 else f"{name}_{i}" for i in count())
        return next(path for path in map(self._folder.joinpath, names) if not path.exists())

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _text(self, name: str) -> str:
        return str(self.get_parameter(name).value)

    def _number(self, name: str) -> float:
        return float(self.get_parameter(name).value)  # pyright: ignore[reportArgumentType]

    def _declare_number(self, name: str, default: float, high: float, description: str) -> None:
        bounds = FloatingPointRange(from_value=0.0, to_value=high)
        self.declare_parameter(
            name, default, ParameterDescriptor(description=description, floating_point_range=[bounds])
        )


def main() -> None:
    run_node(RecorderNode, awaits=True)
