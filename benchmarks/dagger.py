"""A round of DAgger in simulation: a policy drives, a scripted expert corrects it, fine-tuning on that, success again.

    python benchmarks/dagger.py --task stack --episodes 40 --n 100 -- head.loop.steps=800 planner.loop.steps=400

1. `emu-robot eval` of the weights on development seeds.
2. The policy drives the arm of a teleop session. When it pursues the wrong subtask, or none is done for `--patience`
   ticks, the expert does what an operator would: it says the true subtask, begins a correction, drives by the hand of
   the session until the subtask is done, and hands back. Everything passes the safety gate and is recorded. Scenes
   have training seeds; the clock is simulated, so that nothing depends on the speed of the machine.
3. `emu-robot finetune` on the recorded set. Words after `--` are its settings.
4. `emu-robot eval` of the new weights on the same seeds.

Finished steps are kept in `--out` and are not repeated. Prints and writes `dagger.json`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emu_robot import environments
from emu_robot.cli.teleop import load_driving_policy
from emu_robot.environments.capabilities import HasArm, HasExpert, due_subtask, require
from emu_robot.recording.messages import RecordedRobot
from emu_robot.recording.session import SessionRecorder
from emu_robot.shared.files import replace_json
from emu_robot.shared.words import same_words
from emu_robot.teleop.autonomy import DAggerPhase
from emu_robot.teleop.desk import Desk, Order, OrderKind, Sample
from emu_robot.teleop.hand import HandConfig, Wish
from emu_robot.teleop.session import Session, SessionConfig
from emu_robot.teleop.thinking import Thinking
from emu_robot.teleop.view import View

FIRST_SEED = 2_000_000
"""Seed of the first scene in which corrections are recorded; evaluations take later ones."""
RATE = 20
"""Ticks per second, as the policy acts [Hz]."""
IMAGE_SIZE = 128
"""Height and width of the pictures [px]."""
LONGEST = 400
"""Ticks per subtask after which an episode counts as failed."""
DOUBT = 20
"""Ticks for which the policy may pursue another subtask than the true one."""
HOME_LEAD = 0.12
"""Lead of the expert's joints on the way home [rad]."""
OPERATOR = "expert"


@dataclass
class Tally:
    """What happened while corrections were recorded."""

    episodes: int = 0
    """Episodes that were recorded."""
    corrected: int = 0
    """Those with a correction."""
    succeeded: int = 0
    """Those that ended with the task done."""
    corrections: int = 0
    """Corrections."""
    frames: int = 0
    """Frames."""
    intervened: int = 0
    """Frames of corrections."""


class Collector:
    """A session whose operator is the environment's expert."""

    def __init__(self, weights: str, task: str, split: str, out: Path, patience: int) -> None:
        self._world = environments.make("tabletop", tasks=(task,), split=split)
        self._arm = require(self._world, HasArm, "a session").arm(IMAGE_SIZE)
        self._recorder = SessionRecorder(out, _robot(self._arm), operator=OPERATOR, weights=weights)
        self._recorder.wait()
        self._thinking, self._desk, self._patience = Thinking(load_driving_policy(weights)), Desk(), patience
        hand = HandConfig(goal_speed=0.4, goal_turning=3.0, joint_speed=2.0, home_speed=1.0, gripper_speed=10.0)
        config = SessionConfig(rate_hz=RATE, countdown_s=0.0, hand=hand)
        self._session = Session(self._arm, self._desk, config, recorder=self._recorder, policy=self._thinking)
        self._now, self.tally = 100.0, Tally()

    def record(self, seed: int) -> None:
        """One episode: the policy drives, and is corrected where it fails."""
        self._session.lay_scene(seed, self._now)
        expert = require(self._world, HasExpert, "a correction").expert()
        view = self._tick()
        while view.gate.value != "holding":
            view = self._tick()
        view = self._order(OrderKind.START)
        view = self._order(OrderKind.PAUSE)
        corrections, due, since, doubted = 0, due_subtask(self._world), 0, 0
        limit = LONGEST * len(self._world.subtasks)  # pyright: ignore[reportAttributeAccessIssue]
        for tick in range(limit):
            present = due_subtask(self._world)
            if present != due:
                due, since, doubted = present, tick, 0
                if view.policy is DAggerPhase.CORRECTING and due is not None:
                    self._hand_back()
            if due is None:
                break
            if view.policy is not DAggerPhase.CORRECTING:
                doubted = 0 if same_words(_wanted(view), due) else doubted + 1
                if doubted > DOUBT or tick - since > self._patience or view.policy is DAggerPhase.PAUSED:
                    corrections, since, doubted = corrections + 1, tick, 0
                    self._order(OrderKind.SUBTASK, due)
                    self._order(OrderKind.CORRECT)
            corrects = self._session.autonomy is not None and self._session.autonomy.phase is DAggerPhase.CORRECTING
            view = self._tick(self._wish(expert) if corrects else None)
        self._end(view, corrections)

    def close(self) -> None:
        """Wait until everything is written."""
        self._recorder.close()
        self._arm.close()

    def _end(self, view: View, corrections: int) -> None:
        tally, succeeds = self.tally, view.succeeds
        tally.episodes, tally.succeeded = tally.episodes + 1, tally.succeeded + succeeds
        tally.corrected, tally.corrections = tally.corrected + bool(corrections), tally.corrections + corrections
        if succeeds:
            self._order(OrderKind.SUCCESS)
        else:
            self._order(OrderKind.FAILURE, "timeout")
        self._recorder.wait()
        print(
            f"{view.task}: {'done' if succeeds else 'not done'}, {corrections} corrections, {view.seconds:.0f} s",
            flush=True,
        )

    def _hand_back(self) -> None:
        self._order(OrderKind.SUBTASK, "")
        self._order(OrderKind.PAUSE)

    def _wish(self, expert: Any) -> Wish:
        """What the expert wants, as an operator's wish."""
        action, joints = expert.action().astype(np.float64), self._arm.state(self._now)[0][:-1]  # pyright: ignore
        lead, homeward = action[:-1] - joints, np.clip(self._arm.home - joints, -HOME_LEAD, HOME_LEAD)
        grip = 1.0 if action[-1] > 0.5 else -1.0
        if np.allclose(lead, homeward, atol=1e-3):
            return Wish(goes_home=True, grip=grip)
        return Wish(goal=self._arm.kinematics.pose(action[:-1]), grip=grip)

    def _order(self, kind: OrderKind, text: str = "") -> View:
        refused = self._desk.order(OPERATOR, Order(kind=kind, text=text), self._now)
        assert not refused, refused
        return self._tick()

    def _tick(self, wish: Wish | None = None) -> View:
        """One tick of the simulated clock. It waits for its pictures; the policy computes before the next one."""
        self._now += 1 / RATE
        self._desk.drive(OPERATOR, Sample(at=self._now, pressed=wish is not None, wish=wish or Wish()))
        view = self._session.tick(self._now)
        taken = self._arm.pictures()
        while view.gate.is_armed and (taken is None or taken[1] < self._now - 1e-6):
            time.sleep(0.001)
            taken = self._arm.pictures()
        self._thinking.work()
        return view


