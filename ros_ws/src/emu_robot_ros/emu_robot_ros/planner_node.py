"""The planner as a node: a task in, subgoals out, one after the other as the policy reaches them.

One thread per task plans and waits. The spinning thread only answers requests and sends the heartbeat.
"""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("planner")

import queue
import threading
import time
from contextlib import suppress

import torch
from builtin_interfaces.msg import Time as TimeMessage
from emu_robot_interfaces.action import ExecuteTask
from emu_robot_interfaces.msg import PlannerStatus, PolicyStatus, SafetyState, Subgoal
from emu_robot_interfaces.srv import SetTask
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image

from emu_robot.control.safety import GateState
from emu_robot.core import PolicyEvent
from emu_robot.errors import EmuRobotError
from emu_robot.models.weights import resolve_weights
from emu_robot.observation.buffer import NotReadyError, TimedObservation
from emu_robot.observation.image_fit import ImageFit
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.planner import Planner
from emu_robot.planner.task_execution import TaskExecution
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import PolicyConfig, read_goal
from emu_robot.policy.goals import goal_planner
from emu_robot.robots.deployment import read_deployment
from emu_robot.shared.draws import EpisodeSeed
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_image, seconds, stamp_of
from emu_robot_ros.parameters import (
    MAX_SEED,
    declare_number,
    declare_settings,
    declare_text,
    number,
    read_settings,
    text,
)
from emu_robot_ros.planner_task import Ended, Partners, Progress, State, Task
from emu_robot_ros.running import run_node
from emu_robot_ros.sensors import Sensors

BEAT_S = 0.03
"""Time between two heartbeats [s]."""
WAIT_S = 0.02
"""Time between two checks whether a plan is due [s]."""
JOIN_S = 1.0
"""How long the ending node waits for a thread that still plans [s]; then it is abandoned."""
SIGHT_TIMEOUT_S = 3.0
"""How long a task waits for an observation before it is given up [s]."""


