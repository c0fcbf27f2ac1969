"""Low-rank adapters on a transformer's matrices (Hu et al. 2021), by peft. They are merged into the weights later."""

from dataclasses import dataclass

from torch import nn

from emu_robot.shared.settings import check_ranges, number

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Settings of low-rank adapters."""

    rank: int = number(0, 0)
    """Rank of the adapters; 0 trains all weights instead."""
    alpha: int = number(32, 1)
    """Scale of the adapters, multiplied by 1 / rank."""
    dropout: float = number(0.0, 0, below=1)
    """Share of the adapters' inputs that is dropped."""

    def __post_init__(self) -> None:
        check_ranges(self, "lora")

    def without_effect(self) -> dict[str, str]:
        """See `check_effects`."""
        return {} if self.rank else dict.fromkeys(("alpha", "dropout"), "lora.rank=0 trains without adapters")


def add_adapters(model: nn.Module, settings: LoraSettings) -> None:
    """Put adapters on every matrix of the blocks and freeze the rest. With rank 0 all weights stay trainable."""
    if settings.rank == 0:
        return
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=list(TARGETS)
    )  # type: ignore[arg-type]
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_adapters(model: nn.Module) -> None:
    """Merge the adapters into the matrices and remove them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                setattr(parent, name, module.get_base_layer())
