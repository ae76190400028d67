"""Max poolings that do the work of the ReLU before them."""

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast._hooks import has_hooks


class RectifiedMaxPool2d(nn.MaxPool2d):
    """A max pooling, followed by the ReLU that the network has before it.

    The largest of rectified values is the largest value, rectified, and the gradient goes the same way. Behind the
    pooling there are fewer values: a quarter in a ResNet's stem.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a max pooling that can be computed like this, without hooks."""
        return type(module) is nn.MaxPool2d and not module.return_indices and not has_hooks(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Pool maps ``(B, C, H, W)`` that are not rectified yet."""
        pooled: Tensor = super().forward(input)
        return F.relu(pooled, inplace=True)


class LateReLU(nn.ReLU):
    """Takes the place of a ReLU that is computed behind the pooling after it, so that its path remains."""

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a ReLU that can be computed later, without hooks."""
        return type(module) is nn.ReLU and not has_hooks(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return the input."""
        return input
