"""The gradient of a strided convolution to the pictures, by one small convolution for all four phases of its stride."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast._columns import has_few_channels

# `ColumnsConv2d` is faster for smaller kernels, whose columns take little memory.
_SMALLEST_KERNEL = 6


class StridedConv2d(nn.Conv2d):
    """A frozen convolution of stride 2 whose gradient to its input is computed by phases.

    Pixels in even and in odd rows and columns see only every other weight of the kernel. The gradient to each of these
    four kinds is an ordinary convolution of the output's gradient with its weights. All four together are one
    convolution to four times the channels, whose results are then interleaved (Shi et al. 2016,
    https://arxiv.org/abs/1609.07009, use this for enlarging). For the few channels of pictures this takes half the time
    of the library's gradient on CPUs.

    Its weights get no gradient.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that can be computed like this and gains by it."""
        return (
            has_few_channels(module)
            and isinstance(module, nn.Conv2d)
            and module.stride == (2, 2)
            and min(module.kernel_size) >= _SMALLEST_KERNEL
        )

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Convolve pictures ``(B, C, H, W)``."""
        convolved: Tensor = _Strided.apply(input, self.weight, self.bias, self.padding)
        return convolved


class _Strided(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, pictures: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.size = padding, pictures.shape[-2:]
        return F.conv2d(pictures, weight, bias, stride=2, padding=padding)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        (weight,) = ctx.saved_tensors
        return strided_gradient(gradients[0], weight, ctx.padding, ctx.size), None, None, None


def strided_gradient(gradient: Tensor, weight: Tensor, padding: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the gradient to the input of a convolution of stride 2, ``(B, C, H, W)``.

    Args:
        gradient: ``(B, O, H', W')``, to its output.
        weight: ``(O, C, K, L)``.
        padding: Zeros around the input, above and below, left and right.
        size: ``(H, W)`` of the input.
    """
    rows, columns = (_Side(weight.shape[dim], padding[dim - 2], size[dim - 2]) for dim in (2, 3))
    padded = F.pad(weight, (*columns.zeros, *rows.zeros))
    blocks = padded.reshape(*padded.shape[:2], padded.shape[2] // 2, 2, -1, 2).flip(2, 4)
    # (O, C, T, 2, U, 2) -> (C * 2 * 2, O, T, U), in the order of `pixel_shuffle`.
    kernels = blocks.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
    margins = rows.margin(gradient.shape[2]), columns.margin(gradient.shape[3])
    phases = F.conv2d(gradient, kernels, padding=margins)
    return F.pixel_shuffle(phases[:, :, rows.part(margins[0]), columns.part(margins[1])], 2)[..., : size[0], : size[1]]


class _Side:
    """How the rows, or columns, of input and output of a convolution of stride 2 belong together.

    Input ``2 m + a`` meets output ``m + d`` by weight ``a + padding - 2 d``: each d has a block of two weights.

    Args:
        kernel: The number of weights.
        padding: The number of zeros before the input.
        size: The number of inputs.

    Attributes:
        zeros: The numbers of zeros before and behind the weights that make them blocks of two.
    """

    def __init__(self, kernel: int, padding: int, size: int) -> None:
        before = padding % 2
        after = (before + kernel) % 2
        self.zeros = before, after
        n_blocks = (before + kernel + after) // 2
        # The largest d belongs to the first block, the smallest to the last.
        self._largest = (padding + before) // 2
        self._smallest = self._largest - n_blocks + 1
        self._n_pairs = (size + 1) // 2

    def margin(self, n_outputs: int) -> int:
        """Return how many zeros on either side of the outputs make all inputs reachable."""
        return max(-self._smallest, self._n_pairs - 1 + self._largest - (n_outputs - 1), 0)

    def part(self, margin: int) -> slice:
        """Return where the pairs of inputs are in the convolution of the outputs with this margin."""
        first = margin + self._smallest
        return slice(first, first + self._n_pairs)
