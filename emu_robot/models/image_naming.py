"""What the cells of an image show, told halfway through a planner's blocks.

Shapes: N cells, D hidden, K names.
"""

from torch import Tensor, nn

from emu_robot.models.rms_norm import RMSNorm

RARE = -5.0
"""First bias of a name: a cell seldom shows it."""


class ImageNaming(nn.Module):
    """(..., D) residual stream -> (..., K) logits of each name.

    A cell is asked about where its neighbour below and to the right is read: all around it has been read then. So the
    first half of the blocks recognises things, and the second half has their names to choose from.
    """

    def __init__(self, hidden_size: int, n_names: int, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size, eps)
        self.name = nn.Linear(hidden_size, n_names)
        nn.init.normal_(self.name.weight, std=0.02)
        nn.init.constant_(self.name.bias, RARE)

    def forward(self, states: Tensor) -> Tensor:
        return self.name(self.norm(states))
