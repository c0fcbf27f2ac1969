"""Local codes: a cell's features depend on its pixels alone."""

import torch

from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig


def test_a_change_in_one_cell_reaches_no_other() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(encoder=EncoderKind.local)).eval()
    before = torch.rand(1, 3, 128, 128) * 2 - 1
    after = before.clone()
    after[:, :, 64:80, 64:80] = before[
        :, :, 16:32, 96:112
    ]  # the cell in row 4, column 4 becomes that in row 1, column 6
    with torch.inference_mode():
        old, new = tokenizer.features(before), tokenizer.features(after)
    moved = (new - old).abs().amax(1)[0] > 1e-5
    assert moved.nonzero().tolist() == [[4, 4]]
    torch.testing.assert_close(new[..., 4, 4], old[..., 1, 6], atol=1e-5, rtol=1e-4)  # same pixels, same code anywhere


def test_the_global_encoder_spreads_it() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(encoder=EncoderKind.official)).eval()
    before = torch.rand(1, 3, 128, 128) * 2 - 1
    after = before.clone()
    after[:, :, 64:80, 64:80] = 0.5
    with torch.inference_mode():
        moved = (tokenizer.features(after) - tokenizer.features(before)).abs().amax(1)[0] > 1e-5
    assert moved.float().mean() > 0.9
