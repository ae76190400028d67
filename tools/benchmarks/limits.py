"""This project as a contestant, and the network alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

from benchmarks.work import Work
from fvlightning import Maximizer


def fvlightning(work: Work) -> Tensor:
    """Make the pictures with the default settings of `fvlightning.Maximizer`.

    Returns:
        ``(n, C, H, W)`` in [0, 1].
    """
    features = Maximizer(steps=work.steps).maximize(work.network, work.units, work.shape)
    return torch.stack([feature.image for feature in features])


def bare(work: Work) -> Callable[[], None]:
    """Return the steps of a loop that does nothing but run the whole network forward, and back to the pictures."""
    return _loop(work, work.network.net, lambda outputs: outputs.sum())


def floor(work: Work, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Return the same up to the layer only, batch norm folded into the convolutions, channels last.

    No method that leaves the network to torch and optimises so many pictures of this size can take less. One that
    computes parts of it another way can: the gradient of the first convolution, or the means of the last.

    Args:
        work: The network, the channels and the steps.
        dtype: The dtype of weights and pictures.
    """
    network = truncated(work.network.net, work.layer).to(dtype).to(memory_format=torch.channels_last)
    rows = torch.arange(len(work.indices), device=work.device)
    indices = torch.tensor(work.indices, device=work.device)

    def score(outputs: Tensor) -> Tensor:
        return outputs[rows, indices].flatten(1).mean(1).sum()

    return _loop(work, network, score, torch.channels_last)


def truncated(network: nn.Module, layer: str) -> nn.Module:
    """Return a copy of a network that ends at a layer, with its batch norms folded into the convolutions before them.

    Args:
        network: One that `torch.fx` can trace, in eval mode.
        layer: Path of the layer.
    """
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor = create_feature_extractor(network, {layer: "activations"}, suppress_diff_warning=True).eval()
    return _Unpacked(fuse(GraphModule(extractor, extractor.graph).eval())).requires_grad_(False)


class _Unpacked(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, pictures: Tensor) -> Tensor:
        activations: Tensor = self.extractor(pictures)["activations"]
        return activations


def _loop(
    work: Work,
    network: nn.Module,
    score: Callable[[Tensor], Tensor],
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[], None]:
    dtype = next(network.parameters()).dtype
    pictures = torch.rand(len(work.indices), *work.shape, device=work.device, dtype=dtype)
    pictures = pictures.contiguous(memory_format=memory_format).requires_grad_()

    def steps() -> None:
        for _ in range(work.steps):
            torch.autograd.grad(score(network(pictures)), pictures)

    return steps
