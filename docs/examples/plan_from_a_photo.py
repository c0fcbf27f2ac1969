"""A plan from a photo: python docs/examples/plan_from_a_photo.py PHOTO "INSTRUCTION" [OUT]

`mini` knows the objects of the simulated tabletop only; of a photo of your desk it makes what it can.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from emu_robot import Observation, Planner, read_picture
from emu_robot.observation.image_fit import ImageFit, fit_image

if len(sys.argv) < 3:
    sys.exit(__doc__)
photo, instruction = sys.argv[1:3]
out = Path(sys.argv[3] if len(sys.argv) > 3 else "outputs/photo_plan")
out.mkdir(parents=True, exist_ok=True)
planner = Planner.load("mini", int8=True)
view = fit_image(read_picture(photo), planner.image_size, ImageFit.pad)  # the square that the planner looks at
no_joints = np.zeros(8, np.float32)  # the planner looks only
observation = Observation(images={planner.config.camera: view}, state=no_joints)

plan = planner.plan(observation, instruction, max_steps=3)
for number, step in enumerate(plan.steps, 1):
    print(f"{number}. {step.subtask}")
    if step.subgoal is not None:
        Image.fromarray(step.subgoal).save(out / f"subgoal_{number}.png")
print("the planner judges the task complete" if plan.is_complete else f"subgoals: {out}")
