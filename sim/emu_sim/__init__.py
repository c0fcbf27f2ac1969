"""emu_sim: language-conditioned tabletop manipulation in MuJoCo, as Gymnasium environments."""

from gymnasium.envs.registration import register, registry

if "emu_sim/Tabletop-v0" not in registry:
    register(id="emu_sim/Tabletop-v0", entry_point="emu_sim.tabletop:TabletopEnv")
