"""Who may see whom in the two-copy layout, by its mask and by gradients through the model."""

import numpy as np
import torch

from emu_robot.models.attention import AttentionMask, copies_blocks, copies_dense, copies_mask
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.training.dida_layout import TwoCopies, two_copies

BOI, BLOCK = 1, 4
IDS = np.array([[9, BOI, 20, 21, 22, 2, 8, BOI, 23, 24, 25, 2, 7, BOI, 26, 27, 28, 2]])
LENGTH = IDS.shape[1]
SEEN = np.arange(LENGTH)[None] < 6  # the first image


def test_copies_repeat_ids_and_positions_of_the_images_to_predict() -> None:
    positions = np.arange(LENGTH)[None] * 3
    copies = two_copies(IDS, positions, positions, BOI, BLOCK, SEEN)
    assert copies.ids[0, LENGTH:].tolist() == [BOI, 23, 24, 25, BOI, 26, 27, 28]
    assert copies.positions[0, LENGTH:].tolist() == [21, 24, 27, 30, 39, 42, 45, 48]
    assert copies.present.tolist() == [[True, True]]
    shorter = two_copies(np.where(np.arange(LENGTH) < 12, IDS, 0), positions, positions, BOI, BLOCK, SEEN)
    assert shorter.present.tolist() == [[True]]
    ids, places = np.concatenate([IDS, IDS]), np.concatenate([positions, positions])
    seen = np.concatenate([SEEN, np.arange(LENGTH)[None] < 12])
    mixed = two_copies(ids, places, places, BOI, BLOCK, seen)
    assert mixed.present.tolist() == [[True, True], [True, False]]
    assert mixed.ids[1, LENGTH:].tolist() == [BOI, 26, 27, 28, BOI, 20, 21, 22]


def two_copy_model() -> tuple[CausalTransformer, TwoCopies]:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, unrotated_groups=1, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    return CausalTransformer(config), two_copies(IDS, np.arange(LENGTH)[None], np.full_like(IDS, -1), BOI, BLOCK, SEEN)


def hidden_states(model: CausalTransformer, copies: TwoCopies, mask: AttentionMask) -> torch.Tensor:
    return model.model(torch.from_numpy(copies.ids), torch.from_numpy(copies.positions), mask=mask)


def visibility(copies: TwoCopies) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(copies.last), torch.from_numpy(copies.copy)


def reach() -> np.ndarray:
    """(S, S) whether the output at a token depends on the input at another, through several layers."""
    model, copies = two_copy_model()
    embedded = []
    model.model.embed_tokens.register_forward_hook(lambda *args: embedded.append(args[2]) or args[2].retain_grad())
    hidden = hidden_states(model, copies, copies_mask(*visibility(copies)))
    rows = []
    for token in range(hidden.shape[1]):
        gradient = torch.autograd.grad(hidden[0, token].square().sum(), embedded[0], retain_graph=True)[0]
        rows.append((gradient[0].abs().sum(-1) > 0).numpy())
    return np.stack(rows)


def test_noise_reaches_only_its_own_image_and_sees_only_what_was_before_it() -> None:
    reached = reach()
    clean, first, second = slice(0, LENGTH), slice(LENGTH, LENGTH + BLOCK), slice(LENGTH + BLOCK, LENGTH + 2 * BLOCK)
    assert not reached[clean, LENGTH:].any()  # no clean token sees noise
    assert np.array_equal(reached[clean, clean], np.tri(LENGTH, dtype=bool))
    assert reached[first, first].all() and reached[second, second].all()  # both directions
    assert not reached[first, second].any() and not reached[second, first].any()
    assert reached[first, :7].all() and not reached[first, 7:LENGTH].any()  # not its clean copy, nor what follows
    assert reached[second, :13].all() and not reached[second, 13:LENGTH].any()  # the clean image before, and words


@torch.no_grad()
def test_blocks_of_flex_attention_give_what_the_dense_mask_gives() -> None:
    model, copies = two_copy_model()
    dense = hidden_states(model, copies, copies_dense(*visibility(copies)))
    blocks = hidden_states(model, copies, copies_blocks(*visibility(copies)))
    torch.testing.assert_close(blocks, dense, atol=1e-5, rtol=1e-4)
    causal = model.model(torch.from_numpy(copies.ids), torch.from_numpy(copies.positions))
    assert not torch.allclose(dense, causal, atol=1e-3)
