"""`emu-robot watch [policy=mini] [tasks=...]`, `emu-robot watch graph=sim`: a page that shows a policy think.

The first plays simulated episodes, the second listens to a running ROS 2 graph. The page commands nothing.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from emu_robot import environments
from emu_robot.cli.options import configure
from emu_robot.control.episode_loop import Subscriber, run_episode
from emu_robot.core import Foresees, Policy, Seeded
from emu_robot.deploy.graph_file import graph_path, read_graph_file
from emu_robot.deploy.ros_environment import find_interpreter, node_environment
from emu_robot.errors import ConfigError, UnknownNameError
from emu_robot.robots.deployment import find_deployment, parse_deployment, read_deployment
from emu_robot.robots.file import read_text
from emu_robot.robots.ros_names import read_namespace
from emu_robot.shared.settings import check_ranges, number

if TYPE_CHECKING:  # they load while the verb runs
    from emu_robot.evaluation.config import EvalConfig
    from emu_robot.watch.board import Board
    from emu_robot.watch.simulation import TimedPolicy
    from emu_robot.watch.watched_world import WatchedWorld

LOOKED_AT_S = 2.0
"""How long the end of an episode stays on the page [s], in real time."""
PICTURES_HZ = 10
"""Pictures per simulated second [Hz]."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Watch a policy think: subtasks done and to come, pictures before, predicted and achieved, progress, actions, the
    safety gate, delays. The page commands nothing.

    Without graph= it plays simulated episodes, through the safety gate. Ctrl-C ends it.
    """

    policy: str = "mini"
    """A released name or a weights folder."""
    env: str = "tabletop"
    """An environment that an installed package registers."""
    tasks: tuple[str, ...] = ()
    """Tasks or groups of the environment, or "all"; empty: the environment's default."""
    split: str = "seen"
    """One of the environment's splits."""
    seed: int = number(0, 0)
    """Chooses the scenes, and the policy's random numbers."""
    n: int = number(0, 0, 100_000)
    """Number of episodes; 0: until Ctrl-C."""
    speed: float = number(1.0, 0.0, 100.0)
    """Simulated seconds per second; 0: as fast as it can."""
    foresee: bool = True
    """Ask the planner at every subtask for those after it, too, as far as it looks ahead."""
    record: Path | None = None
    """Folder for recordings as those of the ROS 2 recorder, one of each episode; null: none."""
    robot: str = "panda_sim"
    """Robot file: limits of the gate, topics of the graph. Empty: the simulation has no gate."""
    graph: str = ""
    """Running ROS 2 graph to listen to in place of playing, as `emu-robot bringup` names it: sim, arm."""
    namespace: str = ""
    """Namespace of the graph, such as left."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other one lets other machines see the cameras, and needs `token`."""
    port: int = number(8092, 0, 65535)
    """Port of the page; 0 takes any free one."""
    token: str = ""
    """Word of at least 12 characters that the page's address must carry; "new" makes one."""

    def __post_init__(self) -> None:
        check_ranges(self)
        read_namespace(self.namespace)
        if self.robot:
            read_deployment(self.robot)
        elif self.graph or self.record is not None:
            raise ConfigError(f"robot is empty, {'graph=' if self.graph else 'record='} needs one, such as panda_sim")
        if not self.graph:
            environments.check_name(self.env)
        elif self.graph not in (known := read_graph_file(graph_path()).graphs):
            raise UnknownNameError("graph", self.graph, known)
        if self.policy == "expert":
            raise ConfigError("policy=expert plans nothing that could be watched; policy=mini does")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        played = ("policy", "env", "tasks", "split", "seed", "n", "speed", "foresee", "record")
        if self.graph:
            return dict.fromkeys(played, f"graph={self.graph} runs already, with its own")
        return {"namespace": "it is that of graph=, which is not given"}


def run(arguments: Sequence[str]) -> int:
    """Serve the page until a signal, or the last episode."""
    config: WatchConfig | None = configure("watch", arguments)
    if config is None:
        return 0
    if config.graph:
        return _listen(config)
    play(config)
    return 0


def _listen(config: WatchConfig) -> int:
    """Watch the graph, in the Python that has ROS."""
    described = read_graph_file(graph_path())
    python, graph = find_interpreter(), described.graphs[config.graph]
    namespace = config.namespace or graph.namespace
    command = [str(python), "-m", "emu_robot_ros.watch", f"--robot={config.robot}", f"--namespace={namespace}"]
    command += [f"--host={config.host}", f"--port={config.port}", f"--token={config.token}"]
    environment = os.environ | node_environment(described.environment, graph.environment)
    return subprocess.run(command, env=environment, check=False).returncode


