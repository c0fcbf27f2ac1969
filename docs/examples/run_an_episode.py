"""One episode in the simulator: python docs/examples/run_an_episode.py [FAMILY] [SEED]"""

import sys

from emu_robot import load_policy, make

family = sys.argv[1] if len(sys.argv) > 1 else "sequence"
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000_000  # demonstrations have seeds below

environment = make("tabletop", family)
policy = load_policy("mini")
observation = environment.reset(seed)
policy.reset(environment.instruction)
print(f"instruction: {environment.instruction}")

tick, subtask, success = 0, "", False
while not success and tick < environment.max_steps:
    chunk = policy.act(observation)  # plans when a subtask is reached, then says how to move
    if chunk.step is not None and chunk.step.subtask != subtask:
        subtask = chunk.step.subtask
        print(f"{tick / environment.control_hz:5.1f} s  {subtask}")
    for action in chunk.actions:
        transition = environment.step(action)
        observation, success, tick = transition.observation, transition.success, tick + 1
        if success or tick == environment.max_steps:
            break
print(f"{tick / environment.control_hz:5.1f} s  {'done' if success else 'not done'}")
environment.close()
