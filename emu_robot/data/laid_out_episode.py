"""An episode without motion: the moments that a world lays out, as frames. Knows no files and no processes."""

import numpy as np

from emu_robot.data.episode import Episode
from emu_robot.environments.capabilities import HasSubtasks, LaysOut, MayNeedMemory, MomentKind, require
from emu_robot.environments.contract import Environment


def laid_out_episode(env: Environment, seed: int, *, split: str, disturbed: float, instructions: int) -> Episode:
    """The episode of `seed` with one frame per moment, pictures of the planner's camera alone, and actions of 0.

    disturbed, instructions: see `LaysOut.lay_out`. Raises `InvalidValueError` if the environment cannot lay out.
    """
    moments = require(env, LaysOut, "collecting with execute=false").lay_out(
        seed, disturbed=disturbed, instructions=instructions
    )
    keyframes = [t for t, moment in enumerate(moments) if moment.kind is MomentKind.KEYFRAME]
    state = np.stack([moment.state for moment in moments])
    return Episode(
        instruction=env.instruction,
        family=env.task_name,
        split=split,
        seed=seed,
        success=True,
        fps=env.spec.control_hz,
        subtasks=require(env, HasSubtasks, "collecting with execute=false").subtasks,
        keyframes=np.array(keyframes, np.int32),
        starts=np.array([0, *keyframes[:-1]], np.int32),
        state=state,
        action=np.zeros((len(state), len(env.spec.layout.action_names)), np.float32),
        image_frames=np.arange(len(state), dtype=np.int32),
        images={env.spec.planner_camera: np.stack([moment.image for moment in moments])},
        executed=False,
        needs_memory=isinstance(env, MayNeedMemory) and env.needs_memory,
        attempts=tuple(t for t, moment in enumerate(moments) if moment.kind is MomentKind.ATTEMPT),
        facts=tuple(moment.facts for moment in moments),
    )
