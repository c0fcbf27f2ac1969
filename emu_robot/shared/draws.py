"""Seeds of single draws: each follows from what it is for and when, never from what was drawn before."""

import hashlib
from typing import NamedTuple


def draw_seed(purpose: str, *keys: int) -> int:
    """A seed in [0, 2^63) for one draw, for instance `draw_seed("plan", seed, episode, call)`.

    Another purpose or other keys give an independent seed.
    """
    words = " ".join([purpose, *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest()) >> 1


class EpisodeSeed(NamedTuple):
    """What every draw of one episode follows from: a seed, and which of the episodes with it."""

    seed: int = 0
    episode: int = 0

    @property
    def next(self) -> "EpisodeSeed":
        """That of the episode after this one."""
        return self._replace(episode=self.episode + 1)

    def of_call(self, purpose: str, call: int) -> int:
        """The seed of one draw: call number `call` for this purpose."""
        return draw_seed(purpose, self.seed, self.episode, call)
