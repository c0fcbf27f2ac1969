"""The action run_policy: the policy follows words for a while, without a planner. It computes no chunk itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from emu_robot_interfaces.action import RunPolicy
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from emu_robot_ros import topics

CANCELED, TIME_IS_UP = "canceled", "time is up"


@dataclass(kw_only=True)
class Run:
    """One run of the policy."""

    goal: ServerGoalHandle
    """The client's goal."""
    started: float
    """Start on the steady clock [s]."""
    chunks: int
    """Number of chunks that were sent before."""
    ended: str = ""
    """Why the run has ended; empty while it goes on."""


class RunPolicyServer:
    """Serves run_policy, one run at a time."""

    def __init__(
        self,
        node: Node,
        follow: Callable[[str], None],
        refusal: Callable[[], str],
        progress: Callable[[], tuple[int, float]],
    ) -> None:
        """follow: follow these words, or stop if they are empty. refusal: why no run may begin now; empty if one may.

        progress: number of chunks sent by now, and duration of the last inference [s].
        """
        self._node, self._follow, self._refusal, self._progress = node, follow, refusal, progress
        self._run: Run | None = None
        self._server = ActionServer(
            node,
            RunPolicy,
            topics.RUN_POLICY,
            self._finish,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._begin,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )

    def watch(self) -> None:
        """Tell the client of the progress, and end the run if it is canceled or its time is up. Call it often."""
        run = self._run
        if run is None or run.ended:
            return
        chunks, inference = self._progress()
        run.goal.publish_feedback(RunPolicy.Feedback(chunks=chunks - run.chunks, inference=inference))
        limit = run.goal.request.time_limit or float("inf")
        if run.goal.is_cancel_requested or time.monotonic() - run.started > limit:
            self.end(CANCELED if run.goal.is_cancel_requested else TIME_IS_UP)

    def end(self, why: str) -> None:
        """End the run, if there is one."""
        if self._run is not None and not self._run.ended:
            self._follow("")
            self._run.ended = why
            self._run.goal.execute()  # calls _finish

    def destroy(self) -> None:
        """Serve no more."""
        self._server.destroy()

    def _on_goal(self, request: RunPolicy.Goal) -> GoalResponse:
        reason = self._refusal()
        if not reason and self._run is not None:
            reason = "something is being done already"
        if not reason and not request.instruction.strip():
            reason = "no instruction"
        if reason:
            self._node.get_logger().warning(f"run_policy refused: {reason}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _begin(self, goal: ServerGoalHandle) -> None:
        self._follow(goal.request.instruction)
        self._run = Run(goal=goal, started=time.monotonic(), chunks=self._progress()[0])

    def _finish(self, goal: ServerGoalHandle) -> RunPolicy.Result:
        run, self._run = self._run, None
        assert run is not None
        success = run.ended in (CANCELED, TIME_IS_UP)
        (goal.canceled if goal.is_cancel_requested else goal.succeed if success else goal.abort)()
        chunks, duration = self._progress()[0] - run.chunks, time.monotonic() - run.started
        return RunPolicy.Result(success=success, message=run.ended, chunks=chunks, duration=duration)
