"""Which image decoder a planner uses: one code at a time, or all at once where its weights were adapted to it."""

from torch import Tensor

from emu_robot.errors import ConfigError
from emu_robot.planner.decoding.autoregressive import AutoregressiveImageDecoder
from emu_robot.planner.decoding.config import Decoder, DecoderConfig
from emu_robot.planner.decoding.dida import DidaConfig, DidaImageDecoder
from emu_robot.planner.decoding.noise_paths import make_noise_path
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.planner.decoding.session import ImageDecoder


def make_image_decoder(
    config: DecoderConfig, dida_path: str, codebook_KD: Tensor, sampling: SamplingConfig
) -> ImageDecoder:
    """The decoder that `config` asks for; dida_path: the path that the weights were adapted to, "" for none.

    Raises `ConfigError` if dida is asked of weights that were not adapted.
    """
    if config.kind is Decoder.DIDA and not dida_path:
        raise ConfigError("decoder=dida needs weights adapted by `emu-robot train stage=dida`; these take decoder=ar")
    if config.kind is Decoder.AR or not dida_path:
        return AutoregressiveImageDecoder(sampling, codebook_KD)
    settings = DidaConfig(
        steps=config.steps,
        temperature=config.temperature,
        top_k=sampling.image_top_k,
        likeness=sampling.image_likeness,
        guidance=sampling.image_guidance,
        guided_until=config.guided_until,
    )
    return DidaImageDecoder(make_noise_path(dida_path, codebook_KD), settings, codebook_KD)
