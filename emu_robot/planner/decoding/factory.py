"""Choose a planner's image decoder: one code at a time, or all at once if its weights were adapted to it."""

from torch import Tensor

from emu_robot.planner.decoding.autoregressive import AutoregressiveImageDecoder
from emu_robot.planner.decoding.config import Decoder, DecoderConfig, check_adapted
from emu_robot.planner.decoding.dida import DidaConfig, DidaImageDecoder
from emu_robot.planner.decoding.noise_paths import NoisePath
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.planner.decoding.session import ImageDecoder


def make_image_decoder(
    config: DecoderConfig, path: NoisePath | None, books_PSD: Tensor, sampling: SamplingConfig
) -> ImageDecoder:
    """The decoder of `config`; path: the noise path that the weights were adapted to, None for none.

    Raises `ConfigError` for dida with weights that were not adapted.
    """
    check_adapted(config.kind, path is not None)
    if config.kind is Decoder.AR or path is None:
        return AutoregressiveImageDecoder(sampling, books_PSD)
    settings = DidaConfig(
        steps=config.steps,
        temperature=config.temperature,
        top_k=sampling.image_top_k,
        likeness=sampling.image_likeness,
        guidance=sampling.image_guidance,
        guided_until=config.guided_until,
    )
    return DidaImageDecoder(path, settings, books_PSD)
