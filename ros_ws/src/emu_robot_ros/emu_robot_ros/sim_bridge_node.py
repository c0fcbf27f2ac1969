"""The simulated tabletop in place of a robot's drivers: joint states and cameras out, commands in.

Physics keep pace with the steady clock, and stamps come from the system clock, so that no other node needs /clock. If
the machine is too slow, simulated time falls behind, and the node logs by how much.
"""

if __name__ == "__main__":  # before the imports: a signal to end may come during them
    from emu_robot_ros.starting import start

    start("sim_bridge")

import time

import numpy as np
from emu_robot_interfaces.msg import EpisodeState
from emu_robot_interfaces.srv import ResetEpisode
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from emu_robot.core import Floats
from emu_robot.errors import ConfigError, EmuRobotError, UnknownNameError
from emu_robot.robots.deployment import Deployment, Gripper, read_deployment
from emu_robot.robots.spec import PANDA
from emu_robot_ros import qos, topics
from emu_robot_ros.conversions import from_image
from emu_robot_ros.parameters import declare_number, declare_text, number, text
from emu_robot_ros.running import run_node
from emu_sim.environment import TabletopEnvironment
from emu_sim.world import SUBSTEP_S

MOST_LAG_S = 0.2
"""Largest delay that physics catch up with [s]."""
DEAF_S = 0.1
"""Time after a reset in which commands are ignored [s]: they were meant for the last episode."""


class Motion:
    """Targets of all dimensions, each moving straight to its last goal, as a controller's targets do."""

    def __init__(self, position: Floats) -> None:
        self._origin, self._goal = position.copy(), position.copy()
        self._start, self._duration = np.zeros(len(position)), np.full(len(position), 1e-3)

    def at(self, now: float) -> Floats:
        """Targets (A,) at a time on the steady clock [s]."""
        share = np.clip((now - self._start) / self._duration, 0.0, 1.0)
        return self._origin + share * (self._goal - self._origin)

    def go(self, where: slice, goal: Floats, now: float, duration: float) -> None:
        """Move the targets of some dimensions to `goal` within `duration` [s]."""
        self._origin[where] = self.at(now)[where]
        self._goal[where], self._start[where], self._duration[where] = goal, now, max(duration, 1e-3)


def gripper_of_panda(robot: Deployment) -> Gripper:
    """The gripper of a robot that the simulation can replace. Raises `ConfigError` for any other robot."""
    gripper, joints = robot.gripper, len(PANDA.joint_names)
    kinds = {robot.kind, gripper.kind if gripper else "none"}
    if gripper is None or kinds != {"trajectory"} or robot.n_joints != joints:
        held = f"a gripper that takes {gripper.kind}" if gripper else "no gripper"
        has = f"{robot.n_joints} joints that take {robot.kind} and {held}"
        needs = f"{joints} joints and a gripper that take trajectory"
        raise ConfigError(f"{robot.name} has {has}; the simulated arm is a Panda with {needs}")
    return gripper


