"""Start a head from another one's weights, whatever of them fits its own cameras, dimensions and words."""

import torch

from emu_robot.models.action_head import ActionHead, HeadConfig
from emu_robot.models.weights import StageWeights


def warm_start(head: ActionHead, weights: StageWeights) -> list[str]:
    """Copy what fits into `head`; returns the names of its parameters that start anew.

    Cameras take over by their place, the first one being the planner's; further ones begin as the other head's last.
    Places of words beyond the other head's longest text start anew.
    """
    other = HeadConfig(**weights.config).cameras
    state = dict(weights.state)
    for i, camera in enumerate(head.config.cameras):
        source = other[min(i, len(other) - 1)]
        for name, value in weights.state.items():
            for part in (f"{source}_stem.", f"{source}_trunk."):
                if name.startswith(part):
                    state[f"{camera}{name.removeprefix(source)}"] = value
    anew = []
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            given = state.get(name)
            if given is not None and given.shape == parameter.shape:
                parameter.copy_(given)
            elif given is not None and name == "text.position":
                rows = min(len(given), len(parameter))
                parameter[:rows] = given[:rows]
            else:
                anew.append(name)
    return anew