def play(config: WatchConfig, on_url: Callable[[str], None] | None = None) -> tuple[int, int]:
    """Play the episodes with the page open. on_url: is told the page's address. Returns successes and episodes."""
    from emu_robot.evaluation.config import EvalConfig
    from emu_robot.evaluation.fit import check_fit
    from emu_robot.evaluation.worker import SETTLE_STEPS
    from emu_robot.evaluation.worlds import Worlds
    from emu_robot.watch.board import Board
    from emu_robot.watch.simulation import TimedPolicy, Watcher
    from emu_robot.watch.thought import Gate
    from emu_robot.watch.watched_world import WatchedWorld, require_gate

    scenes = EvalConfig(
        policy=config.policy, env=config.env, tasks=list(config.tasks), split=config.split, seed=config.seed
    )
    check_fit(scenes)
    tasks, spec = scenes.selected(), scenes.suite().spec
    robot = read_deployment(config.robot) if config.robot else None
    if robot is not None:
        require_gate(robot, spec)
    print(f"loading the policy {config.policy}", flush=True)
    policy = load_watched_policy(scenes)
    foresees = policy if config.foresee and isinstance(policy, Foresees) else None
    pace = f"{config.speed:g} times real time" if config.speed else "as fast as it can"
    board = Board(
        f"{config.policy} in {config.env}, {pace}", planner_camera=spec.planner_camera, foresees=foresees is not None
    )
    if robot is None:
        board.gate(Gate(state="", reason="the simulation has none; robot=panda_sim gives it one"), 0.0)
    every = max(1, round(spec.control_hz / PICTURES_HZ)) if config.speed or config.record else 0
    with _page(board, config, on_url), closing(Worlds(scenes.suite(), config.split)) as worlds:
        for index in range(config.n) if config.n else count():
            timed = TimedPolicy(policy)
            watcher = Watcher(board, spec, timed, foresees, config.speed)
            opened = worlds.of(tasks[index % len(tasks)].name)
            world = WatchedWorld(opened, robot, every=every, on_gate=watcher.on_gate)
            seed = scenes.episode_seed(index)
            if isinstance(policy, Seeded):
                policy.seed(seed)
            with _recording(config, world, timed) as recorders:
                result = run_episode(
                    world,
                    timed,
                    seed,
                    [world, *recorders, watcher],
                    n_action_steps=getattr(policy, "n_action_steps", None),
                    settle_steps=SETTLE_STEPS,
                )
            print(f"{'success' if result.success else result.ending.value}: {result.instruction}", flush=True)
            if config.speed:
                time.sleep(LOOKED_AT_S)
    return board.view.played


def load_watched_policy(scenes: "EvalConfig") -> Policy:
    """The policy of an evaluation. Our own gives whole chunks, so that the page shows what is not executed, too."""
    from emu_robot.evaluation.worker import load_policy, policy_config

    if not scenes.is_ours:
        return load_policy(scenes, lambda: None)
    from emu_robot.policy import emu_policy

    config = replace(policy_config(scenes), whole_chunks=True)
    return emu_policy.load_policy(scenes.policy, seed=scenes.seed, config=config)


@contextmanager
def _page(board: "Board", config: WatchConfig, on_url: Callable[[str], None] | None) -> Iterator[None]:
    """The page of a board while the block runs."""
    from emu_robot.watch.page import served

    with served(board, host=config.host, port=config.port, token=config.token) as url:
        print(f"open {url}", flush=True)
        if on_url is not None:
            on_url(url)
        yield


@contextmanager
def _recording(config: WatchConfig, world: "WatchedWorld", policy: "TimedPolicy") -> Iterator[list[Subscriber]]:
    """What records an episode, closed at the end also if it is interrupted; nothing unless it is asked for."""
    if config.record is None:
        yield []
        return
    from emu_robot.watch.recording import EpisodeRecording

    path = find_deployment(config.robot)
    text = read_text(path)
    recording = EpisodeRecording(config.record, text, parse_deployment(text, path), world, policy, config.policy)
    with closing(recording):
        yield [recording]
    print(f"recorded {recording.path}", flush=True)
