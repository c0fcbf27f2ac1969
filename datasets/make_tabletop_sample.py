"""Makes datasets/tabletop_sample again: `python datasets/make_tabletop_sample.py [OUT]`, with OUT a new folder.

Numbers and words depend on the seeds below alone, bytes of the videos also on the version of the encoder.
"""

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from emu_robot.data.dataset_card import family_table, origin_of, write_card
from emu_robot.data.expert_demonstration import record_episode
from emu_robot.data.lerobot_export import export_lerobot
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.environments import make, suite
from emu_robot.environments.contract import SEEN
from emu_robot.errors import DataError, EmuRobotError

OUT = Path(__file__).with_name("tabletop_sample")
SEEDS = {"pick_place": 2, "push": 10, "put_in_drawer": 5, "sequence": 2}
"""Family -> seed, chosen as `LIMITS` says."""
NOISE, BURST_PROBABILITY = 0.01, 0.3  # the defaults of `emu-robot collect`
GOP = 20
"""Frames between two whole pictures. The files have half the size of an export for training; access is slower."""
LIMITS = (
    "Four episodes show what the full data look like and exercise every loader; no policy can be learned from them.",
    "Simulated, not real.",
    "Seeds were chosen: episodes of at least 100 frames, the usual longest action chunk, and of the pushes one whose "
    "gripper command does not flicker as the hand lets go (in every third it does, for a few frames).",
    "Pictures are H.264 at crf 18 and 4:2:0; the simulator's own are slightly sharper.",
)
PROVENANCE = f"""Scripted closed-loop experts in `emu_sim` (MuJoCo), by `python datasets/make_tabletop_sample.py`. The
executed action is disturbed (noise of {NOISE} rad on the joint targets; in a subtask, with probability
{BURST_PROBABILITY}, a short push), the stored one is the expert's own, so that recoveries are in the data."""


def make_sample(out: Path) -> Path:
    """Record the episodes, write `out` and return it. Raises `DataError` if `out` exists."""
    if out.exists():
        raise DataError(f"{out}: exists; remove it or name a new folder")
    with TemporaryDirectory() as folder:
        buffer = ReplayBuffer.create(Path(folder) / out.name, suite("tabletop").spec.layout)
        for family, seed in SEEDS.items():
            with closing(make("tabletop", tasks=family)) as env:
                disturbed = {"noise": NOISE, "burst_probability": BURST_PROBABILITY}
                buffer.append(record_episode(env, seed, split=SEEN, **disturbed, image_every=1))
        export_lerobot(buffer.path, out, gop=GOP)
        told = replace(
            origin_of(buffer, "apache-2.0"),
            summary="A small sample of the demonstrations that emu_robot is trained on: a Franka Panda at a table.",
            provenance=f"{PROVENANCE}\n\n{family_table(buffer)}",
            limits=LIMITS,
        )
        write_card(out, told)
    return out


if __name__ == "__main__":
    try:
        print(make_sample(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT))
    except EmuRobotError as error:
        sys.exit(f"error: {error}")
