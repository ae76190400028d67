"""ReLUs that let a gradient through where all of it would be blocked."""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class open_relus(TorchFunctionMode):
    """A context in which ReLUs pass some of the gradient of a picture whose whole gradient they would block.

    A unit that is off everywhere in its picture has no gradient, and its picture would stay grey. If no gradient of a
    picture passes a ReLU, the part that raises inputs below 0 passes, and in a ReLU6 the part that lowers inputs above
    6, as in lucid's first steps (https://github.com/tensorflow/lucid/blob/master/lucid/misc/redirected_relu_grad.py).
    Pictures that have a gradient keep the exact one.

    The context changes no module, but replaces calls of `torch.relu`, `torch.nn.functional.relu`, ``relu6`` and
    ``hardtanh`` from 0, their in-place forms and methods. TorchScript calls none of these and is not affected.
    """

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rectifier = _rectifier(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if rectifier is None else _OpenReLU.apply(*rectifier)


def _rectifier(func: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, float, bool] | None:
    """Return the input, the ceiling, and whether the input is overwritten, if the call is that of a rectifier."""
    if func in (F.relu6, F.hardtanh):
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        return None if values.get("min_val", 0) else (values["input"], values.get("max_val", 6.0), values["inplace"])
    if func not in _RELUS:
        return None
    first, *rest = [*args, *kwargs.values()]
    return first, torch.inf, func.__name__.endswith("_") or any(value is True for value in rest)


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
        # The gradient is that of a loss: a step goes against it.
        useful = (low & (gradient < 0)) | (high & (gradient > 0)) | ~(low | high)
        passes = exact.flatten(1).any(1).reshape(-1, *[1] * (exact.ndim - 1))
        return torch.where(passes, exact, torch.where(useful, gradient, 0.0)), None, None
