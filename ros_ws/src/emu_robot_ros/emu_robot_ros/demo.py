"""One task through the whole graph: simulated arm, planner, policy, gate, recorder, each a process of its own.

python -m emu_robot_ros.demo [--families sequence] [--split seen] [--seed 0] [--namespace left] [--out outputs/ros_demo]

Prints every subgoal as it comes, the result, timings, and the paths of recording and video.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from emu_robot.deploy.graph import read_graph
from emu_robot.deploy.processes import Processes
from emu_robot.deploy.ros_environment import node_environment, node_processes
from emu_robot.errors import EmuRobotError
from emu_robot_ros.client import GraphClient, TaskHandle
from emu_robot_ros.recording_review import timings, write_video

TIME_LIMIT_S = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--families", default="sequence", help="families of tasks, or groups of families, separated by commas"
    )
    parser.add_argument("--split", default="seen", help="seen or heldout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--namespace", default="", help="namespace of all nodes")
    parser.add_argument("--out", type=Path, default=Path("outputs/ros_demo"))
    wanted = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    try:
        run(wanted.families, wanted.split, wanted.seed, wanted.out, wanted.namespace)
    except EmuRobotError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(families: str, split: str, seed: int, out: Path, namespace: str = "") -> None:
    """Start the graph, execute one task, end the graph. Raises `EmuRobotError`."""
    out.mkdir(parents=True, exist_ok=True)
    settings = {"safety.estop_file": "", "recorder.folder": str(out.resolve()), "recorder.min_free_gb": "0.5"}
    graph = read_graph("sim", nodes="+recorder", namespace=namespace, settings=settings)
    os.environ.update(node_environment(graph.usual_environment, graph.environment))  # for this process, too
    nodes = node_processes(graph)
    log = (out / "nodes.log").open("w")
    processes = Processes(nodes, say=lambda line: print(line, file=log, flush=True))
    with log, processes, GraphClient("demo", graph.namespace) as client:
        print(f"starting {', '.join(node.name for node in nodes)}; their log: {log.name}", flush=True)
        client.wait_for_graph()
        instruction = client.reset_episode(seed, families, split)
        print(f'task: "{instruction}"', flush=True)
        with client.recording(instruction) as recorded:
            task = client.execute(instruction, TIME_LIMIT_S)
            follow(client, task)
            result = task.result(20)
            time.sleep(0.5)  # the simulation publishes its state once more, for the recording
        assert client.episode is not None
        outcome = "success" if client.episode.success else "failure"
        says = "complete" if result.success else result.message
        print(f"{outcome} by the simulation; the planner says: {says}, after {result.duration:.1f} s", flush=True)
    review(Path(recorded[0].path), instruction, out)


def follow(client: GraphClient, task: TaskHandle) -> None:
    """Print every subgoal until the task is over."""
    told = 0
    while not task.done or told < len(client.feedback):
        for seconds, feedback in client.feedback[told:]:
            if len(feedback.image.data):
                print(f"  {seconds:5.1f} s  {feedback.n_subtasks}. {feedback.subtask}", flush=True)
            told += 1
        time.sleep(0.05)


def review(recording: Path, instruction: str, out: Path) -> None:
    """Print timings of a recording, and write its video."""
    (mcap,) = recording.glob("*.mcap")
    for timing in timings(mcap):
        print(f"  {timing}")
    frames = write_video(mcap, out / "video.mp4", instruction)
    print(f"recording: {mcap}\nvideo:     {out / 'video.mp4'} ({frames} frames)")


if __name__ == "__main__":
    sys.exit(main())
