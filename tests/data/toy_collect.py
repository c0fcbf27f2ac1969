"""A program for the tests: `toy_collect.py OUT N WORKERS DELAY` collects from the toy, DELAY seconds per tick."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import toy

from emu_robot.data.collect import CollectConfig, collect

out, n, workers, delay = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
quick_step = toy.ToyEnvironment.step


def slow_step(self, action, *, observe=True):
    time.sleep(delay)
    return quick_step(self, action, observe=observe)


toy.ToyEnvironment.step = slow_step

if __name__ == "__main__":
    touches = {"env": "toy_arm", "families": ("touch",), "image_every": 4, "lerobot": False}
    collect(CollectConfig(**touches, n=n, out=out, workers=workers))
