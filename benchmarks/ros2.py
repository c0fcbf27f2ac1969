"""Measures the ROS 2 graph in separate processes: latency, jitter, holding, random messages, stops, success.

.venv-ros/bin/python benchmarks/ros2.py latency    image -> chunk -> command, arm with two VGA cameras at 30 Hz
.venv-ros/bin/python benchmarks/ros2.py jitter     of commands at 50 Hz, with a planning planner and a busy process
.venv-ros/bin/python benchmarks/ros2.py holds      from SIGSTOP or SIGKILL of planner or policy to a holding gate
.venv-ros/bin/python benchmarks/ros2.py random     100,000 chunks, most of them wrong, and the resulting commands
.venv-ros/bin/python benchmarks/ros2.py estop      from the call to a holding gate, and no motion until the reset
.venv-ros/bin/python benchmarks/ros2.py success    through the graph and in one process, with the same seeds
.venv-ros/bin/python benchmarks/ros2.py table      all measurements so far

Results are kept in outputs/ros2. The graph is that of `emu-robot bringup`, on a domain of its own.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/helpers"))
OUT = Path("outputs/ros2")
FIRST_SEED = 30_000_000
"""First seed of the layouts, far from those of demonstrations."""
TASK_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MEASURES, "table"])
    parser.add_argument("--n", type=int, help="repetitions; episodes of success; messages of random")
    parser.add_argument("--seconds", type=float, default=60.0, help="of latency and jitter")
    wanted = parser.parse_args()
    from emu_robot.deploy.graph import read_graph

    os.environ |= {
        **read_graph("sim").environment,  # also graphs without simulation stay on this machine
        "ROS_DOMAIN_ID": str(10 + os.getpid() % 90),
        "OMP_NUM_THREADS": "1",
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
    }
    if wanted.what == "table":
        print(table())
        return
    found = MEASURES[wanted.what](wanted)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{wanted.what}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


@contextmanager
def graph(name: str = "sim", nodes: str = "", **settings: str) -> Iterator[dict[str, Any]]:
    """The nodes' processes by name. Each can be stopped and started alone. settings: such as planner__threads="1"."""
    from emu_robot.deploy.graph import read_graph
    from emu_robot.deploy.processes import Processes
    from emu_robot.deploy.ros_environment import node_processes

    given = {key.replace("__", "."): value for key, value in settings.items()}
    made = read_graph(name, nodes=nodes, settings={"safety.estop_file": "", **given})
    wanted = {process.name: process for process in node_processes(made)}
    with ExitStack() as stack:
        yield {
            process: Restartable(lambda one=settings: Processes([one], say=lambda line: None), process, stack)
            for process, settings in wanted.items()
        }


class Restartable:
    """The process of one node."""

    def __init__(self, make: Any, name: str, stack: ExitStack) -> None:
        self._make, self._name, self._stack = make, name, stack
        self.start()

    def start(self) -> None:
        self.process: subprocess.Popen[str] = self._stack.enter_context(self._make())[self._name]

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def restart(self) -> None:
        self.process.wait()
        self.start()


def summary(values: Sequence[float], unit: float = 1000.0) -> dict[str, float]:
    """n, p50, p99 and largest value, by default in milliseconds."""
    found = unit * np.array(values)
    p50, p99 = np.percentile(found, [50, 99])
    return {
        "n": len(found),
        "p50": round(float(p50), 2),
        "p99": round(float(p99), 2),
        "max": round(float(found.max()), 2),
    }


# Latency: a stand-in for arm and cameras that records the times of its messages


def latency(wanted: argparse.Namespace) -> dict[str, Any]:
    sizes = {"128 px": (128, 128), "VGA": (480, 640)}
    return {
        f"{name}, gate at {hz:g} Hz": latency_at(hz, size, wanted.seconds)
        for name, size in sizes.items()
        for hz in (50.0, 250.0)
    }


