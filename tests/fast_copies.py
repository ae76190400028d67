"""Networks with everything that a fast copy changes, and copies that are checked against them."""

import torch
from torch import Tensor, nn

from fvlightning.features.capture import Capture
from fvlightning.features.fast import fast_copy
from fvlightning.features.fast._folding import FoldedBatchNorm2d
from fvlightning.features.units import LayerCall

SHAPE = (3, 24, 24)


def batch_norm(channels: int, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a batch norm that is far from the identity."""
    norm = kind(channels)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.normal_()
        norm.running_var.uniform_(0.1, 3)
    return norm


class Block(nn.Module):
    """What common networks are made of: a residual connection, and a convolution beside it."""

    def __init__(self, last: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn1 = batch_norm(16)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.bn2 = batch_norm(16) if last is None else last
        self.down = nn.Sequential(nn.Conv2d(16, 16, 1), batch_norm(16))

    def forward(self, values: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(values))))) + self.down(values))


def residual_network(last: nn.BatchNorm2d | None = None) -> nn.Module:
    """Return a frozen network with the paths conv, bn, relu, block, pool, flatten, fc."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 16, 5, 2, 2, bias=False))
    network.add_module("bn", batch_norm(16))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("block", Block(last))
    network.add_module("pool", nn.AdaptiveAvgPool2d(2))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(64, 5))
    return network.eval().requires_grad_(False)


def activations_and_gradient(network: nn.Module, layers: list[LayerCall], shape: tuple[int, ...]) -> list[Tensor]:
    """Return the layers' activations for two pictures, and the gradient of all of them to the pictures."""
    dtype = next(network.parameters()).dtype
    pictures = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()
    activations = Capture(network, layers)(pictures)
    values = [activations[layer].values for layer in layers]
    (gradient,) = torch.autograd.grad(sum(map(torch.sum, map(torch.square, values))), pictures)
    return [*values, gradient]


def checked_copy(
    network: nn.Module,
    *layers: str,
    shape: tuple[int, ...] = SHAPE,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> nn.Module:
    """Return the fast copy of a frozen network, after a check that it gives the same activations and gradients.

    Args:
        network: The network.
        *layers: The layers that are captured.
        shape: ``(C, H, W)`` of the pictures.
        rtol: The relative tolerance.
        atol: The absolute tolerance, as a share of the largest value.
    """
    calls = [LayerCall(layer) for layer in layers]
    fast = fast_copy(network, calls, [shape])
    expected = activations_and_gradient(network, calls, shape)
    for values, of_network in zip(activations_and_gradient(fast, calls, shape), expected, strict=True):
        torch.testing.assert_close(values, of_network, rtol=rtol, atol=atol * of_network.abs().max().item())
    return fast


def folded_paths(network: nn.Module) -> list[str]:
    """Return the paths of the batch norms that are folded in a copy."""
    return [path for path, module in network.named_modules() if isinstance(module, FoldedBatchNorm2d)]
