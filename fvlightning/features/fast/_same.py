"""Depthwise convolutions with TensorFlow's 'same' padding, without a padded copy of their input."""

import sys

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class SameConv2d(nn.Conv2d):
    """A depthwise ``Conv2dSame`` of timm that does not copy its input into a larger one, nor its gradient back.

    TensorFlow pads one zero more behind than before if their number is odd. As many on both sides, and a zero before
    the weights, give the same by an ordinary convolution. Depthwise convolutions wait for memory: the larger kernel
    costs nothing, and forward and backward pass take 0.6 to 0.75 of the time. Others compute more, and gain nothing.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that can be computed like this and gains by it."""
        return (
            is_same_convolution(module)
            and isinstance(module, nn.Conv2d)
            and module.dilation == (1, 1)
            and module.groups == module.in_channels > 1
        )

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(B, C, H, W)``."""
        rows, columns = (
            max((size - 1) // stride * stride + kernel - size, 0)
            for size, kernel, stride in zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        weight = F.pad(self.weight, (columns % 2, 0, rows % 2, 0))
        padding = (rows + 1) // 2, (columns + 1) // 2
        return F.conv2d(input, weight, self.bias, self.stride, padding, groups=self.groups)


def is_same_convolution(module: nn.Module) -> bool:
    """Whether a module is timm's ``Conv2dSame``, and not of a subclass, whose padding may be another."""
    # Importing timm takes seconds; where there is such a module, it has been imported.
    timm = sys.modules.get("timm.layers.conv2d_same")
    return timm is not None and type(module) is timm.Conv2dSame