def latency_at(control_hz: float, size: tuple[int, int], seconds: float) -> dict[str, Any]:
    """Times from the publication of the images of a chunk, without its inference."""
    from emu_robot_interfaces.action import RunPolicy
    from emu_robot_interfaces.msg import ActionChunk, PolicyStatus
    from rclpy.action import ActionClient
    from ros_robot import Peer
    from sensor_msgs.msg import Image
    from trajectory_msgs.msg import JointTrajectory

    from emu_robot.robots.deployment import read_deployment
    from emu_robot_ros import qos, topics
    from emu_robot_ros.conversions import from_image

    with graph("arm", "safety,policy", robot="panda_sim", safety__control_hz=f"{control_hz}"), first_served():
        peer = Peer()
        peer.alive = False
        robot, node = read_deployment("panda_sim"), peer.node
        cameras = [node.create_publisher(Image, topic, qos.CAMERA) for topic in robot.cameras.values()]
        noise = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i in range(8)]
        published: dict[tuple[int, int], float] = {}
        chunks: list[tuple[int, float, tuple[int, int], int]] = []
        commands: list[tuple[int, float]] = []
        inference: dict[int, float] = {}

        def look() -> None:
            message = from_image(noise[len(published) % 8], node.get_clock().now().to_msg())
            stamp = message.header.stamp
            published[stamp.sec, stamp.nanosec] = time.monotonic()
            for camera in cameras:
                camera.publish(message)

        def on_chunk(message: ActionChunk, info: Mapping[str, int]) -> None:
            stamp = message.header.stamp
            chunks.append((message.sequence, time.monotonic(), (stamp.sec, stamp.nanosec), info["source_timestamp"]))

        def on_command(message: JointTrajectory, info: Mapping[str, int]) -> None:
            commands.append((info["source_timestamp"], time.monotonic()))

        def on_status(message: PolicyStatus) -> None:
            inference.setdefault(message.chunks, message.inference)

        node.create_subscription(ActionChunk, topics.ACTION_CHUNK, on_chunk, qos.CHUNKS)
        node.create_subscription(JointTrajectory, robot.command_topic, on_command, qos.COMMANDS)
        node.create_subscription(PolicyStatus, topics.POLICY_STATUS, on_status, qos.STATUS)
        node.create_timer(1 / 30, look)
        until(lambda: peer.arm().success)
        action = ActionClient(node, RunPolicy, topics.RUN_POLICY)
        action.wait_for_server(60)
        goal = RunPolicy.Goal(instruction="open the drawer", time_limit=seconds)
        sent = node.executor.create_task(action.send_goal_async, goal)  # in the thread that receives the answer
        until(lambda: len(chunks) > 5)
        time.sleep(seconds)
        assert sent.result().result().accepted
        to_chunk, to_command = [], []
        for sequence, at, stamp, sent_at in chunks[5:]:
            after = [arrived for given, arrived in commands if given > sent_at]  # may arrive before the chunk
            nearest = min(list(published), key=lambda s: abs(s[0] - stamp[0] + 1e-9 * (s[1] - stamp[1])))
            if sequence in inference and len(after):
                past = published[nearest] + inference[sequence]
                to_chunk.append(at - past)
                to_command.append(after[0] - past)
        peer.close()
    return {
        "image to chunk": summary(to_chunk),
        "image to command": summary(to_command),
        "inference": summary(list(inference.values())),
    }


# Jitter


def jitter(wanted: argparse.Namespace) -> dict[str, Any]:
    """Excess of the periods of commands over 20 ms, at a receiver."""
    from trajectory_msgs.msg import JointTrajectory

    from emu_robot.robots.deployment import read_deployment
    from emu_robot_ros import qos
    from emu_robot_ros.client import GraphClient

    found: dict[str, Any] = {}
    with graph(), first_served(), GraphClient("benchmark") as client:
        client.wait_for_graph()
        arrivals: list[float] = []
        topic = read_deployment("panda_sim").command_topic
        client.node.create_subscription(
            JointTrajectory, topic, lambda message: arrivals.append(time.monotonic()), qos.COMMANDS
        )
        client.reset_episode(FIRST_SEED, "single", "seen")
        for name, busy in (("planning", False), ("planning, one core loaded", True)):
            load = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
            arrivals.clear()
            end = time.monotonic() + wanted.seconds
            plans = 0
            while time.monotonic() < end:  # a new task every 0.3 s keeps the planner planning
                client.set_task(("open the drawer", "close the drawer")[plans % 2])
                plans += 1
                time.sleep(0.3)
            if load is not None:
                load.kill()
                load.wait()
            periods = np.diff(arrivals)
            found[name] = {**summary(periods - 0.02), "plans": plans}
    return found


# Holding


