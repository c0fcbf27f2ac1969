"""Training that starts from other weights: the settings that they fix, and the parts of a head that fit another."""

import torch
from torch import Tensor

from emu_robot.errors import ConfigError
from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.weights import StageWeights
from emu_robot.tokenizers.text import TextTokenizer
from emu_robot.training.loop import LoopConfig


def check_one_start(start: str, loop: LoopConfig) -> None:
    """Raise `ConfigError` if two settings name weights to start from."""
    if start and loop.init_from is not None:
        raise ConfigError(
            f"start={start} and loop.init_from={loop.init_from} both name weights to start from; give one"
        )


def idle_with_start(key: str, start: str) -> dict[str, str]:
    """For `without_effect`: `key` does nothing if `start` is given."""
    return {key: f"it comes from the weights that start={start} names"} if start else {}


def warm_start(
    head: ActionHead, weights: StageWeights, words: tuple[TextTokenizer, TextTokenizer] | None = None
) -> list[str]:
    """Copy all fitting parameters into `head`. Returns the names of those that start untrained.

    Cameras correspond by their order, the planner's first; additional ones start as the other head's last camera.
    Positions of words beyond the other head's longest text start untrained. words: the other head's text tokenizer and
    this one's; without them other words start untrained.
    """
    other = weights.settings(HeadConfig).cameras
    state = dict(weights.state)
    for i, camera in enumerate(head.config.cameras):
        source = other[min(i, len(other) - 1)]
        for name, value in weights.state.items():
            for part in (f"{source}_stem.", f"{source}_trunk."):
                if name.startswith(part):
                    state[f"{camera}{name.removeprefix(source)}"] = value
    fresh = []
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            given = state.get(name)
            if given is not None and name == "text.embedding.weight" and words is not None:
                parameter[0] = given[0]  # padding
                parameter[1:] = carried_words(given[1:], *words)
            elif given is not None and given.shape == parameter.shape:
                parameter.copy_(given)
            elif given is not None and name == "text.position":
                rows = min(len(given), len(parameter))
                parameter[:rows] = given[:rows]
            else:
                fresh.append(name)
    return fresh


def carried_words(old_VD: Tensor, old: TextTokenizer, new: TextTokenizer) -> Tensor:
    """(V', D) embeddings of the new pieces of words: the mean of the old pieces that spell each."""
    return torch.stack([old_VD[old.spell(piece)].mean(0) for piece in new.pieces])
