"""Planner sequences without a demonstration: a question about a picture, or about two, and its answer in words.

bos question boi codes eoi bos_step answer eos
"""

import numpy as np

from emu_robot.data.episode import read_facts
from emu_robot.data.questions import change, questions
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import DataError
from emu_robot.tokenizers.interleave import Codes, Interleaver
from emu_robot.training.holdout import completed_subtasks, held_out_episodes
from emu_robot.training.planner_data import Row

CHANGE_SHARE = 0.25
"""Share of the questions that ask what differs between two pictures."""
LIST_SHARE = 0.4
"""Share of the other questions that ask for all objects."""


class QuestionWriter:
    """Draws questions about the pictures of the episodes that no metric uses."""

    def __init__(self, buffer: ReplayBuffer, codes_Mn: Codes, form: Interleaver, holdout: float) -> None:
        """codes_Mn: codes of all images. Raises `DataError` if the buffer tells no facts."""
        self._metadata, self._codes_Mn, self._form = buffer.metadata, codes_Mn, form
        self._begin = [0, *buffer.image_ends.tolist()]
        held = held_out_episodes(completed_subtasks(buffer.metadata), holdout)
        self._episodes = [
            e for e, meta in enumerate(buffer.metadata) if meta.get("facts", "[]") != "[]" and not held[e]
        ]
        if not self._episodes:
            raise DataError(f"{buffer.path}: no episode tells what its pictures show; set sequences.question_share=0")

    def write(self, rng: np.random.Generator, weight: float) -> Row:
        """One sequence. weight: of its answer's words as targets."""
        e = self._episodes[rng.integers(len(self._episodes))]
        facts = read_facts(self._metadata[e]["facts"])
        picture = int(rng.integers(len(facts)))
        if picture and rng.random() < CHANGE_SHARE:
            shown, (question, answer) = slice(picture - 1, picture + 1), change(facts[picture - 1], facts[picture])
        else:
            asked = questions(facts[picture])
            is_list = len(asked) == 1 or rng.random() < LIST_SHARE
            question, answer = asked[0 if is_list else int(rng.integers(1, len(asked)))]
            shown = slice(picture, picture + 1)
        return self._row(question, [self._begin[e] + of for of in range(shown.start, shown.stop)], answer, weight)

    def _row(self, question: str, rows: list[int], answer: str, weight: float) -> Row:
        """rows: of the images shown."""
        form, vocabulary = self._form, self._form.vocabulary
        prompt = form.question(question, [self._codes_Mn[row] for row in rows])
        said = [*form.text.encode(answer), vocabulary.eos]
        weights = [0.0] * len(prompt) + [weight] * len(said)
        begins = [i for i, token in enumerate(prompt) if token == vocabulary.boi]
        return Row([*prompt, *said], weights, [True] * len(weights), [*zip(rows, begins, strict=True)])