def holds(wanted: argparse.Namespace) -> dict[str, Any]:
    """Times from the signal to the gate's message that it holds, as another process receives it."""
    from emu_robot_ros.client import GraphClient, GraphError

    n = wanted.n or 20
    found: dict[str, Any] = {}
    with graph() as nodes, GraphClient("benchmark") as client:
        client.wait_for_graph()
        for name in ("policy", "planner"):
            for number, times in ((signal.SIGSTOP, n), (signal.SIGKILL, max(n // 4, 3))):
                taken = []
                for i in range(times):
                    task = moving(client, FIRST_SEED + i)
                    at = time.monotonic()
                    nodes[name].send(number)
                    client.wait_until(lambda: client.gate is not None and client.gate.state != "tracking", "hold", 10)
                    taken.append(time.monotonic() - at)
                    print(name, number.name, f"{1000 * taken[-1]:.0f} ms", file=sys.stderr, flush=True)
                    nodes[name].restart() if number is signal.SIGKILL else nodes[name].send(signal.SIGCONT)
                    if not (name == "planner" and number is signal.SIGKILL):
                        with suppress(GraphError):  # it may have ended by itself
                            task.cancel()
                        task.result(30)
                found[f"{name} {number.name}"] = summary(taken)
    return found


def moving(client: Any, seed: int) -> Any:
    """A new episode in which the arm has moved for 0.3 s."""
    from emu_robot_ros.client import GraphError

    instruction = client.reset_episode(seed, "single", "seen")
    why = ""
    for _ in range(20):
        try:
            task = client.execute(instruction, TASK_S)
            client.wait_until(lambda one=task: one.done or client.gate.state == "tracking", "motion", 20)
            time.sleep(0.3)
            if client.gate.state == "tracking":
                return task
            why = task.result(TASK_S).message
        except GraphError as error:  # a killed node is still restarting
            why = str(error)
        time.sleep(0.5)
    raise RuntimeError(f"the arm does not move: {why}")


# Random messages


def random(wanted: argparse.Namespace) -> dict[str, Any]:
    """Right chunks turn the first joint, wrong ones the last. Every motion of the last joint is a violation."""
    from diagnostic_msgs.msg import DiagnosticArray
    from ros_robot import Peer

    n = wanted.n or 100_000
    rng = np.random.default_rng(0)
    judged: dict[str, int] = {}
    with graph("arm", "safety", robot="panda_sim", safety__max_rejections="1000"):
        peer = random_peer(Peer)
        peer.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda message: judged.update(counts(message)), 10
        )
        until(lambda: peer.arm().success)
        peer.send(0.1)
        until(lambda: peer.state == "tracking")  # from here on earlier chunks are repeated and reordered
        sent, resets, began = 0, 0, time.monotonic()
        while sum(judged.values()) < n:
            for _ in range(100):
                peer.send_random(rng)
                time.sleep(2e-4)
            sent += 100
            if peer.state in ("fault", "estop"):
                resets += 1
                peer.reset()
        seconds = time.monotonic() - began
        peer.close()
    violations = peer.violations()
    return {
        "sent": sent, "judged": sum(judged.values()), "by verdict": dict(sorted(judged.items())),
        "commands": len(peer.commands), "violations": violations, "resets": resets, "seconds": round(seconds, 1),
    }  # fmt: skip


def counts(message: Any) -> dict[str, int]:
    """Chunks by the gate's verdict."""
    values = {value.key: value.value for status in message.status for value in status.values}
    return {key: int(value) for key, value in values.items() if key.startswith("chunk ")}


def random_peer(kind: type[Any]) -> Any:
    """A peer that sends right and wrong chunks of all kinds."""
    from emu_robot_interfaces.msg import ActionChunk

    from emu_robot.robots.deployment import read_deployment
    from emu_robot_ros.conversions import from_actions

    robot = read_deployment("panda_sim")

    class RandomPeer(kind):
        def __init__(self) -> None:
            super().__init__()
            self.last = self.position[6]

        def send_random(self, rng: np.random.Generator) -> None:
            self.sequence += 1
            actions = np.repeat(self.position[None], 20, axis=0)
            message = ActionChunk(session=self.session, sequence=self.sequence, source="policy", dt=0.05)
            age, names = float(rng.uniform(0, 0.1)), list(robot.dimension_names)
            if rng.random() < 0.1:  # a right one
                actions[:, 0] += np.linspace(0, rng.uniform(-0.5, 0.5), 20)
                actions[:, 0] = actions[:, 0].clip(-1, 1)
            else:
                actions[:, 6] += np.linspace(0, 0.3, 20)
                match rng.integers(9):
                    case 0:
                        wrong = rng.choice([np.nan, np.inf, -np.inf, 1e300])
                        actions[rng.integers(20), rng.integers(7 if wrong == 1e300 else 8)] = wrong
                    case 1:
                        actions = actions[:, : rng.integers(1, 8)]
                    case 2:
                        actions[:, 6] += rng.choice([-1, 1]) * rng.uniform(0.5, 50)
                    case 3:
                        age = float(rng.uniform(0.6, 100))
                    case 4:
                        age = -float(rng.uniform(0.1, 100))
                    case 5:
                        message.sequence = int(rng.integers(2))  # what came first, and before it
                    case 6:
                        names[rng.integers(8)] = "elbow"
                    case 7:
                        message.dt = float(rng.choice([0.0, -1.0, 1e-9, 60.0, np.nan, np.inf]))
                    case _:
                        message.source = "teleop"  # with no deadman pressed
            now = self.node.get_clock().now().nanoseconds - int(1e9 * age)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
            message.names, message.actions = names, from_actions(actions)
            self._chunks.publish(message)

        def violations(self) -> int:
            """Number of commands that are not finite, out of limits, or move the last joint."""
            limits = robot.limits
            found = 0
            for (_, position), velocity in zip(self.commands, self.velocities, strict=True):
                finite = np.isfinite(position).all() and np.isfinite(velocity).all()
                inside = (position >= limits.lower[:7] - 1e-9).all() and (position <= limits.upper[:7] + 1e-9).all()
                slow = (np.abs(velocity) <= limits.velocity[:7] + 1e-9).all()
                found += not (finite and inside and slow and abs(position[6] - self.last) < 1e-6)
            return found

    return RandomPeer()


# Emergency stop


def estop(wanted: argparse.Namespace) -> dict[str, Any]:
    """Times from the call. Chunks continue to arrive and must have no effect."""
    from ros_robot import Peer

    taken, executed = [], 0
    with graph("arm", "safety", robot="panda_sim"):
        peer = Peer()
        for _ in range(wanted.n or 30):
            until(lambda: peer.arm().success)
            peer.send(0.3 if peer.position[0] < 0.5 else -0.3, n=40)
            until(lambda: peer.state == "tracking")
            time.sleep(0.2)
            at = time.monotonic()
            future = peer._estop.call_async(peer._estop.srv_type.Request())
            until(lambda: peer.state == "estop")
            taken.append(time.monotonic() - at)
            until(future.done)
            time.sleep(0.3)
            rest = peer.position.copy()
            for _ in range(20):
                peer.send(0.2)
                time.sleep(0.02)
            executed += bool(np.abs(peer.position - rest).max() > 1e-6)
            executed += peer.arm().success
            until(lambda: peer.reset().success)
        peer.close()
    return {"to hold": summary(taken), "executed before reset": executed}


# Success


def success(wanted: argparse.Namespace) -> dict[str, Any]:
    """Single tasks. A success must occur within the length of the suite's episodes, from the arm's first motion on."""
    from emu_robot.control.episode_loop import run_episode
    from emu_robot.evaluation.statistics import Proportion, barnard
    from emu_robot.policy.emu_policy import load_policy
    from emu_robot_ros.client import GraphClient
    from emu_sim.environment import TabletopEnvironment

    n, through = wanted.n or 30, []
    environment = TabletopEnvironment(["single"], "seen")
    limit_s = 9.0
    with graph(), GraphClient("benchmark") as client:
        client.wait_for_graph()
        for seed in range(FIRST_SEED, FIRST_SEED + n):
            through.append(graph_episode(client, seed, limit_s))
            print(seed, through[-1], file=sys.stderr, flush=True)
    policy, alone = load_policy("mini"), []
    for seed in range(FIRST_SEED, FIRST_SEED + n):
        policy.seed(seed)
        alone.append(run_episode(environment, policy, seed).success)
    environment.close()
    a, b = Proportion(sum(through), n), Proportion(sum(alone), n)
    agree = sum(x == y for x, y in zip(through, alone, strict=True))
    p = round(barnard(a, b), 3)
    return {"through the graph": str(a), "in one process": str(b), "p": p, "same outcome": agree, "n": n}


def graph_episode(client: Any, seed: int, limit_s: float) -> bool:
    """Whether the task's predicate held within `limit_s` of simulated time from the first motion."""
    instruction = client.reset_episode(seed, "single", "seen")
    task = client.execute(instruction, TASK_S)
    client.wait_until(lambda: task.done or client.gate.state == "tracking", "motion")
    began = time.monotonic()
    while not task.done and time.monotonic() - began < limit_s and not client.episode.success:
        time.sleep(0.005)
    held = bool(client.episode.success and client.episode.seed == seed)
    if not task.done:
        task.cancel()
    task.result(20)
    return held


# Helpers


@contextmanager
def first_served() -> Iterator[None]:
    """Give threads started within a higher priority, if permitted, so that the measurement adds little delay."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the graph does not answer")
        time.sleep(0.001)


def table() -> str:
    """The kept results as Markdown."""
    lines = ["| what | n | p50 [ms] | p99 [ms] | max [ms] |", "|---|---|---|---|---|"]
    rest = []
    for name in MEASURES:
        path = OUT / f"{name}.json"
        found: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        for row, values in _rows(name, found):
            if isinstance(values, Mapping) and "p50" in values:
                lines.append(f"| {row} | {values['n']} | {values['p50']} | {values['p99']} | {values['max']} |")
            else:
                rest.append(f"- {row}: {json.dumps(values)}")
    return "\n".join([*lines, "", *rest])


def _rows(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and "p50" not in value and "chunk taken" not in value:
            yield from _rows(f"{name}, {key}", value)
        else:
            yield f"{name}, {key}", value


MEASURES = {
    "latency": latency,
    "jitter": jitter,
    "holds": holds,
    "random": random,
    "estop": estop,
    "success": success,
}

if __name__ == "__main__":
    main()
