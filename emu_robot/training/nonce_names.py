"""Sequences with invented names, so that a planner copies a name from the instruction.

A planner that has never seen the magenta cube go to the plate learns that such a thing is not said, and says another
name. With a name that it meets for the first time there is nothing to go by but the instruction.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from emu_robot.data.episode import read_facts
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError

CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
SYLLABLES = (1, 3)
"""Fewest and most syllables of an invented name."""
REPLACED = 0.75
"""Share of the names in a sentence that are replaced, at least one."""


class NonceNames:
    """Replaces names of things and places that an instruction says in full, in it and in its subtasks alike."""

    def __init__(self, names: Iterable[str]) -> None:
        longest_first = sorted(set(names), key=lambda name: (-len(name), name))
        self._names = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b")

    @classmethod
    def load(cls, buffer: ReplayBuffer) -> "NonceNames":
        """With the names in the facts of a buffer. Raises `DataError` if it tells none."""
        names: set[str] = set()
        for text in {meta.get("facts", "[]") for meta in buffer.metadata}:
            for facts in read_facts(text):
                names |= facts.keys()
                names |= {fact.place.split(" the ")[1] for fact in facts.values() if " the " in fact.place}
        if not names:
            raise DataError(f"{buffer.path}: no episode tells what its pictures show; set sequences.nonce_share=0")
        return cls(names)

    def renamed(self, rng: np.random.Generator, instruction: str, subtasks: Sequence[str]) -> dict[str, str]:
        """Instruction and subtasks -> the same with invented names for some that both have; empty if both have none."""
        said = {name for text in subtasks for name in self._names.findall(text)}
        shared = sorted(said & set(self._names.findall(instruction)))
        if not shared:
            return {}
        chosen = [name for name in shared if rng.random() < REPLACED] or [shared[int(rng.integers(len(shared)))]]
        new = {name: _invented(rng) for name in chosen}
        return {
            text: self._names.sub(lambda found: new.get(found[0], found[0]), text) for text in (instruction, *subtasks)
        }


def _invented(rng: np.random.Generator) -> str:
    """Some syllables, such as "dax" or "wopi"."""
    count = int(rng.integers(SYLLABLES[0], SYLLABLES[1] + 1))
    letters = [str(rng.choice(list(kind))) for _ in range(count) for kind in (CONSONANTS, VOWELS)]
    return "".join(letters) + str(rng.choice(list(CONSONANTS)))
