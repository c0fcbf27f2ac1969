"""Demonstrations of Meta-World tasks by its scripted policies, as a LeRobotDataset (needs metaworld==3.0.0).

python datasets/metaworld_demonstrations.py OUT [--tasks drawer-open-v3 push-v3] [--n 25] [--first-seed 100000]

Environment, pictures, state, action and rate are those of LeRobot's `--env.type=metaworld --env.task=<task>`. Only
successes are kept. `lerobot-eval` plays seeds from 1000 on, so that demonstrations never show an evaluated layout.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.metaworld import TASK_DESCRIPTIONS, TASK_POLICY_MAPPING, MetaworldEnv

from emu_robot.shared.progress import progress

FPS = 80
SIZE = 480
"""Height and width that LeRobot renders [px]."""
AFTER_SUCCESS = 10
"""Frames kept after the success."""
NAMES = ["x", "y", "z", "gripper"]
FEATURES = {
    "observation.image": {"dtype": "video", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channel"]},
    "observation.state": {"dtype": "float32", "shape": (4,), "names": NAMES},
    "action": {"dtype": "float32", "shape": (4,), "names": ["delta_x", "delta_y", "delta_z", "gripper"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["drawer-open-v3"], choices=sorted(TASK_POLICY_MAPPING))
    parser.add_argument("--n", type=int, default=25, help="demonstrations of each task")
    parser.add_argument("--first-seed", type=int, default=100_000)
    wanted = parser.parse_args()
    if wanted.out.exists():
        sys.exit(f"{wanted.out} exists; give another folder or remove it")
    dataset = LeRobotDataset.create(
        f"local/{wanted.out.name}", fps=FPS, root=wanted.out, robot_type="sawyer", features=FEATURES
    )
    for task in wanted.tasks:
        env = MetaworldEnv(task, obs_type="pixels_agent_pos")
        kept, seed = 0, wanted.first_seed
        with progress(task, wanted.n) as report:
            while kept < wanted.n:
                frames = demonstration(env, TASK_POLICY_MAPPING[task](), seed)
                seed += 1
                for frame in frames:
                    dataset.add_frame(frame | {"task": TASK_DESCRIPTIONS[task]})
                if frames:
                    dataset.save_episode()
                    kept += 1
                    report(f"{seed - wanted.first_seed - kept} failed")
        env.close()
    dataset.finalize()
    print(f"{wanted.out}: {dataset.num_episodes} episodes, {dataset.num_frames} frames")


def demonstration(env: MetaworldEnv, policy: Any, seed: int) -> list[dict[str, Any]]:
    """The frames of one episode, to shortly after its success; [] if it failed."""
    env.reset(seed=seed)
    world: Any = env._env  # LeRobot's environment shows neither the full state that the policy reads nor the time after
    raw = world._get_obs()  # a success
    frames: list[dict[str, Any]] = []
    left = None
    for _ in range(world.max_path_length):
        action = np.clip(policy.get_action(raw), -1, 1).astype(np.float32)
        frames.append(
            {
                "observation.image": env.render().copy(),
                "observation.state": raw[:4].astype(np.float32),
                "action": action,
            }
        )
        raw, _reward, _terminated, _truncated, info = world.step(action)
        if left is None and info["success"]:
            left = AFTER_SUCCESS
        elif left is not None:
            left -= 1
        if left == 0:
            return frames
    return []


if __name__ == "__main__":
    main()
