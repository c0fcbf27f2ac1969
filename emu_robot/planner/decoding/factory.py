"""Which image decoder a planner uses: one code at a time, or all at once where its weights were adapted to it."""

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from emu_robot.errors import ConfigError
from emu_robot.planner.decoding.autoregressive import AutoregressiveImageDecoder
from emu_robot.planner.decoding.dida import DidaConfig, DidaImageDecoder
from emu_robot.planner.decoding.noise_paths import make_noise_path
from emu_robot.planner.decoding.sampling import SamplingConfig
from emu_robot.planner.decoding.session import ImageDecoder
from emu_robot.shared.settings import check_ranges, number


class Decoder(StrEnum):
    """auto: dida for weights adapted to it, else ar."""

    AUTO = "auto"
    AR = "ar"
    DIDA = "dida"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """How subgoal images are decoded."""

    kind: Decoder = Decoder.AUTO
    """One code at a time, or all at once."""
    steps: int = number(1, 1)
    """Passes per image of dida."""
    temperature: float = number(1.0, 0)
    """Temperature of each pass of dida but the last, which is greedy."""
    guided_until: float = number(1.0, 0, 1)
    """Time at which the guidance of dida ends; 1 is the clean image."""

    def __post_init__(self) -> None:
        check_ranges(self, "decoder")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        of_dida = ("steps", "temperature", "guided_until")
        return dict.fromkeys(of_dida, "kind=ar") if self.kind is Decoder.AR else {}


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