class SimBridgeNode(LifecycleNode):
    """Plays one episode after the other. Serves reset_episode."""

    def __init__(self) -> None:
        super().__init__("sim_bridge")
        declare_text(self, "robot", "panda_sim", "name or YAML file of the deployment")
        declare_text(self, "families", "single", "families of tasks, or groups of families, separated by commas")
        declare_text(self, "split", "seen", "split of the tasks: seen or heldout")
        declare_number(self, "seed", 0, 0, 2**31, "seed of the first episode")
        declare_number(self, "joint_states_hz", 100.0, 20.0, 400.0, "joint states per second [Hz]")
        declare_number(self, "camera_hz", 20.0, 1.0, 60.0, "images per second of each camera [Hz]")
        self._is_active = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._robot = robot = read_deployment(text(self, "robot"))
            self._gripper = gripper = gripper_of_panda(robot)
            self._environment = self._make(text(self, "families"), text(self, "split"))
            self._begin(int(number(self, "seed")))
        except EmuRobotError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._joint_states = [
            self.create_publisher(JointState, topic, qos.JOINT_STATES_OUT) for topic in robot.joint_state_topics
        ]
        self._cameras = {name: self.create_publisher(Image, topic, qos.CAMERA) for name, topic in robot.cameras.items()}
        self._episode = self.create_publisher(EpisodeState, topics.EPISODE_STATE, qos.LATCHED)
        self._inputs = [
            self.create_subscription(JointTrajectory, robot.command_topic, self._on_arm, qos.COMMANDS),
            self.create_subscription(JointTrajectory, gripper.topic, self._on_gripper, qos.COMMANDS),
        ]
        self._service = self.create_service(ResetEpisode, topics.RESET_EPISODE, self._on_reset)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._present, self._is_active = time.monotonic(), True
        self._timers = [
            self.create_timer(1.0 / number(self, "joint_states_hz"), self._sense, clock=steady),
            self.create_timer(1.0 / number(self, "camera_hz"), self._look, clock=steady),
            self.create_timer(1.0, self._remind, clock=steady),
        ]
        self._tell()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = False
        for timer in self._timers:
            self.destroy_timer(timer)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        for publisher in (*self._joint_states, *self._cameras.values(), self._episode):
            self.destroy_publisher(publisher)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_service(self._service)
        self._environment.close()
        del self._environment
        return super().on_cleanup(state)

    # -- time

    def _advance(self) -> None:
        """Advance the physics to now."""
        now = time.monotonic()
        if now - self._present > MOST_LAG_S:
            self.get_logger().warning(f"{now - self._present:.2f} s behind, left out", throttle_duration_sec=5.0)
            self._present = now - MOST_LAG_S
        substeps = int((now - self._present) / SUBSTEP_S)
        if substeps:
            self._environment.advance(self._motion.at(now), substeps)
            self._present += substeps * SUBSTEP_S
            self._simulated += substeps * SUBSTEP_S
        if self._environment.success and not self._succeeded:
            self._succeeded = True
            self._tell()

    def _sense(self) -> None:
        if not self._is_active:  # the events executor may call a destroyed timer that was due
            return
        self._advance()
        world, names, n = self._environment.world, self._robot.dimension_names, self._robot.n_joints
        positions = [*world.joints.tolist(), self._gripper.position(world.gripper_opening)]
        velocities = [*world.joint_velocities.tolist(), 0.0]
        stamp = self.get_clock().now().to_msg()
        parts = (slice(None),) if len(self._joint_states) == 1 else (slice(n), slice(n, None))
        for publisher, part in zip(self._joint_states, parts, strict=True):
            message = JointState(name=names[part], position=positions[part], velocity=velocities[part])
            message.header.stamp = stamp
            publisher.publish(message)

    def _look(self) -> None:
        if not self._is_active:
            return
        self._advance()
        stamp = self.get_clock().now().to_msg()
        images = {name: self._environment.render(name) for name in self._cameras}
        for name, image in images.items():
            self._cameras[name].publish(from_image(image, stamp, name))

    def _remind(self) -> None:
        if self._is_active:
            self._tell()

    def _tell(self) -> None:
        """Publish the true state of the episode."""
        environment = self._environment
        message = EpisodeState(
            seed=self._seed,
            instruction=environment.instruction,
            success=self._succeeded,
            n_subtasks=len(environment.task.subtasks),
            subtasks_done=environment.subtask_index,
            duration=self._simulated,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._episode.publish(message)

    # -- in

    def _on_arm(self, message: JointTrajectory) -> None:
        self._take(message, self._robot.joints.names, slice(0, -1))

    def _on_gripper(self, message: JointTrajectory) -> None:
        self._take(message, (self._gripper.joint,), slice(-1, None))

    def _take(self, message: JointTrajectory, names: tuple[str, ...], where: slice) -> None:
        """Move these joints to the positions of the last point within its time."""
        now, points = time.monotonic(), list(message.points)
        if now < self._deaf_until:
            return
        found = dict(zip(message.joint_names, points[-1].positions, strict=False)) if points else {}
        if set(found) != set(names) or not np.isfinite(list(found.values())).all():
            self.get_logger().warning(f"not a command: {dict(found)}", throttle_duration_sec=1.0)
            return
        positions = np.array([found[name] for name in names])
        if where.start == -1:
            positions = np.array([self._gripper.opening(positions[0])])
        due = points[-1].time_from_start
        self._motion.go(where, positions, now, due.sec + 1e-9 * due.nanosec)

    def _on_reset(self, request: ResetEpisode.Request, response: ResetEpisode.Response) -> ResetEpisode.Response:
        if not self._is_active:
            response.success, response.message = False, "the simulation is not active"
            return response
        try:
            families, split = request.families or self._families, request.split or self._split
            if (families, split) != (self._families, self._split):
                made = self._make(families, split)
                self._environment.close()
                self._environment = made
            self._begin(request.seed)
        except EmuRobotError as error:
            response.success, response.message = False, str(error)
            return response
        self._tell()
        response.success, response.instruction = True, self._environment.instruction
        return response

    def _make(self, families: str, split: str) -> TabletopEnvironment:
        if split not in ("seen", "heldout"):
            raise UnknownNameError("split", split, ("seen", "heldout"))
        made = TabletopEnvironment([name.strip() for name in families.split(",")], split)
        self._families, self._split = families, split
        return made

    def _begin(self, seed: int) -> None:
        self._environment.reset(seed, observe=False)
        self._seed, self._simulated, self._succeeded = seed, 0.0, False
        self._motion = Motion(np.array([*PANDA.home, 1.0]))
        self._present = time.monotonic()
        self._deaf_until = self._present + DEAF_S
        self.get_logger().info(f"episode {seed}: {self._environment.instruction}")

    def destroy_node(self) -> None:
        if hasattr(self, "_environment"):
            self._environment.close()
        super().destroy_node()


def main() -> None:
    run_node(SimBridgeNode)
