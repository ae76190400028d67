"""Rectifiers that let a gradient through where all of it would be blocked."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

# Their names among the functions of torch, and whether they work in place whatever they are told.
_RELUS: Mapping[Any, bool] = {
    F.relu: False,
    F.relu_: True,
    torch.relu: False,
    torch.relu_: True,
    Tensor.relu: False,
    Tensor.relu_: True,
}


class open_relus(TorchFunctionMode):
    """A context in which a picture whose whole gradient a ReLU would block gets some of it through.

    A unit that is off for all of its picture has no gradient, and its picture would stay the grey that it starts as.
    As lucid does in its first steps (``redirected_relu_grad`` of
    https://github.com/tensorflow/lucid/blob/master/lucid/misc/redirected_relu_grad.py): if no gradient of a picture
    passes a ReLU, then what would raise an input that is too low passes, and, of a ReLU6, what would lower an input
    that is too high. Pictures that have a gradient keep the exact one.

    It changes no module and leaves nothing behind: `torch.relu`, `torch.nn.functional.relu`, ``relu6`` and ``hardtanh``
    from 0, their in-place forms and methods, and with them `torch.nn.ReLU` and `torch.nn.ReLU6`, are replaced while a
    forward pass runs inside. TorchScript, which calls none of these, is not reached.
    """

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        rectifier = _rectifier(func, *args, **kwargs)
        return func(*args, **kwargs) if rectifier is None else _OpenReLU.apply(*rectifier)


def _rectifier(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Tensor, float, bool] | None:
    """Return the input, the ceiling, and whether it is overwritten, if the call is that of a rectifier."""
    if func in (F.relu6, F.hardtanh):
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given.get("min_val", 0) != 0:
            return None
        return given["input"], given.get("max_val", 6.0), given["inplace"]
    if func not in _RELUS:
        return None
    first, *rest = [*args, *kwargs.values()]
    return first, torch.inf, _RELUS[func] or any(value is True for value in rest)


class _OpenReLU(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, values: Tensor, ceiling: float, in_place: bool) -> Tensor:
        ctx.save_for_backward(values <= 0, values >= ceiling)
        if in_place:
            ctx.mark_dirty(values)
            return values.clamp_(0, ceiling)
        return values.clamp(0, ceiling)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        low, high = ctx.saved_tensors
        exact = gradient.masked_fill(low | high, 0)
        # A step goes against the gradient, which is that of a loss.
        useful = (low & (gradient < 0)) | (high & (gradient > 0)) | ~(low | high)
        passes = exact.flatten(1).any(1).reshape(-1, *[1] * (exact.ndim - 1))
        return torch.where(passes, exact, torch.where(useful, gradient, 0.0)), None, None
