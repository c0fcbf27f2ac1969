"""emu_sim: language-conditioned tabletop manipulation in MuJoCo, as Gymnasium environments."""

import os
import sys

from gymnasium.envs.registration import register, registry

if sys.platform == "linux":
    # MuJoCo chooses its renderer when first imported; without a display only EGL (or OSMesa, if set) works.
    os.environ.setdefault("MUJOCO_GL", "egl")

if "emu_sim/Tabletop-v0" not in registry:
    register(id="emu_sim/Tabletop-v0", entry_point="emu_sim.tabletop:TabletopEnv")
