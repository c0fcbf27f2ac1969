"""A program for the tests: `toy_collect.py OUT N WORKERS DELAY` collects from the toy, DELAY seconds per control tick.

Registered at module level so that spawned workers, which run this file too, know the toy.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import toy

from emu_robot.data.collect import CollectConfig, collect
from emu_robot.environments import ENVIRONMENTS

ENVIRONMENTS["toy"] = "toy:ToyEnvironment"
out, n, workers, delay = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
quick_step = toy.ToyEnvironment.step


def slow_step(self, action, *, observe=True):
    time.sleep(delay)
    return quick_step(self, action, observe=observe)


toy.ToyEnvironment.step = slow_step

if __name__ == "__main__":
    collect(CollectConfig(env="toy", n=n, out=out, workers=workers, image_every=4, lerobot=False))
