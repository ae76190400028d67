"""Max poolings that do the work of the ReLU before them."""

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast.hooks import has_hooks


class RectifiedMaxPool2d(nn.MaxPool2d):
    """A max pooling, and behind it the ReLU that the network has before it.

    The largest of rectified values is the largest value, rectified, and the gradient goes the same way; but behind the
    pooling there are fewer of them, of a ResNet's first ones a quarter.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a max pooling that can be computed so, and that nobody looks at."""
        return type(module) is nn.MaxPool2d and not module.return_indices and not has_hooks(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Pool maps ``(B, C, H, W)`` that are not rectified yet."""
        pooled: Tensor = super().forward(input)
        return F.relu(pooled, inplace=True)


class LateReLU(nn.ReLU):
    """Stands where a ReLU was that is computed behind the pooling after it, so that its path remains."""

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a ReLU that can be computed later, and that nobody looks at."""
        return type(module) is nn.ReLU and not has_hooks(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return what comes in."""
        return input
