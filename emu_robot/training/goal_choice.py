"""Do subgoals help on a set? Compares the goal modes on held-out episodes; the best one becomes the weights' own.

Suffixes: E episodes, K subtasks, T chunk, A action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emu_robot.core import Floats, Floats32, Observation, PlanStep
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.evaluation.statistics import bootstrap_interval
from emu_robot.models.weights import add_extra
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import ChunkConfig, GoalMode
from emu_robot.shared.files import replace_json
from emu_robot.shared.settings import check_ranges, number
from emu_robot.training.dida import DidaTraining
from emu_robot.training.head import HeadTraining, split_rows
from emu_robot.training.head_data import Demonstrations
from emu_robot.training.holdout import spread
from emu_robot.training.loop import select_device
from emu_robot.training.planner_config import PlannerTraining
from emu_robot.training.planner_data import PlanQueries

RECORD = "goals.json"
CANDIDATES = (GoalMode.PLANNER, GoalMode.TEXT, GoalMode.NONE)
"""Modes that may become the weights' own; of equal ones the first is chosen."""

type Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GoalChoice:
    """Settings of the comparison of goal modes."""

    episodes: int = number(50, 1)
    """Most held-out episodes."""
    frames: int = number(16, 1)
    """Most frames of an episode."""

    def __post_init__(self) -> None:
        check_ranges(self, "goals")


@dataclass(frozen=True, kw_only=True)
class GoalChoiceConfig(GoalChoice):
    """Settings of one comparison, with those of the trainings, whose results it compares."""

    planner: PlannerTraining = field(default_factory=PlannerTraining)
    """Training of the planner."""
    dida: DidaTraining = field(default_factory=DidaTraining)
    """Training of its parallel decoding."""
    head: HeadTraining = field(default_factory=HeadTraining)
    """Training of the head."""
    data: Path = Path("outputs/finetune/data")
    """Replay buffer with the episodes."""
    weights: Path = Path("outputs/finetune/weights")
    """Weights to judge, whose manifest gets the best mode."""
    out: Path = Path("outputs/finetune")
    """Folder of goals.json."""


def choose_goal(config: GoalChoiceConfig) -> GoalMode:
    """Compare the modes, print and write goals.json, and name the best one in the manifest of the weights.

    The best mode has the least mean error on held-out episodes, see `chunk_errors`; of equal ones the first of
    `CANDIDATES` is taken. So the planner's subgoals are used only where they are no worse than what is simpler. The
    interval says whether the difference is more than chance.
    """
    decoder = ActionDecoder.load(config.weights)
    device = select_device(config.head.loop.device)
    decoder.head.to(device)
    planner = Planner.load(config.weights, device=device)
    buffer = ReplayBuffer.open(config.data)
    data = Demonstrations.load(buffer, decoder.cameras)
    episodes, new = held_out(data, PlanQueries.load(buffer), config)
    rows_E = [rows for e in episodes.tolist() if len(rows := _frames(data, e, config.frames))]
    errors = chunk_errors(decoder, planner, data, rows_E)
    found = compare(errors) | {"episodes": len(rows_E), "frames": sum(map(len, rows_E)), "new": new}
    add_extra(config.weights, "head", goal=found["goal"])
    replace_json(config.out / RECORD, found)
    print(f"{found['words']}\ngoal={found['goal']} is now the weights' own mode", flush=True)
    return GoalMode(found["goal"])


def held_out(data: Demonstrations, queries: PlanQueries, config: GoalChoiceConfig) -> tuple[Ints, bool]:
    """Episodes that no training has seen, and True; without any, those that the head has not seen, and False."""
    rows = split_rows(data, config.head.holdout)[1]
    of_head = np.unique(data.segments.episode_K[data.segment_M[rows]])
    of_all = of_head
    for holdout in (config.planner.holdout, config.dida.holdout):
        of_all = np.intersect1d(of_all, queries.episode[queries.split(holdout)[1]])
    episodes = of_all if len(of_all) else of_head
    return spread(episodes, config.episodes), len(of_all) > 0


