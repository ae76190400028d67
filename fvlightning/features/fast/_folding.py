"""Batch norms that become part of the convolutions before them."""

from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast._hooks import has_hooks


class FoldedBatchNorm2d(nn.Module):
    """Takes the place of a batch norm that is part of the convolution before it, so that its path and hooks remain.

    It still runs the children of timm's ``BatchNormAct2d``, drop and activation, which come behind the normalisation.
    """

    @override
    def forward(self, values: Tensor) -> Tensor:
        """Pass on the convolution's output ``(B, C, H, W)``, through the children."""
        for child in self.children():
            values = child(values)
        return values


def folded(convolution: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight ``(O, C, K, L)`` and bias ``(O,)`` of a convolution that does both, in evaluation mode.

    ``weight · γ / sqrt(var + ε)`` and ``(bias - mean) · γ / sqrt(var + ε) + β``.
    """
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = convolution.weight.detach()
    factors = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factors = factors * norm.weight.detach().double()
    bias = -norm.running_mean.double()
    if convolution.bias is not None:
        bias = bias + convolution.bias.detach().double()
    bias = bias * factors
    if norm.bias is not None:
        bias = bias + norm.bias.detach().double()
    return (weight.double() * factors[:, None, None, None]).to(weight.dtype), bias.to(weight.dtype)


def is_foldable_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm that `folded` understands, without hooks."""
    # Only timm's subclass is known to run its children behind the normalisation.
    kind, parts = type(module), [name for name, _ in module.named_children()]
    if not (
        kind in (nn.BatchNorm2d, nn.SyncBatchNorm) or (isinstance(module, nn.BatchNorm2d) and parts == ["drop", "act"])
    ):
        return False
    assert isinstance(module, nn.modules.batchnorm._BatchNorm)
    return module.running_mean is not None and module.running_var is not None and not has_hooks(module)
