"""The image tokenizer: official checkpoints reproduce, every code learns, wrong input is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from emu_robot.errors import InvalidValueError, ShapeError, WeightsError
from emu_robot.models.digits import join_digits, split_digits
from emu_robot.models.weights import save_weights
from emu_robot.tokenizers.image import EncoderKind, ImageTokenizer, ImageTokenizerConfig, to_pixels, to_uint8
from emu_robot.tokenizers.local_encoder import LocalEncoder, distinct
from emu_robot.tokenizers.object_naming import NamedCells, ObjectNaming
from emu_robot.tokenizers.quantizer import IndexBackpropagationQuantizer, entropy_loss

GOLDEN = Path(__file__).parents[1] / "golden/tiny_ibq"


def tiny_config(**changes) -> ImageTokenizerConfig:
    layout = {"resolution": 32, "ch": 16, "ch_mult": [1, 2], "z_channels": 16, "embed_dim": 8, "n_embed": 64}
    return ImageTokenizerConfig(**{**layout, **changes})


def images(n: int = 3, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_official_checkpoint_gives_official_codes_and_reconstruction() -> None:
    config = ImageTokenizerConfig(
        resolution=64,
        patch_size=1,
        ch=32,
        ch_mult=[1] * 5,
        num_res_blocks=1,
        attn_resolutions=[4],
        z_channels=16,
        embed_dim=16,
        n_embed=256,
        learned_position=False,
        encoder=EncoderKind.official,
        l2_norm=False,
        scale=1.0,
    )
    tokenizer = ImageTokenizer(config)
    tokenizer.load_state_dict(torch.load(GOLDEN / "model.ckpt", weights_only=True)["state_dict"])
    golden = load_file(GOLDEN / "golden.safetensors")
    with torch.no_grad():
        assert torch.equal(tokenizer.encode(golden["image"]), golden["codes"])
        torch.testing.assert_close(tokenizer.decode(golden["codes"]), golden["reconstruction"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("l2_norm", [False, True])
def test_gradient_reaches_every_code_and_the_encoder(l2_norm: bool) -> None:
    torch.manual_seed(0)
    quantizer = IndexBackpropagationQuantizer(128, 8, l2_norm=l2_norm)
    z = torch.randn(1, 8, 3, 3, requires_grad=True)
    quantized = quantizer(z)
    assert len(quantized.codes.unique()) < 10
    wanted = [quantizer.embedding.weight, z]
    book_gradient, z_gradient = torch.autograd.grad((quantized.z_q * torch.randn_like(z)).sum(), wanted)
    assert (book_gradient.abs().sum(1) > 0).all()
    assert (z_gradient.abs().sum(1) > 0).all()


def test_gradients_are_those_of_the_dense_formula() -> None:
    torch.manual_seed(0)
    quantizer = IndexBackpropagationQuantizer(32, 8)
    z, weight = torch.randn(2, 8, 4, 4, requires_grad=True), torch.randn(2, 8, 4, 4)
    wanted = [z, quantizer.embedding.weight]
    ours = torch.autograd.grad((quantizer(z).z_q * weight).sum(), wanted)
    book = quantizer.embedding.weight
    soft = (z.permute(0, 2, 3, 1).reshape(-1, 8) @ book.T).softmax(-1)
    one_hot = F.one_hot(soft.argmax(-1), 32) - soft.detach() + soft
    dense = (one_hot @ book).view(2, 4, 4, 8).permute(0, 3, 1, 2)
    theirs = torch.autograd.grad((dense * weight).sum(), wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_entropy_loss_prefers_sharp_and_varied_codes() -> None:
    sharp_varied, sharp_same = 5 * torch.eye(8), 5 * torch.eye(8)[:1].expand(8, 8)
    assert entropy_loss(sharp_varied) < entropy_loss(sharp_same)
    assert entropy_loss(sharp_varied) < entropy_loss(torch.zeros(8, 8)) - 1


def test_codes_round_trip_through_the_quantizer() -> None:
    quantizer = IndexBackpropagationQuantizer(64, 8, l2_norm=True)
    codes = torch.randint(64, (2, 4, 4))
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_idle_codes_are_revived_where_the_book_fits_badly() -> None:
    torch.manual_seed(0)
    quantizer = IndexBackpropagationQuantizer(32, 4, l2_norm=True)
    z = F.normalize(torch.randn(64, 4), dim=-1).T.reshape(1, 4, 8, 8)
    with torch.no_grad():
        quantizer.embedding.weight[:] = torch.tensor([1.0, 0, 0, 0]) + 0.01 * torch.randn(32, 4)

    def misfit() -> float:
        return float((quantizer.decode(quantizer.encode(z)) - z).detach().square().mean())

    used, before = quantizer.encode(z).unique(), misfit()
    kept = quantizer.embedding.weight[used].clone()
    assert quantizer.revive(z) == 32 - len(used)
    assert torch.equal(quantizer.embedding.weight[used], kept)
    assert misfit() < before / 3


def test_training_pass_agrees_with_encode_and_decode() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(tiny_config())
    pixels = to_pixels(torch.from_numpy(images()))
    with torch.no_grad():
        output, quantized = tokenizer(pixels)
        assert torch.equal(quantized.codes, tokenizer.encode(pixels))
        torch.testing.assert_close(output, tokenizer.decode(quantized.codes), atol=1e-5, rtol=1e-4)


def test_arrays_in_and_out() -> None:
    tokenizer = ImageTokenizer(tiny_config())
    codes = tokenizer.encode_images(images(3), batch_size=2)
    assert codes.shape == (3, 16)
    assert codes.dtype == np.uint32
    decoded = tokenizer.decode_images(codes)
    assert decoded.shape == (3, 32, 32, 3)
    assert decoded.dtype == np.uint8
    assert np.array_equal(codes, np.concatenate([tokenizer.encode_images(image[None]) for image in images(3)]))


@pytest.mark.parametrize("channels", [16, 64], ids=["a value per group", "more"])
def test_the_smallest_picture_is_one_code(channels: int) -> None:
    config = tiny_config(ch=channels, ch_mult=[1, 1], learned_position=False, encoder=EncoderKind.official)
    tokenizer, side = ImageTokenizer(config).eval(), config.downscale
    pixels = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        codes = tokenizer.encode(pixels)
        assert codes.shape == (1, 1, 1)
        assert tokenizer.decode(codes).shape == pixels.shape and tokenizer.decode(codes).isfinite().all()


def test_pixels_round_trip() -> None:
    original = torch.from_numpy(images())
    assert torch.equal(to_uint8(to_pixels(original)), original)


def test_wrong_input_is_named() -> None:
    tokenizer = ImageTokenizer(tiny_config())
    with pytest.raises(ShapeError, match=r"\(1, 16, 16, 3\) uint8, expected \(B, 32, 32, 3\)"):
        tokenizer.encode_images(images(1, 16))
    with pytest.raises(ShapeError, match=r"codes: got \(1, 7\), expected \(B, 16\)"):
        tokenizer.decode_images(np.zeros((1, 7), np.uint32))
    with pytest.raises(InvalidValueError, match=r"64\.\.64, must be in 0\.\.63"):
        tokenizer.decode_images(np.full((1, 16), 64, np.uint32))
    with pytest.raises(InvalidValueError, match="resolution is 36"):
        tiny_config(resolution=36)


def test_saved_and_loaded(tmp_path: Path) -> None:
    tokenizer = ImageTokenizer(tiny_config())
    save_weights(tmp_path, "tokenizer", tokenizer.state_dict(), tokenizer.config)
    assert np.array_equal(ImageTokenizer.load(tmp_path).encode_images(images()), tokenizer.encode_images(images()))
    save_weights(tmp_path, "tokenizer", tokenizer.state_dict(), tiny_config(ch=32))
    with pytest.raises(WeightsError, match="tokenizer weights do not fit"):
        ImageTokenizer.load(tmp_path)


def test_the_digits_of_a_code_come_from_two_books() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(tiny_config(code_books=2)).eval()
    assert (tokenizer.config.grid, tokenizer.config.n_codes, tokenizer.config.code_values) == (4, 16, 32**2)
    codes = tokenizer.encode_images(images())
    assert codes.shape == (3, 16) and codes.max() < 32**2
    with torch.no_grad():
        pixels = to_pixels(torch.from_numpy(images()))
        output = tokenizer(pixels)
        assert np.array_equal(output.quantized.codes.flatten(1).numpy(), codes), "training and encoding agree"
        z = tokenizer.quantize.decode(output.quantized.codes)
        torch.testing.assert_close(z, output.quantized.z_q)
        digits = split_digits(output.quantized.codes, 32, 2)
        parts = [book[digits[..., i]] for i, book in enumerate(tokenizer.quantize.books())]
        torch.testing.assert_close(torch.cat(parts, -1).permute(0, 3, 1, 2), z)
    for digit in (1, 32):
        other = codes.copy()
        other[:, 1] = (other[:, 1] + 5 * digit) % 32**2
        assert not np.array_equal(tokenizer.decode_images(codes), tokenizer.decode_images(other)), (
            "both digits are seen"
        )
    quantized = tokenizer.train()(pixels).quantized
    wanted = [weight for name, weight in tokenizer.quantize.named_parameters() if "embedding" in name]
    assert all(
        gradient.abs().sum() > 0
        for gradient in torch.autograd.grad(quantized.z_q.square().sum() + quantized.loss, wanted)
    )
    with pytest.raises(InvalidValueError, match="tokenizer.n_embed is 64, must be a multiple of code_books=3"):
        tiny_config(code_books=3)
    with pytest.raises(InvalidValueError, match="make over 4294967296 codes"):
        tiny_config(code_books=16, n_embed=128, embed_dim=16)


def test_digits_are_joined_and_split():
    digits = torch.tensor([[3, 0], [0, 5], [31, 31]])
    assert join_digits(digits, 32).tolist() == [96, 5, 1023]
    assert torch.equal(split_digits(join_digits(digits, 32), 32, 2), digits)


def test_objects_are_found_where_the_cells_say() -> None:
    naming = ObjectNaming(4, ["a", "b"], width=4)
    logits, offsets = torch.full((1, 3, 4, 4), -20.0), torch.zeros(1, 2, 4, 4)
    logits[:, 2] = 0
    logits[0, :, 1, 1] = torch.tensor([9.0, 0, 0])
    logits[0, :, 1, 2] = torch.tensor([9.0, 0, 9.0])  # the same object, near the border
    logits[0, :, 3, 3] = torch.tensor([-9.0, 9.0, 0])
    offsets[0, :, 1, 1], offsets[0, :, 1, 2] = torch.tensor([0.5, 0.25]), torch.tensor([-0.5, 0.25])
    naming.forward = lambda z: NamedCells(logits, offsets)  # pyright: ignore[reportAttributeAccessIssue]
    a, b = naming.objects(torch.zeros(1, 4, 4, 4))[0]
    assert (a.name, b.name) == ("a", "b") and a.probability > 0.99
    assert (a.u, a.v) == (pytest.approx(2 / 4), pytest.approx(1.75 / 4))
    assert (b.u, b.v) == (pytest.approx(3.5 / 4), pytest.approx(3.5 / 4))


@pytest.mark.parametrize("parts", [1, 2])
def test_equal_cells_are_computed_once_with_the_same_result(parts: int) -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(tiny_config(code_books=parts, local_width=16, local_blocks=1))
    encoder = tokenizer.encoder
    assert isinstance(encoder, LocalEncoder)
    images = torch.rand(3, 3, 32, 32).repeat(2, 1, 1, 1) * 2 - 1
    images[:, :, :16] = 0.25  # half of the cells are equal
    first, like = distinct(encoder.split(images))
    side = tokenizer.config.grid
    assert len(like) == 6 * side**2 and len(first) == 1 + 3 * side**2 // 2
    torch.testing.assert_close(encoder.split(images)[first][like], encoder.split(images))
    output = tokenizer(images)
    plain = tokenizer.quantize(tokenizer.features(images))
    assert torch.equal(output.quantized.codes, plain.codes)
    torch.testing.assert_close(output.quantized.z_q, plain.z_q)
    wanted = tokenizer.decoder(tokenizer.post_quant_conv(plain.z_q))
    torch.testing.assert_close(output.images, wanted)
    weight = encoder.conv_in.weight
    given, plain_gradient = (torch.autograd.grad(x.square().mean(), weight)[0] for x in (output.images, wanted))
    torch.testing.assert_close(given, plain_gradient)
