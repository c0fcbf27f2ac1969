"""Measures control ticks of the tabletop per second of CPU time."""

import time

import numpy as np

from emu_sim.environment import TabletopEnvironment


def bench(steps: int = 400) -> dict[str, float]:
    """Run an expert for `steps` ticks with and without cameras. Returns ticks per second of this process's CPU time."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    environment = TabletopEnvironment(["all"])
    environment.reset(0)
    rates = {}
    for name, observe in (("env_steps_per_cpu_second", True), ("physics_only_steps_per_cpu_second", False)):
        spent, seed = 0.0, 0
        environment.reset(seed, observe=False)
        expert = environment.expert()
        for _ in range(steps):
            if environment.subtask is None:
                seed += 1
                environment.reset(seed, observe=False)
            action = expert.action()
            start = time.process_time()
            environment.step(np.asarray(action), observe=observe)
            spent += time.process_time() - start
        rates[name] = steps / spent
    environment.close()
    return rates
