"""Settings of image decoding. Loads no torch, so that a configuration may name a decoder without it."""

from dataclasses import dataclass
from enum import StrEnum

from emu_robot.errors import ConfigError
from emu_robot.shared.settings import check_ranges, number


class Decoder(StrEnum):
    """How an image is decoded: code by code (ar), all codes at once (dida), or as the weights allow (auto)."""

    AUTO = "auto"
    AR = "ar"
    DIDA = "dida"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Settings of the planner's image decoder. Raises `InvalidValueError` for a number out of its range."""

    kind: Decoder = Decoder.AUTO
    """The decoder; auto takes dida for weights adapted to it, else ar."""
    steps: int = number(1, 1)
    """Passes per image; only for dida."""
    temperature: float = number(1.0, 0)
    """Temperature of the guess of every pass but the last, which is greedy; only for dida."""
    guided_until: float = number(1.0, 0, 1)
    """Time at which guidance ends; 1 is the clean image; only for dida."""

    def __post_init__(self) -> None:
        check_ranges(self, "decoder")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        of_dida = ("steps", "temperature", "guided_until")
        return dict.fromkeys(of_dida, "kind=ar") if self.kind is Decoder.AR else {}


def check_adapted(kind: Decoder, adapted: bool) -> None:
    """Raise `ConfigError` if dida is asked of weights that were not adapted to it."""
    if kind is Decoder.DIDA and not adapted:
        raise ConfigError("decoder=dida needs weights adapted by `emu-robot train stage=dida`; these take decoder=ar")