class PlannerNode(LifecycleNode):
    """Serves execute_task and set_task; publishes subgoal, its image also by itself, and planner_status."""

    def __init__(self) -> None:
        super().__init__("planner")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "weights", "mini", "released weights or a weights folder")
        declare_text(self, "device", "cpu", "where the planner computes: cpu, cuda")
        declare_text(self, "goal", "auto", "what a subgoal holds: planner, text, none, or auto: as the weights say")
        declare_text(self, "fit", "pad", "how the camera's picture becomes a square: pad, crop or stretch")
        declare_number(self, "threads", 1, 1, 64, "that the planner computes in")
        declare_number(self, "seed", 0, 0, MAX_SEED, "seed of the plans, together with the task's number")
        declare_settings(self, PolicyConfig, ["n_action_steps"])
        declare_settings(self, ReplanConfig)
        self._task: Task | None = None
        self._worker: threading.Thread | None = None
        self._is_active = False
        self._planning_of_one, self._ending = threading.Lock(), threading.RLock()

    # -- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        torch.set_num_threads(int(number(self, "threads")))
        device = text(self, "device")
        try:
            self._robot, folder = read_deployment(text(self, "robot")), resolve_weights(text(self, "weights"))
            head = ActionDecoder.load(folder)
            goal = read_goal(text(self, "goal")).resolved(head.goal)
            planner = Planner.load(folder, device=device, int8=device == "cpu") if goal.needs_planner else None
            self._planner, self._camera = goal_planner(goal, planner, None), head.cameras[0]
            size = head.image_size if planner is None else planner.image_size
            self._replan, self._steps = read_settings(self, ReplanConfig), int(number(self, "n_action_steps"))
            head.require_steps(self._steps)
            self._sensors = Sensors(self, self._robot, [self._camera], size, ImageFit(text(self, "fit")))
        except (EmuRobotError, ValueError) as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"goal={goal}")
        self._segment_steps, self._chunk_s = head.segment_steps_p90, self._steps / head.control_hz
        self._next_episode = EpisodeSeed(int(number(self, "seed")))
        self._session, self._sequence, self._chunks = time.time_ns(), 0, 0
        self._state, self._planning = State.IDLE, 0.0
        self._partners = Partners()
        self._open()
        return TransitionCallbackReturn.SUCCESS

    def _open(self) -> None:
        """Create publishers, subscriptions and servers."""
        self._subgoals = self.create_publisher(Subgoal, topics.SUBGOAL, qos.LATCHED)
        self._images = self.create_publisher(Image, topics.SUBGOAL_IMAGE, qos.LATCHED)  # for viewers of plain images
        self._status = self.create_publisher(PlannerStatus, topics.PLANNER_STATUS, qos.STATUS)
        self._inputs = [
            self.create_subscription(PolicyStatus, topics.POLICY_STATUS, self._on_policy_status, qos.STATUS),
            self.create_subscription(SafetyState, topics.SAFETY_STATE, self._on_safety_state, qos.LATCHED),
        ]
        self._service = self.create_service(SetTask, topics.SET_TASK, self._on_set_task)
        self._server = ActionServer(
            self,
            ExecuteTask,
            topics.EXECUTE_TASK,
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = True
        self._timer = self.create_timer(BEAT_S, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest("the planner was deactivated")
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if state.label == "active":
            self._rest("the planner was shut down")
        return super().on_shutdown(state)

    def _rest(self, why: str) -> None:
        self._is_active = False
        self._stop(why)
        self.destroy_timer(self._timer)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._sensors.destroy()
        for publisher in (self._subgoals, self._images, self._status):
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_service(self._service)
        self._server.destroy()
        del self._planner
        return super().on_cleanup(state)

    def destroy_node(self) -> None:
        self._stop("the planner was shut down")
        if self._worker is not None:
            self._worker.join(JOIN_S)
        super().destroy_node()

    # -- tasks

    def _on_goal(self, request: ExecuteTask.Goal) -> GoalResponse:
        reason = "no instruction" if not request.instruction.strip() else ""
        if not self._is_active:
            reason = "the planner is not active"
        elif self._task is not None:
            reason = "another task is being executed: cancel it, or go over to another one by set_task"
        if reason:
            self.get_logger().warning(f"task refused: {reason}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    async def _execute(self, goal: ServerGoalHandle) -> ExecuteTask.Result:
        task = self._start(goal.request.instruction, goal.request.time_limit, goal)
        result = await task.finished
        assert isinstance(result, ExecuteTask.Result)
        (goal.succeed if result.success else goal.canceled if goal.is_cancel_requested else goal.abort)()
        return result

    def _on_set_task(self, request: SetTask.Request, response: SetTask.Response) -> SetTask.Response:
        reason = "" if self._is_active else "the planner is not active"
        if not reason and request.instruction.strip():
            reason = "no safety gate is there" if self._partners.gate is None else self._partners.unwilling
        if not reason:
            self._stop("replaced by set_task" if request.instruction.strip() else "stopped by set_task")
            if request.instruction.strip():
                self._start(request.instruction, 0.0, None)
        response.success, response.message = not reason, reason
        return response

    def _start(self, instruction: str, time_limit: float, goal: ServerGoalHandle | None) -> Task:
        episode, self._next_episode = self._next_episode, self._next_episode.next
        execution = TaskExecution(
            self._planner,
            instruction,
            self._replan,
            steps_per_chunk=self._steps,
            segment_steps_p90=self._segment_steps,
            clock=lambda: time.monotonic() / self._chunk_s,
            episode=episode,
        )
        until = time.monotonic() + time_limit if time_limit > 0 else float("inf")
        self._task = task = Task(execution=execution, until=until, goal=goal)
        self._partners.begin()
        self.get_logger().info(f"task: {instruction}")
        self._worker = threading.Thread(target=self._work, args=(task,), name="task", daemon=True)
        self._worker.start()
        return task  # it may already be over

    def _stop(self, reason: str) -> None:
        """End the present task at once. A plan that its thread still computes is not used."""
        if self._task is not None:
            self._end(self._task, reason)

    def _end(self, task: Task, message: str, *, success: bool = False) -> None:
        """Tell the graph and the task's client that the task is over. Does nothing if it is already."""
        with self._ending:
            if task.over:
                return
            self._publish(task, None, "")
            task.over, self._state, self._task = True, State.IDLE, None
        self.get_logger().info(f"task over: {message}")
        task.finished.set_result(task.result(message, success=success))

    # -- one task, in its own thread

    def _work(self, task: Task) -> None:
        try:
            self._pursue(task)
            self._end(task, "complete", success=True)
        except (Ended, EmuRobotError) as error:
            self._end(task, str(error))

    def _pursue(self, task: Task) -> None:
        """Plan, wait until the next plan is due, plan again, until the task is over. Raises `Ended`."""
        execution = task.execution
        while not execution.is_over:
            self._enter(task, State.PLANNING)
            observed, event = self._plan(task)
            if event is PolicyEvent.PLAN_FAILED:
                self.get_logger().warning(f"no plan: {execution.problem}")
            elif not execution.is_over:
                self._publish(task, observed, execution.instruction)
                self._enter(task, State.COMPLETE if execution.step is None else State.WAITING)
                self._wait(task)

    def _enter(self, task: Task, state: State) -> None:
        """Change the state. Raises `Ended` if the task is over."""
        with self._ending:
            if task.over:
                raise Ended
            self._state = state

    def _plan(self, task: Task) -> tuple[TimedObservation, PolicyEvent]:
        """Plan once, after the plan of the last task has ended."""
        while not self._planning_of_one.acquire(timeout=0.05):
            self._check(task)
        try:
            observed, started = self._observe(task), time.monotonic()
            event = task.execution.plan(observed.observation)
            self._planning = time.monotonic() - started
            return observed, event
        finally:
            self._planning_of_one.release()

    def _observe(self, task: Task) -> TimedObservation:
        """Wait for an observation captured after this call, and until the robot may move."""
        until, problem, since = time.monotonic() + SIGHT_TIMEOUT_S, "no new image", seconds(self._now())
        while time.monotonic() < until:
            self._check(task)
            try:
                observed = self._sensors.observe()
                if observed.captured >= since and self._partners.may_move:
                    return observed
            except NotReadyError as error:
                problem = str(error)
            time.sleep(0.02)
        raise Ended(f"nothing to plan from: {problem}")

    def _wait(self, task: Task) -> None:
        """Wait until the next plan is due, and pass the policy's progress on to the task."""
        while not task.execution.is_due:
            self._check(task)
            with suppress(queue.Empty):
                heard = task.heard.get(timeout=WAIT_S)
                if heard.sequence == self._sequence:
                    self._feed_back(task, heard.progress, None)
                    task.execution.on_progress(heard.progress)

    def _check(self, task: Task) -> None:
        """Raise `Ended` if the task must end."""
        if task.over:
            raise Ended
        if reason := task.reason_to_stop or self._partners.reason_to_stop(task):
            raise Ended(reason)

    def _publish(self, task: Task, observed: TimedObservation | None, instruction: str) -> None:
        """Publish the present step as a subgoal; without an instruction: stop. Raises `Ended` if the task is over."""
        step = task.execution.step if instruction else None
        with self._ending:
            if task.over:
                raise Ended
            message = Subgoal(session=self._session, sequence=self._sequence + 1, instruction=instruction)
            message.header.stamp = stamp_of(observed.captured) if observed else self._now()
            if step is not None:
                message.subtask = step.subtask
                message.time_to_live = Duration(seconds=task.execution.patience * self._chunk_s).to_msg()
                if step.subgoal is not None:
                    message.image = from_image(step.subgoal, message.header.stamp, self._camera)
            self._sequence += 1
            self._subgoals.publish(message)
            if len(message.image.data):
                self._images.publish(message.image)
        if step is not None:
            self.get_logger().info(f"subgoal {self._sequence}: {step.subtask} ({self._planning:.2f} s)")
            self._feed_back(task, float("nan"), message)

    def _feed_back(self, task: Task, progress: float, subgoal: Subgoal | None) -> None:
        with self._ending:
            if not task.over:
                task.feed_back(progress, subgoal)

    # -- messages

    def _on_policy_status(self, message: PolicyStatus) -> None:
        self._partners.on_policy()
        task = self._task
        new = message.chunks != self._chunks and message.progress == message.progress
        if task is not None and new and message.subgoal_session == self._session:
            self._chunks = message.chunks
            task.heard.put(Progress(message.subgoal_sequence, message.progress))

    def _on_safety_state(self, message: SafetyState) -> None:
        self._partners.on_gate(GateState(message.state))

    def _beat(self) -> None:
        if not self._is_active:
            return
        task, message = self._task, PlannerStatus(session=self._session, sequence=self._sequence)
        message.header.stamp = self._now()
        message.state, message.planning = self._state.value, self._planning
        message.instruction = task.execution.instruction if task else ""
        self._status.publish(message)

    def _now(self) -> TimeMessage:
        return self.get_clock().now().to_msg()


def main() -> None:
    run_node(PlannerNode, awaits=True)
