"""Compares image decoding: one code at a time (ours, and `transformers` generate on the same weights), and DiDA.

python benchmarks/decoding.py [--sizes mini 100m] [--codes 64 256] [--steps 1 4 8] [--device auto] [--repeats 5]

The weights are random, because the time of a pass does not depend on them. Each method writes one image after a prompt
of the same length that contains an image. Times are medians of wall-clock milliseconds of the image alone, without the
first call. Ratios are relative to one code at a time in the same block, with the same guidance and arithmetic.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable

import numpy as np
import torch

from emu_robot.models.int8 import supported, to_int8
from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.planner.decoding.autoregressive import AutoregressiveImageDecoder
from emu_robot.planner.decoding.dida import DidaConfig, DidaImageDecoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.noise_paths import make_noise_path
from emu_robot.planner.decoding.sampling import RowGenerators, SamplingConfig
from emu_robot.planner.decoding.session import DecodingSession, ImageDecoder
from emu_robot.tokenizers.vocabulary import Vocabulary

WORDS = Vocabulary(text_size=411, book_size=4096)
MODELS = {
    "mini": TransformerConfig(vocab_size=WORDS.size, references=False, unrotated_groups=0),
    "100m": TransformerConfig(
        vocab_size=WORDS.size, hidden_size=768, intermediate_size=2304, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=4, head_dim=64, references=False, unrotated_groups=0,
    ),
}  # fmt: skip
INSTRUCTION = list(range(20, 32))
ONE_BY_ONE = "one code at a time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=MODELS, default=["mini"])
    parser.add_argument("--codes", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(wanted.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"one CPU thread of {os.cpu_count()} cores"
    print(f"{name}, torch {torch.__version__}, medians of {wanted.repeats}")
    for size in wanted.sizes:
        model = CausalTransformer(MODELS[size]).eval().requires_grad_(False).to(device)
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        for n_codes in wanted.codes:
            print(f"\n{size} ({millions:.0f} M parameters), {n_codes} codes per image")
            theirs = transformers_ms(model, n_codes, wanted.repeats)
            models = {"as it is": model}
            if supported(device):
                models["int8"] = copy.deepcopy(model)
                to_int8(models["int8"], [slice(WORDS.first_code, WORDS.size)])
            for arithmetic, network in models.items():
                for guidance in (1.0, 2.0):
                    methods = decoders(network, guidance, wanted.steps)
                    times = {name: image_ms(network, how, n_codes, wanted.repeats) for name, how in methods.items()}
                    if guidance == 1:
                        times["transformers generate, as it is"] = theirs
                    print_times(f"{arithmetic}, {'guided' if guidance > 1 else 'not guided'}", n_codes, times)


def print_times(title: str, n_codes: int, times: dict[str, float]) -> None:
    print(f" {title}")
    for name, ms in times.items():
        ratio = times[ONE_BY_ONE] / ms
        print(f"  {name:32} {ms:9.1f} ms   {1000 * n_codes / ms:8.0f} codes/s   {ratio:6.2f} x")


def decoders(model: CausalTransformer, guidance: float, steps: list[int]) -> dict[str, ImageDecoder]:
    """Our image decoders by name."""
    codebook = torch.randn(1, WORDS.n_codes, 32, device=model.lm_head.weight.device)
    path = make_noise_path("metric", codebook)
    methods: dict[str, ImageDecoder] = {
        ONE_BY_ONE: AutoregressiveImageDecoder(SamplingConfig(image_guidance=guidance), codebook)
    }
    for count in steps:
        settings = DidaConfig(steps=count, guidance=guidance)
        methods[f"DiDA, {count} steps"] = DidaImageDecoder(path, settings, codebook)
    return methods


@torch.inference_mode()
def image_ms(model: CausalTransformer, decoder: ImageDecoder, n_codes: int, repeats: int) -> float:
    """Median time of one image, including the writing of its keys and values."""
    grammar = PlanGrammar(vocabulary=WORDS, template=(None,) * n_codes)
    device = model.lm_head.weight.device

    def prepare() -> Callable[[], object]:
        session = DecodingSession(model, grammar, [prompt(n_codes)], 2 * n_codes + 64, decoder.guides)
        for branch in session.branches:
            branch.advance()
        session.choose(0, WORDS.boi)
        generators = RowGenerators.seeded([0], device)

        def decode() -> None:
            decoder.decode_image(session, [0], generators)
            session.choose(0, WORDS.eoi)
            for branch in session.branches:
                branch.advance()

        return decode

    return median_ms(prepare, device, repeats)


@torch.inference_mode()
def transformers_ms(model: CausalTransformer, n_codes: int, repeats: int) -> float:
    """Median time of `generate` for `n_codes` ids. The time of the prompt is measured separately and subtracted."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {
        key: value for key, value in vars(model.config).items() if key not in ("references", "unrotated_groups")
    }
    theirs = Qwen3ForCausalLM(Qwen3Config(**settings)).eval().to(model.lm_head.weight.device)
    theirs.load_state_dict(model.state_dict())
    ids = torch.tensor([[*prompt(n_codes), WORDS.boi]], device=model.lm_head.weight.device)

    def generate(count: int) -> float:
        def call() -> None:
            theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False,
                pad_token_id=WORDS.pad,
            )  # fmt: skip

        return median_ms(lambda: call, ids.device, repeats)

    return generate(n_codes + 1) - generate(1)


def prompt(n_codes: int) -> list[int]:
    """bos, an instruction, an image, and the words of a step."""
    codes = np.random.default_rng(0).integers(WORDS.n_codes, size=n_codes) + WORDS.first_code
    return [WORDS.bos, *INSTRUCTION, WORDS.boi, *codes.tolist(), WORDS.eoi, WORDS.bos_step, *INSTRUCTION]


def median_ms(prepare: Callable[[], Callable[[], object]], device: torch.device, repeats: int) -> float:
    """Median wall-clock time of the function that `prepare` returns, without the first call."""
    spent = []
    for _ in range(repeats + 1):
        function = prepare()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(1000 * (time.perf_counter() - start))
    return float(np.median(spent[1:]))


if __name__ == "__main__":
    main()
