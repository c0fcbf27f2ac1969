"""Packed rows hold every sequence once, and each sees only itself."""

import numpy as np
import pytest
import torch

from emu_robot.errors import InvalidValueError
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.training.packing import pack

SEQUENCES = [([5, 6, 7], [1.0, 1.0, 1.0]), ([8] * 6, [0.5] * 6), ([9, 10], [2.0, 2.0])]


def test_rows_are_filled_and_nothing_is_lost() -> None:
    packed = pack(SEQUENCES, 8, pad=0)
    assert packed.ids.shape == (2, 8)
    assert packed.ids[0].tolist() == [8] * 6 + [9, 10]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert packed.weights[0].tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 2.0]
    assert packed.segments[1].tolist() == [0, 0, 0, -1, -1, -1, -1, -1]


@torch.no_grad()
def test_a_packed_sequence_gets_the_logits_it_gets_alone() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, unrotated_groups=1, head_dim=8, initializer_range=0.5, references=False,
    )  # fmt: skip
    model = CausalTransformer(config).eval()
    packed = pack(SEQUENCES, 8, pad=0)
    ids, positions, mask = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in (packed.ids, packed.positions, packed.mask)
    )
    hidden = model.model(ids, positions, mask=mask)
    for row, segment, (tokens, _weights) in ((0, 0, SEQUENCES[1]), (0, 1, SEQUENCES[2]), (1, 0, SEQUENCES[0])):
        inside = torch.from_numpy(packed.segments[row] == segment)
        alone = model.model(torch.tensor([tokens]))[0]
        torch.testing.assert_close(hidden[row][inside], alone, atol=1e-5, rtol=1e-4)


def test_a_sequence_longer_than_a_row_is_said() -> None:
    with pytest.raises(InvalidValueError, match="a sequence has 6 ids, rows have 4"):
        pack(SEQUENCES, 4, pad=0)
