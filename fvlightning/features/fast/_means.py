"""The channel means of a convolution, without the convolution."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast._linear import linear_by_row


class MeanConv2d(nn.Conv2d):
    """A convolution that gives the mean of each channel over all positions, instead of its map.

    A convolution is linear, so the mean of its outputs is its output for the mean of the patches that it sees. The mean
    patch is a product of the input with two narrow matrices, which say how often each row and column meets each weight.
    Where only the means of the last layer are needed, that layer takes next to no time.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a convolution that can be computed like this."""
        return (
            type(module) is nn.Conv2d
            and module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return the means ``(B, O, 1, 1)`` of the convolution of ``(B, C, H, W)``."""
        assert not isinstance(self.padding, str)
        rows, columns = (
            _shares(size, kernel, stride, padding, dilation, input.dtype, input.device)
            for size, kernel, stride, padding, dilation in zip(
                input.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        )
        patches = rows @ (input @ columns.T)
        return linear_by_row(patches.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


@lru_cache(maxsize=16)  # used at every step
def _shares(
    size: int, kernel: int, stride: int, padding: int, dilation: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the share of the outputs in which a weight meets an input, ``(K, H)``, along one side."""
    with torch.inference_mode(False):  # tensors of inference mode cannot be used with gradients
        first = torch.arange(-padding, size + padding - dilation * (kernel - 1), stride, device=device)
        seen = first + dilation * torch.arange(kernel, device=device)[:, None]
        meets = seen[:, :, None] == torch.arange(size, device=device)
        return meets.to(dtype).mean(1)
