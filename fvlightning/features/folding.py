"""Batch norms that become part of the convolutions before them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from typing_extensions import override


class FoldedBatchNorm2d(nn.Module):
    """Stands where a batch norm was that is part of the convolution before it, so that its path and hooks remain.

    What the batch norm does behind the normalisation (timm's ``BatchNormAct2d``: drop, activation) it still does.
    """

    @override
    def forward(self, values: Tensor) -> Tensor:
        """Return the convolution's output ``(B, C, H, W)``, through what came behind the normalisation."""
        for child in self.children():
            values = child(values)
        return values


class Pairing:
    """Convolutions, and the batch norms that take what they give, found while a network runs.

    A pair has one call each, and the convolution's output reaches the batch norm as it is. That nothing else takes this
    output cannot be seen here: whoever folds a pair has to compare what the network gives.

    Args:
        fixed: Modules that have to give what they give now.
    """

    def __init__(self, fixed: Iterable[nn.Module]) -> None:
        self._fixed = set(fixed)
        self._foldable: set[nn.Module] = set()
        self._calls: Counter[nn.Module] = Counter()
        self._found: dict[nn.Conv2d, nn.Module] = {}
        self._last: tuple[nn.Conv2d, Tensor, int] | None = None

    @property
    def pairs(self) -> dict[nn.Conv2d, nn.Module]:
        """The batch norm of each convolution."""
        return {
            convolution: norm
            for convolution, norm in self._found.items()
            if self._calls[convolution] == self._calls[norm] == 1
        }

    @property
    def called(self) -> list[nn.Conv2d]:
        """All convolutions that were called."""
        return [module for module in self._calls if isinstance(module, nn.Conv2d)]

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Look for pairs in a forward pass that runs inside."""
        # Looked at before there are hooks of this class.
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        norms = [module for module in network.modules() if _is_foldable_norm(module)]
        self._foldable = {
            module
            for module in convolutions
            if type(module) is nn.Conv2d and module not in self._fixed and has_plain_weight(module)
        }
        handles = [module.register_forward_hook(self._note_convolution) for module in convolutions]
        handles += [module.register_forward_pre_hook(self._note_norm) for module in norms]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def _note_convolution(self, module: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        self._calls[module] += 1
        self._last = (module, output, output._version) if module in self._foldable else None

    def _note_norm(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls[module] += 1
        if self._last is not None:
            convolution, output, version = self._last
            # The version tells whether anything has been written into the output since.
            if inputs and inputs[0] is output and output._version == version:
                self._found[convolution] = module
        self._last = None


def has_plain_weight(module: nn.Module) -> bool:
    """Whether a module's weight is its own: not computed from others, before or in its call, by hooks or otherwise."""
    return isinstance(module._parameters.get("weight"), nn.Parameter) and not _has_hooks(module)


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


def _is_foldable_norm(module: nn.Module) -> bool:
    # Of timm's, the children come behind the normalisation; of an unknown kind nobody knows.
    kind, parts = type(module), [name for name, _ in module.named_children()]
    if not (
        kind in (nn.BatchNorm2d, nn.SyncBatchNorm) or (isinstance(module, nn.BatchNorm2d) and parts == ["drop", "act"])
    ):
        return False
    assert isinstance(module, nn.modules.batchnorm._BatchNorm)
    return module.running_mean is not None and module.running_var is not None and not _has_hooks(module)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
