"""Settings of the whole suite: software rendering, one thread per process, no hub."""

import os

for variable, value in {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "egl", "HF_HUB_OFFLINE": "1"}.items():
    os.environ.setdefault(variable, value)
