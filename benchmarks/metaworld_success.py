"""Success of fine-tuned weights on Meta-World tasks, for each goal mode (needs metaworld==3.0.0).

python benchmarks/metaworld_success.py WEIGHTS [--tasks drawer-open-v3 ...] [--goals none text planner] [--n 20]

LeRobot's environment, instructions, step cap and seeds (from 1000 on), as in `lerobot-eval --env.type=metaworld`. A
picture is rendered only when the policy looks, once a chunk, which makes it ten times as fast.
"""

import argparse
from typing import Any

import numpy as np
from lerobot.envs.metaworld import TASK_DESCRIPTIONS, MetaworldEnv

from emu_robot import load_policy
from emu_robot.core import Observation
from emu_robot.evaluation.statistics import Proportion
from emu_robot.observation.image_fit import ImageFit, fit_image
from emu_robot.policy.config import GoalMode
from emu_robot.policy.emu_policy import EmuPolicy

FIRST_SEED = 1000
SIZE = 128
STEP_CAP = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--tasks", nargs="+", default=["drawer-open-v3", "button-press-topdown-v3", "push-v3"])
    parser.add_argument(
        "--goals", nargs="+", default=["none", "text", "planner"], choices=[mode.value for mode in GoalMode]
    )
    parser.add_argument("--n", type=int, default=20)
    wanted = parser.parse_args()
    print(f"| task | {' | '.join(f'goal={goal}' for goal in wanted.goals)} |")
    print("|---|" + "---|" * len(wanted.goals), flush=True)
    policies = [load_policy(wanted.weights, goal=goal, seed=FIRST_SEED) for goal in wanted.goals]
    for task in wanted.tasks:
        env = MetaworldEnv(task, obs_type="pixels_agent_pos")
        won = [[play(env, policy, index) for index in range(wanted.n)] for policy in policies]
        env.close()
        print(f"| {task} | {' | '.join(str(Proportion(sum(some), wanted.n)) for some in won)} |", flush=True)


def play(env: MetaworldEnv, policy: EmuPolicy, index: int) -> bool:
    """Whether episode `index` succeeds."""
    env._ensure_env()
    world: Any = env._env  # LeRobot's environment renders at every step
    world.seed(FIRST_SEED + index)
    raw, _ = world.reset(seed=FIRST_SEED + index)
    policy.seed(index)
    policy.reset(TASK_DESCRIPTIONS[env.task])
    tick = 0
    while tick < STEP_CAP:
        image = fit_image(env.render(), SIZE, ImageFit.pad)
        chunk = policy.act(Observation(images={"front": image}, state=raw[:4].astype(np.float32)))
        for action in chunk.actions[: STEP_CAP - tick]:
            raw, _reward, _terminated, _truncated, info = world.step(np.clip(action, -1, 1))
            tick += 1
            if info["success"]:
                return True
    return False


if __name__ == "__main__":
    main()
