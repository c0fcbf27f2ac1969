"""Local codes: what changes in one place of the picture changes no feature elsewhere."""

import torch

from emu_robot.tokenizers.image import ImageTokenizer, ImageTokenizerConfig


def test_a_change_in_one_cell_reaches_its_neighbours_only() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(local_encoder=True)).eval()
    before = torch.rand(1, 3, 128, 128) * 2 - 1
    after = before.clone()
    after[:, :, 64:80, 64:80] = 0.5  # the cell in row 4, column 4
    with torch.inference_mode():
        moved = (tokenizer.features(after) - tokenizer.features(before)).abs().amax(1)[0] > 1e-5
    assert moved[4, 4]
    assert not moved[:3].any() and not moved[6:].any() and not moved[:, :3].any() and not moved[:, 6:].any()


def test_the_global_encoder_spreads_it() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(local_encoder=False)).eval()
    before = torch.rand(1, 3, 128, 128) * 2 - 1
    after = before.clone()
    after[:, :, 64:80, 64:80] = 0.5
    with torch.inference_mode():
        moved = (tokenizer.features(after) - tokenizer.features(before)).abs().amax(1)[0] > 1e-5
    assert moved.float().mean() > 0.9
