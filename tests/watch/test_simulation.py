"""What the board is told of simulated episodes: by a scripted policy, and by the released weights."""

import asyncio
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets
from obedient_world import HOME, ObedientWorld, ScriptedPolicy, towards

from emu_robot.cli.watch import WatchConfig, play
from emu_robot.control.episode_loop import run_episode
from emu_robot.core import ActionChunk, PlanStep, PolicyEvent
from emu_robot.data.from_mcap import FromMcapConfig, from_mcap
from emu_robot.data.mcap_reading import McapFile
from emu_robot.data.mcap_recording import read_recorded
from emu_robot.errors import EmuRobotError
from emu_robot.observation.camera_messages import decode_picture
from emu_robot.robots.deployment import read_deployment
from emu_robot.watch.board import Board
from emu_robot.watch.simulation import TimedPolicy, Watcher
from emu_robot.watch.thought import Ending, Mind, Thought
from emu_robot.watch.watched_world import WatchedWorld

RED, BLUE = (np.full((128, 128, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
FIRST, SECOND = PlanStep(subtask="lift it", subgoal=RED), PlanStep(subtask="drop it", subgoal=BLUE)
P = PolicyEvent
SCRIPT = [
    ActionChunk(actions=towards(0.3), step=FIRST, progress=0.1, events=(P.PLANNED,)),
    ActionChunk(actions=towards(0.3), step=SECOND, progress=0.0, events=(P.REACHED, P.SWITCHED, P.PLANNED)),
    ActionChunk(actions=np.repeat(HOME[None], 16, axis=0), events=(P.TIMEOUT, P.COMPLETE)),
]


def watched(script: list[ActionChunk], *, speed: float = 0.0, foresees: bool = True) -> tuple[Board, list[Thought]]:
    """The board after an episode, and its views after every change."""
    board, world, seen = Board("a script", planner_camera="front", foresees=foresees), ObedientWorld(), []
    board.watch(lambda: seen.append(board.view))
    policy = ScriptedPolicy(script, [PlanStep(subtask="and more")])
    timed = TimedPolicy(policy)
    watcher = Watcher(board, world.spec, timed, policy if foresees else None, speed)
    gated = WatchedWorld(world, read_deployment("panda_sim"), every=2, on_gate=watcher.on_gate)
    run_episode(gated, timed, 0, [gated, watcher], n_action_steps=8)
    return board, seen


def test_a_plan_is_told_as_the_policy_decides_it() -> None:
    board, seen = watched(SCRIPT)
    view = board.view
    assert view.task == "wait for a while" and view.played == (1, 1) and view.done == (2, 2)
    assert [(step.words, step.ending) for step in view.steps] == [
        ("lift it", Ending.REACHED),
        ("drop it", Ending.OVERDUE),
    ]
    first, second = view.steps
    assert first.lasts_s == pytest.approx(0.4) and first.progress == (0.1,)
    assert first.predicted is RED and second.predicted is BLUE
    assert first.before is not None and first.before[0, 0, 0] == 0
    assert first.achieved is not None and first.achieved[0, 0, 0] == second.before[0, 0, 0] == 8  # type: ignore[index]
    assert any([step.subtask for step in one.to_come] == ["and more"] for one in seen)
    assert any(one.mind is Mind.COMPLETE for one in seen) and view.mind is Mind.IDLE
    lines = [words for _, words in view.lines]
    assert lines[0] == "task: wait for a while" and lines[-1] == "success, by the simulation"
    assert "counts as reached" in lines and "overdue: drop it" in lines


def test_chunks_states_gate_and_delays_are_told() -> None:
    board, seen = watched(SCRIPT)
    executed = [one.chunk.executed for one in seen if one.chunk is not None]
    assert set(range(9)) <= set(executed)
    assert {delay.name: delay.n for delay in board.view.delays} == {"plan and chunk": 3}
    assert board.view.gate.state == "tracking" and board.view.gate.counts == {"chunk taken": 3}
    turned = [one.position[0] for one in seen if one.position is not None]
    assert max(turned) > HOME[0] + 0.1


def test_without_foresight_nothing_is_to_come() -> None:
    _, seen = watched(SCRIPT, foresees=False)
    assert all(one.to_come == () and not one.foresees for one in seen)


def test_it_goes_at_the_speed_that_is_asked_for() -> None:
    begun = time.monotonic()
    watched(SCRIPT, speed=2.0)
    assert time.monotonic() - begun >= 24 / 20 / 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"policy": "expert"}, "policy=expert plans nothing"),
        ({"robot": "", "graph": "arm"}, "robot is empty, graph= needs one"),
        ({"graph": "sym"}, "unknown graph 'sym'; known: sim, arm"),
        ({"robot": "", "record": Path("x")}, "robot is empty, record= needs one"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EmuRobotError, match=said):
        WatchConfig(**given)


class Listener:
    """A page without a browser: keeps the thoughts that it was sent, and counts pictures by slot."""

    def __init__(self) -> None:
        self.thoughts: list[dict[str, Any]] = []
        self.slots: set[int] = set()

    def open(self, url: str) -> None:
        threading.Thread(target=lambda: asyncio.run(self._listen(url)), daemon=True).start()

    async def _listen(self, url: str) -> None:
        address = url.rstrip("/").replace("http", "ws") + "/ws"
        async with websockets.connect(address, origin=websockets.Origin(url.rstrip("/")), max_size=None) as page:
            with suppress(websockets.ConnectionClosed):  # the last episode is over
                async for message in page:
                    if isinstance(message, str):
                        self.thoughts.append(json.loads(message))
                    else:
                        self.slots.add(message[0])


def test_the_released_policy_is_watched_and_recorded(tmp_path: Path) -> None:
    listener, folder = Listener(), tmp_path / "recordings"
    config = WatchConfig(tasks=("close_drawer",), n=1, speed=0.0, port=0, record=folder)
    successes, episodes = play(config, listener.open)
    assert (successes, episodes) == (1, 1)

    words = {step["words"] for thought in listener.thoughts for step in thought["steps"]}
    assert "close the drawer" in words
    assert {thought["gate"]["state"] for thought in listener.thoughts} >= {"tracking"}
    assert any(thought["chunk"] and len(thought["chunk"]["actions"]) == 16 for thought in listener.thoughts)
    assert any(step["progress"] and step["progress"][-1] > 0.5 for one in listener.thoughts for step in one["steps"])
    assert {0, 1, 16, 17, 18} <= listener.slots

    (recording,) = folder.iterdir()
    (mcap,) = recording.glob("*.mcap")
    recorded = read_recorded(mcap)
    assert recorded.success and recorded.is_whole and recorded.intended[0].words == "close the drawer"
    file = McapFile(mcap)
    by_topic: dict[str, list[Any]] = {}
    for message in file.messages():
        by_topic.setdefault(message.topic, []).append(file.decode(message))
    assert {"/subgoal", "/subgoal_image", "/policy_status", "/safety_state", "/action_chunk"} <= by_topic.keys()
    subgoal, alone = by_topic["/subgoal"][0].image, by_topic["/subgoal_image"][0]
    np.testing.assert_array_equal(decode_picture(subgoal), decode_picture(alone))
    assert max(status.progress for status in by_topic["/policy_status"]) > 0.5
    assert by_topic["/safety_state"][0].state == "tracking"
    converted = from_mcap(FromMcapConfig(recording=[recording], out=tmp_path / "set"))
    assert json.loads((converted / "meta/info.json").read_text())["total_episodes"] == 1