def _wanted(view: View) -> str:
    return view.subtasks[view.step] if view.step < len(view.subtasks) else ""


def _robot(arm: Any) -> RecordedRobot:
    return RecordedRobot(layout=arm.layout, fps=RATE, cameras=arm.cameras, robot_type=arm.name)


def collect(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Record the corrections, or read what was recorded before."""
    done = folder / "collected.json"
    if done.exists():
        return json.loads(done.read_text())
    with closing(Collector(given.weights, given.task, given.split, folder / "set", given.patience)) as collector:
        for episode in range(given.episodes):
            collector.record(FIRST_SEED + episode)
        tally = vars(collector.tally)
    records = [json.loads(line) for line in (folder / "set/meta/recording.jsonl").read_text().splitlines()]
    tally |= {"frames": sum(r["frames"] for r in records), "intervened": sum(r["interventions"] for r in records)}
    replace_json(done, tally)
    return tally


def success(given: argparse.Namespace, weights: str, out: Path) -> dict[str, Any]:
    """Success of weights on the development seeds."""
    words = [f"policy={weights}", f"tasks={given.task}", f"split={given.split}", f"n={given.n}", "seed=0", "videos=0"]
    run(["eval", *words, f"out={out}", "resume=true", f"workers={given.workers}"])
    info = json.loads((out / "eval_info.json").read_text())
    return {name: info["overall"][name] for name in ("n_success", "n_episodes", "pc_success", "pc_success_ci95")}


def run(words: Sequence[str]) -> None:
    """A verb of emu-robot, in a process of its own."""
    print("emu-robot", *words, flush=True)
    subprocess.run([Path(sys.executable).with_name("emu-robot"), *words], check=True)


def main() -> None:
    """All four steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="mini", help="released name or weights folder to start from")
    parser.add_argument("--task", default="stack", help="task of the tabletop")
    parser.add_argument("--split", default="seen", help="split of its scenes")
    parser.add_argument("--episodes", type=int, default=40, help="episodes to record")
    parser.add_argument("--patience", type=int, default=160, help="ticks for a subtask before the expert takes over")
    parser.add_argument("--n", type=int, default=100, help="episodes of each evaluation")
    parser.add_argument("--workers", type=int, default=2, help="processes of the evaluations")
    parser.add_argument("--out", type=Path, default=Path("outputs/dagger"), help="folder of all results")
    parser.add_argument("finetune", nargs="*", help="settings of emu-robot finetune, after --")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"settings": {name: str(value) for name, value in vars(given).items()}}
    result["before"] = success(given, given.weights, out / "before")
    result["collected"] = collect(given, out)
    run(["finetune", f"dataset={out / 'set'}", f"weights={given.weights}", f"out={out / 'finetune'}", *given.finetune])
    result["after"] = success(given, str(out / "finetune/weights"), out / "after")
    replace_json(out / "dagger.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
