"""Plans decoded in every precision on a GPU without numbers: one code at a time and in parallel, guided too."""

import pytest
import torch
from fake_cuda import fake_cuda

from emu_robot.models.transformer import CausalTransformer
from emu_robot.models.transformer_sizes import TransformerConfig
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.decoding.factory import make_image_decoder
from emu_robot.planner.decoding.grammar import PlanGrammar
from emu_robot.planner.decoding.noise_paths import PathName, make_noise_path
from emu_robot.planner.decoding.plan_decoder import PlanDecoder
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.tokenizers.vocabulary import Vocabulary

WORDS = Vocabulary(text_size=20, book_size=30)
GRAMMAR = PlanGrammar(vocabulary=WORDS, template=(None, None, WORDS.eol, None, None), max_words=3, image_stride=16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("hot", [0.0, 1.0])
@pytest.mark.parametrize("path", ["", *PathName])
def test_a_batch_of_plans(path: str, hot: float, dtype: torch.dtype) -> None:
    prompts = [[WORDS.bos, 5, 6, WORDS.boi, *[WORDS.first_code] * 2, WORDS.eol, *[WORDS.first_code] * 2, WORDS.eoi]]
    prompts.append([WORDS.bos, *prompts[0][2:]])
    with fake_cuda(dtype):
        model = CausalTransformer(TransformerConfig(vocab_size=WORDS.size, num_hidden_layers=2)).eval()
        sampling = SamplingConfig(image_guidance=1.0 + hot, text_temperature=hot, image_temperature=hot, text_top_k=5)
        config = DecoderConfig(kind=Decoder.DIDA if path else Decoder.AR, steps=2)
        codebook = torch.randn(1, WORDS.n_codes, 4)
        images = make_image_decoder(config, make_noise_path(path, codebook) if path else None, codebook, sampling)
        for produced in PlanDecoder(model, GRAMMAR, sampling, images).generate(prompts, 2, [0, 1]):
            assert produced[-1] == WORDS.eoi and produced.count(WORDS.boi) == 2