def chunk_errors(
    decoder: ActionDecoder, planner: Planner, data: Demonstrations, rows_E: Sequence[Ints]
) -> dict[GoalMode, Floats]:
    """Mode -> (E,) mean absolute error of the chunks at these image rows of each episode.

    Every mode acts from the same frames, as at run time: the planner is asked at the start of the frame's subtask, and
    where it holds the task complete the robot stays. ORACLE shows the true words and keyframe, the bound. Errors are in
    standard deviations of the demonstrated actions, up to the subtask's keyframe, where all modes should do the same.
    """
    segment_E = [data.segment_M[rows] for rows in rows_E]
    planned = _plans(planner, data, np.unique(np.concatenate(segment_E)))
    sums: dict[GoalMode, list[float]] = {}
    for rows, segments in zip(rows_E, segment_E, strict=True):
        episode: dict[GoalMode, list[float]] = {}
        for row, segment in zip(rows.tolist(), segments.tolist(), strict=True):
            for mode, step in _steps(data, segment, planned[segment]).items():
                episode.setdefault(mode, []).append(_error(decoder, data, row, step))
        for mode, values in episode.items():
            sums.setdefault(mode, []).append(float(np.mean(values)))
    return {mode: np.array(values) for mode, values in sums.items()}


def compare(errors: Mapping[GoalMode, Floats]) -> dict[str, Any]:
    """The best mode, mean errors, differences from the planner's with their intervals, and a verdict in words."""
    means = {mode: float(values.mean()) for mode, values in errors.items()}
    goal = min(CANDIDATES, key=means.__getitem__)
    against = {}
    for mode in (GoalMode.TEXT, GoalMode.NONE, GoalMode.ORACLE):
        more_E = errors[mode] - errors[GoalMode.PLANNER]
        against[mode.value] = {"difference": float(more_E.mean()), "interval": bootstrap_interval(more_E.tolist())}
    errors_of = {mode.value: mean for mode, mean in means.items()}
    n, alone = len(errors[goal]), against[GoalMode.NONE.value]
    return {"goal": goal.value, "errors": errors_of, "against": against, "words": _verdict(n=n, **alone)}


def _verdict(n: int, difference: float, interval: tuple[float, float] | None) -> str:
    """Whether the planner's subgoals help, by what the instruction alone does worse."""
    if interval is None:
        return "one held-out episode does not show whether subgoals help on this set"
    low, high = interval
    said = (
        f"the instruction alone changes a chunk's error by {difference:+.3f} [{low:+.3f}, {high:+.3f}], n={n} episodes"
    )
    if low > 0:
        return f"subgoals help on this set: {said}"
    if high < 0:
        return f"subgoals harm on this set: {said}"
    return f"no difference was found between subgoals and the instruction alone on this set: {said}"


def _frames(data: Demonstrations, episode: int, most: int) -> Ints:
    """Image rows of an episode before its keyframes, spread over it."""
    rows = np.flatnonzero((data.segment_M >= 0) & (data.taught_end_N[data.frame_M] >= 0))
    segments = data.segment_M[rows]
    mine = (data.segments.episode_K[segments] == episode) & (data.frame_M[rows] < data.segments.keyframe_K[segments])
    return spread(rows[mine], most)


def _plans(planner: Planner, data: Demonstrations, segments: Ints) -> dict[int, PlanStep | None]:
    """The planner's next step at the start of each of these subtasks; None where it holds the task complete."""
    steps: dict[int, PlanStep | None] = {}
    for i in range(0, len(segments), 32):
        some = segments[i : i + 32]
        images = data.goal_view[np.searchsorted(data.frame_M, data.segments.start_K[some])]
        instructions = [data.segments.instruction_K[k] for k in some]
        steps |= zip(some.tolist(), planner.next_steps(list(images), instructions, some.tolist()), strict=True)
    return steps


def _steps(data: Demonstrations, segment: int, planned: PlanStep | None) -> dict[GoalMode, PlanStep | None]:
    """What each mode lets the head pursue in a subtask."""
    keyframe = data.goal_view[int(data.keyframe_image_K[segment])]
    return {
        GoalMode.PLANNER: planned,
        GoalMode.TEXT: planned and PlanStep(subtask=planned.subtask),
        GoalMode.NONE: PlanStep(subtask=data.segments.instruction_K[segment]),
        GoalMode.ORACLE: PlanStep(subtask=data.segments.text_K[segment], subgoal=keyframe),
    }


def _error(decoder: ActionDecoder, data: Demonstrations, row: int, step: PlanStep | None) -> float:
    frame, keyframe = int(data.frame_M[row]), int(data.segments.keyframe_K[data.segment_M[row]])
    state, horizon = data.state[frame], decoder.action_horizon
    if step is None:
        actions: Floats32 = np.repeat(decoder.hold_target(state)[None], horizon, axis=0)
    else:
        images = {camera: data.images[camera][row] for camera in decoder.cameras}
        actions = decoder.decode(Observation(images=images, state=state), step, ChunkConfig(), seed=0).actions
    true = data.chunks(np.array([frame]), np.array([keyframe]), horizon)[0]
    before = slice(0, keyframe - frame + 1)
    return float((np.abs(actions - true) / decoder.action_std)[before].mean())
