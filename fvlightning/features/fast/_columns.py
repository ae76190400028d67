"""The gradient of a convolution of few channels to its input, by columns."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

# With more channels torch's own gradient is as fast.
_MOST_CHANNELS = 4


class ColumnsConv2d(nn.Conv2d):
    """A frozen convolution of few channels whose gradient to its input is computed by columns.

    The output's gradient times the weights is, for each place, the gradient to the patch that the kernel sees there: a
    column of a matrix. Columns are then added up where they overlap (Chellapilla et al. 2006,
    https://inria.hal.science/inria-00112631). torch has this gradient, but on CPUs it chooses that of oneDNN, which
    fills its vectors with channels: for the one to three channels of pictures it is two to seven times slower.

    Its weights get no gradient.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that can be computed like this and gains by it."""
        return has_few_channels(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Convolve pictures ``(B, C, H, W)``."""
        convolved: Tensor = _Columns.apply(input, self.weight, self.bias, self.stride, self.padding)
        return convolved


def has_few_channels(module: nn.Module) -> bool:
    """Whether a module is a plain convolution on the CPU with as few channels as pictures have."""
    return (
        type(module) is nn.Conv2d
        and module.in_channels <= _MOST_CHANNELS
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.weight.device.type == "cpu"
    )


class _Columns(torch.autograd.Function):
    @staticmethod
    @override
    def forward(
        ctx: Any,
        pictures: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, pictures.shape[-2:]
        return F.conv2d(pictures, weight, bias, stride, padding)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        gradient = columns_gradient(gradients[0], weight, ctx.stride, ctx.padding, ctx.size)
        return gradient, None, None, None, None


def columns_gradient(
    gradient: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Return the gradient to the input of a convolution, ``(B, C, H, W)``.

    Args:
        gradient: ``(B, O, H', W')``, to its output.
        weight: ``(O, C, K, L)``.
        stride: Down and across.
        padding: Zeros around the input, above and below, left and right.
        size: ``(H, W)`` of the input.
    """
    # Only the shape of the input is used.
    pictures = gradient.new_empty(len(gradient), weight.shape[1], *size)
    to_pictures: Tensor
    to_pictures, _, _ = torch.ops.aten._slow_conv2d_backward(
        gradient, pictures, weight, weight.shape[2:], stride, padding, [True, False, False]
    )
    return to_pictures
