"""Latency of the released policy on one CPU thread: an action chunk, and a planned step (subtask and subgoal image).

python benchmarks/latency.py [weights]        medians and 90th percentiles of process CPU time, in milliseconds
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from emu_robot.environments import make
from emu_robot.models.weights import resolve_weights
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.config import ChunkConfig

REPEATS = 30


def milliseconds(function: Callable[[], object]) -> tuple[float, float]:
    """Median and 90th percentile of the CPU time of a call [ms], without the first two calls."""
    spent = []
    for _ in range(REPEATS + 2):
        start = time.process_time()
        function()
        spent.append(1000 * (time.process_time() - start))
    return float(np.median(spent[2:])), float(np.quantile(spent[2:], 0.9))


def load_planners(folder: Path) -> dict[str, Planner]:
    """The planner with its default decoder, and one code at a time in int8 and in float32."""
    one_by_one = DecoderConfig(kind=Decoder.AR)
    return {
        "its default": Planner.load(folder, int8=True),
        "autoregressive": Planner.load(folder, decoder=one_by_one, int8=True),
        "autoregressive, float32": Planner.load(folder, decoder=one_by_one),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = resolve_weights(sys.argv[1] if len(sys.argv) > 1 else "mini")
    environment = make("tabletop", tasks="pick_place")
    observation = environment.reset(10_000_000)
    head, planners = ActionDecoder.load(folder).fix(), load_planners(folder)
    step = planners["its default"].plan(observation, environment.instruction, max_steps=1).steps[0]

    def chunk() -> None:
        head.decode(observation, step, ChunkConfig(), seed=0)

    def plan(planner: Planner) -> None:
        planner.plan(observation, environment.instruction, max_steps=1)

    print(f"CPU time on one thread, {REPEATS} calls; {os.cpu_count()} cores, torch {torch.__version__}")
    for name, function in {
        "action chunk": chunk,
        **{f"planned step, {name}": partial(plan, planner) for name, planner in planners.items()},
    }.items():
        median, high = milliseconds(function)
        print(f"{name:40} median {median:7.1f} ms   p90 {high:7.1f} ms")
    environment.close()


if __name__ == "__main__":
    main()
