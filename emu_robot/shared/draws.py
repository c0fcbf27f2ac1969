"""Seeds of single random draws. A seed depends on purpose and keys alone, never on earlier draws."""

import hashlib
from typing import NamedTuple

from emu_robot.core import Observation


def draw_seed(purpose: str, *keys: int) -> int:
    """The seed in [0, 2^63) of one draw, for instance `draw_seed("plan", seed, episode, call)`.

    Another purpose or other keys give an independent seed.
    """
    words = " ".join([purpose, *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest()) >> 1


def episode_seed(task: str, first: Observation, seed: int) -> int:
    """Seed of an episode whose number is not known, from its task, its first observation and the policy's seed."""
    parts = [first.state, *(first.images[camera] for camera in sorted(first.images))]
    digest = hashlib.blake2b(b"".join(part.tobytes() for part in parts)).hexdigest()
    return draw_seed(f"{task} {digest}", seed)


class EpisodeSeed(NamedTuple):
    """The source of all seeds of one episode."""

    seed: int = 0
    """Seed of the run."""
    episode: int = 0
    """Number of the episode in the run."""

    @property
    def next(self) -> "EpisodeSeed":
        """The source of the next episode's seeds."""
        return self._replace(episode=self.episode + 1)

    def of_call(self, purpose: str, call: int) -> int:
        """The seed of call number `call` for this purpose."""
        return draw_seed(purpose, self.seed, self.episode, call)
