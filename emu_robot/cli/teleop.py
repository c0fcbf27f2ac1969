"""`emu-robot teleop [out=...]`: drive an arm from a page, a phone, a gamepad or the terminal, and record episodes.

With `policy=` a policy drives in turn with the operator, who corrects it.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from emu_robot import environments
from emu_robot.cli.options import configure
from emu_robot.control.policy_process import DrivingPolicy, PolicyProcess
from emu_robot.environments.capabilities import HasArm, require
from emu_robot.errors import InvalidValueError
from emu_robot.recording.messages import RecordedRobot
from emu_robot.recording.session import SessionRecorder
from emu_robot.robots.arm import Arm
from emu_robot.shared.settings import check_ranges, number
from emu_robot.teleop.desk import Desk
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import ThinkingThread
from emu_robot.teleop.view import View

SAY_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True)
class TeleopVerbConfig:
    """Drive a simulated arm from a page, a phone, a gamepad or this terminal, and record what you do.

    The episodes become a LeRobotDataset, which `lerobot-train` and `emu-robot finetune` read as it is. It moves only
    while you hold the handle, Space, or a field of the pad. With policy=mini a policy drives from P on; you take over
    and correct it. Ctrl-C ends the session.
    """

    env: str = "tabletop"
    """Environment with the arm."""
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
    faces_arm: bool = True
    """Whether you look at the arm from its front, as the front camera does, or else from behind it."""
    session: SessionConfig = field(default_factory=SessionConfig)
    """The control loop and its limits."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.image_size % 2:
            raise InvalidValueError(f"image_size is {self.image_size}, must be even for the videos")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {} if self.policy else {"session.autonomy": "no policy= drives"}


def run(arguments: Sequence[str]) -> None:
    """Serve the pages until a signal or the end of the control loop."""
    config: TeleopVerbConfig | None = configure("teleop", arguments)
    if config is None:
        return
    with serving(config) as (loop, url):
        print(f"open {url}", flush=True)
        if config.host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"everyone who can reach {config.host} and has this address sees the cameras and can drive the arm; "
                "it travels unencrypted: use it in a network of your own, or behind a proxy with TLS",
                flush=True,
            )
        said = ""
        while loop.is_running:
            time.sleep(SAY_EVERY_S)
            said = _say_news(loop.view, said)
        if loop.error is not None:
            raise loop.error


@contextmanager
def serving(config: TeleopVerbConfig) -> Iterator[tuple[Loop, str]]:
    """A running session with its pages, and their address. At the end every episode that was ended is kept."""
    from emu_robot.teleop.terminal import HELP, Terminal
    from emu_robot.teleop.web.door import new_token
    from emu_robot.teleop.web.server import Pages

    token = new_token() if config.token == "new" else config.token
    with ExitStack() as stack:
        policy = stack.enter_context(_thinking(config.policy)) if config.policy else None
        world = environments.make(config.env, tasks=config.tasks, split=config.split)
        arm = require(world, HasArm, "teleoperation").arm(config.image_size)
        stack.callback(arm.close)
        recorder = _recorder(config, arm)
        if recorder is not None:
            stack.callback(recorder.close)
        desk = Desk()
        session = Session(arm, desk, config.session, recorder=recorder, policy=policy, seed=config.seed)
        session.lay_scene(config.seed, time.monotonic())
        loop = Loop(session, config.session.rate_hz)
        pages = Pages(desk, loop, host=config.host, port=config.port, token=token, faces_arm=config.faces_arm)
        loop.start()
        stack.callback(loop.stop)
        pages.start()
        stack.callback(pages.stop)
        if sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno()):
            stack.callback(Terminal(desk, faces_arm=config.faces_arm, say=print).close)
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


def _recorder(config: TeleopVerbConfig, arm: Arm) -> SessionRecorder | None:
    if config.out is None:
        return None
    robot = RecordedRobot(
        layout=arm.layout,
        fps=config.session.rate_hz,
        cameras=dict.fromkeys(arm.cameras, (config.image_size, config.image_size)),
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
