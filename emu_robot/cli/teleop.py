"""`emu-robot teleop [out=...]`: drive an arm from a page, a phone, a gamepad or the terminal, and record episodes.

With `policy=` a policy drives in turn with the operator, who corrects it.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from emu_robot import environments
from emu_robot.cli.options import configure
from emu_robot.cli.teleop_devices import ROS, Settings, continue_with_ros, open_device, open_real_arm, split_settings
from emu_robot.control.policy_process import DrivingPolicy, PolicyProcess
from emu_robot.environments.capabilities import HasArm, require
from emu_robot.errors import ConfigError, InvalidValueError
from emu_robot.recording.messages import RecordedRobot
from emu_robot.recording.session import SessionRecorder
from emu_robot.robots.arm import Arm, LaysScenes
from emu_robot.robots.deployment import read_deployment
from emu_robot.shared.settings import check_ranges, number
from emu_robot.teleop.desk import Desk, Order, OrderKind
from emu_robot.teleop.leader_hand import Device, Leader
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import ThinkingThread
from emu_robot.teleop.view import View

SAY_EVERY_S = 0.2
UNENCRYPTED = (
    "; it travels unencrypted: use it in a network of your own, behind a proxy with TLS, or with certificate= and key="
)
BRAKING_S = 0.5
"""Time in which an arm that is not simulated comes to rest at the end [s]."""
SIMULATED = ("env", "tasks", "split", "seed", "image_size")
"""Settings of a simulated arm."""


@dataclass(frozen=True, kw_only=True)
class TeleopVerbConfig:
    """Drive an arm from a page, a phone, a gamepad, a leader arm or this terminal, and record what you do.

    The episodes become a LeRobotDataset, which `lerobot-train` and `emu-robot finetune` read as it is. It moves only
    while you hold the handle, Space, or a field of the pad. With policy=mini a policy drives from P on; you take over
    and correct it. Ctrl-C ends the session.
    """

    arm: str = ""
    """Arm to drive: `lerobot:TYPE` for one of LeRobot's, with its settings as `arm.port=...`; `ros:ROBOT` for that of a
    running ROS 2 graph, by its robot file; empty: the simulated one of `env`."""
    leader: str = ""
    """Device beside the pages: `lerobot:TYPE` for a teleoperator of LeRobot's, with its settings as `leader.port=...`,
    or `spacemouse`; empty: none."""
    task: str = ""
    """Words of the task at the start, for an arm that is not simulated."""
    env: str = "tabletop"
    """Environment with the simulated arm."""
    tasks: tuple[str, ...] = ()
    """Tasks, or groups of them, for the scenes; none means the environment's default."""
    split: str = "seen"
    """One of the environment's splits."""
    seed: int = number(0, 0)
    """Seed of the first scene; every kept episode takes the next one."""
    policy: str = ""
    """Released name or weights folder of a policy that drives in turn with you; empty: you alone drive."""
    out: Path | None = Path("outputs/teleop")
    """Folder of the session's dataset; a session that is there is continued. null: nothing is recorded."""
    operator: str = ""
    """Your name, for the record of each episode."""
    image_size: int = number(128, 32, 640)
    """Height and width of the cameras' pictures [px]."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other one lets other machines see the cameras and drive the arm, and needs `token`."""
    port: int = number(8090, 0, 65535)
    """Port of the pages; 0 takes any free one."""
    token: str = ""
    """Word of at least 12 characters that the pages' address must carry; "new" makes one."""
    certificate: Path | None = None
    """PEM file of a certificate: the pages then come by https, which a phone's tilt and headsets need; with `key`."""
    key: Path | None = None
    """PEM file of its private key."""
    faces_arm: bool = True
    """Whether you look at the arm from its front, as the front camera does, or else from behind it."""
    session: SessionConfig = field(default_factory=SessionConfig)
    """The control loop and its limits."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.image_size % 2:
            raise InvalidValueError(f"image_size is {self.image_size}, must be even for the videos")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("certificate= and key= belong together; one of them is given")
        if self.is_behind_ros:
            read_deployment(self.arm.partition(":")[2])
            if self.policy:
                raise ConfigError(f"policy={self.policy} with arm={self.arm}: the graph has a policy node of its own")

    @property
    def is_behind_ros(self) -> bool:
        """Whether the arm is that of a ROS 2 graph."""
        return self.arm.startswith(f"{ROS}:")

    def without_effect(self) -> dict[str, str]:
        """Keys that policy and arm leave without effect."""
        idle = {} if self.policy else {"session.autonomy": "no policy= drives"}
        if not self.arm:
            return idle | {"task": "the simulated scenes have tasks of their own"}
        return idle | dict.fromkeys(SIMULATED, f"the arm is {self.arm}, which is not simulated")


def run(arguments: Sequence[str]) -> None:
    """Serve the pages until a signal or the end of the control loop."""
    rest, settings = split_settings(arguments)
    config: TeleopVerbConfig | None = configure("teleop", rest)
    if config is None:
        return
    if config.is_behind_ros:
        continue_with_ros("teleop", arguments)
    with serving(config, settings) as (loop, url):
        print(f"open {url}", flush=True)
        if config.host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"everyone who can reach {config.host} and has this address sees the cameras and can drive the arm"
                + ("" if config.certificate else UNENCRYPTED),
                flush=True,
            )
        said = ""
        while loop.is_running:
            time.sleep(SAY_EVERY_S)
            said = _say_news(loop.view, said)
        if loop.error is not None:
            raise loop.error


@contextmanager
def serving(config: TeleopVerbConfig, settings: Mapping[str, Settings] | None = None) -> Iterator[tuple[Loop, str]]:
    """A running session with its pages, and their address. At the end every episode that was ended is kept.

    settings: those of `arm` and `leader`, by dotted key.
    """
    from emu_robot.teleop.terminal import HELP, Terminal
    from emu_robot.teleop.web.door import new_token
    from emu_robot.teleop.web.server import Pages
    from emu_robot.teleop.web.tls import Tls

    tls = Tls(certificate=config.certificate, key=config.key) if config.certificate and config.key else None
    token = new_token() if config.token == "new" else config.token
    with ExitStack() as stack:
        policy = stack.enter_context(_thinking(config.policy)) if config.policy else None
        settings, desk = settings or {}, Desk()
        arm = _open_arm(config, settings)
        stack.callback(arm.close)
        device = _open_device(config, settings, desk, arm)
        if device is not None:
            stack.callback(device.close)
        recorder = _recorder(config, arm)
        if recorder is not None:
            stack.callback(recorder.close)
        session = Session(arm, desk, config.session, recorder=recorder, device=device, policy=policy, seed=config.seed)
        if isinstance(arm, LaysScenes):
            session.lay_scene(config.seed, time.monotonic())
        else:
            session.episodes.lay(config.task, ())
        loop = Loop(session, config.session.rate_hz)
        host, port, faces_arm = config.host, config.port, config.faces_arm
        pages = Pages(desk, loop, host=host, port=port, token=token, faces_arm=faces_arm, tls=tls)
        loop.start()
        stack.callback(loop.stop)
        if not arm.is_simulated:
            stack.callback(_come_to_rest, desk)
        pages.start()
        stack.callback(pages.stop)
        if sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno()):
            joints = 0 if isinstance(device, Leader) or arm.kinematics is not None else len(arm.home)
            stack.callback(Terminal(desk, faces_arm=config.faces_arm, say=print, joints=joints).close)
            print(HELP)
        yield loop, pages.url


@contextmanager
def _thinking(weights: str) -> Iterator[ThinkingThread]:
    """The policy of these weights, which computes in another process until the end."""
    print(f"loading the policy {weights}", flush=True)
    with closing(PolicyProcess(partial(load_driving_policy, weights))) as policy:
        yield ThinkingThread(policy)


def load_driving_policy(weights: str) -> DrivingPolicy:
    """The policy of released weights or a weights folder. Its chunks are whole, so that they outlast the computing of
    the next one. Loads torch."""
    from emu_robot.policy.config import PolicyConfig
    from emu_robot.policy.emu_policy import load_policy

    policy = load_policy(weights, config=PolicyConfig(whole_chunks=True))
    policy.warm_up()
    return policy


def _open_arm(config: TeleopVerbConfig, settings: Mapping[str, Settings]) -> Arm:
    given = settings.get("arm", {})
    if config.arm:
        return open_real_arm(config.arm, given)
    if given:
        raise ConfigError(f"arm.{next(iter(given))} is given without arm=, for instance arm=lerobot:so101_follower")
    world = environments.make(config.env, tasks=config.tasks, split=config.split)
    return require(world, HasArm, "teleoperation").arm(config.image_size)


def _open_device(config: TeleopVerbConfig, settings: Mapping[str, Settings], desk: Desk, arm: Arm) -> Device | None:
    given = settings.get("leader", {})
    if config.leader:
        port = given.get("port")
        if port is not None and port == settings.get("arm", {}).get("port"):
            raise ConfigError(f"arm.port and leader.port are both {port}; each needs its own")
        return open_device(config.leader, given, desk, arm, config.session, faces_arm=config.faces_arm)
    if given:
        raise ConfigError(f"leader.{next(iter(given))} is given without leader=, such as leader=lerobot:so101_leader")
    return None


def _come_to_rest(desk: Desk) -> None:
    """Let the gate brake before the arm is let go."""
    desk.order("the end of the session", Order(kind=OrderKind.STOP), time.monotonic())
    time.sleep(BRAKING_S)


def _recorder(config: TeleopVerbConfig, arm: Arm) -> SessionRecorder | None:
    if config.out is None:
        return None
    robot = RecordedRobot(
        layout=arm.layout,
        fps=config.session.rate_hz,
        cameras=arm.cameras,
        robot_type=arm.name,
    )
    print(f"recording into {config.out}", flush=True)
    return SessionRecorder(config.out, robot, operator=config.operator, weights=config.policy)


def _say_news(view: View | None, said: str) -> str:
    """Print what is worth telling if it is new. Returns it."""
    if view is None:
        return said
    news = f"{view.said} ({view.committed} episodes kept)" if view.said else ""
    if news and news != said:
        print(news, flush=True)
    return news
