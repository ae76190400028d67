"""Receptive fields: what the positions of a map can depend on, whatever the weights and the picture."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from fvlightning.features import Capture, LayerCall, isolated_rng
from fvlightning.features.capture import device_and_dtype, frozen
from fvlightning.io import Window

_aten = torch.ops.aten
# Operations without the tag `pointwise` that nevertheless keep positions apart.
_UNTAGGED = (
    *(_aten.native_batch_norm, _aten.cudnn_batch_norm),
    *(_aten._prelu_kernel, _aten.hardswish, _aten._to_copy, _aten.cat),
)
_POOLINGS = (_aten.max_pool2d_with_indices, _aten.avg_pool2d)
_Sides = tuple[int, int]


class ReceptiveField(NamedTuple):
    """The box of the pixels that a position of a map can depend on. At a border it reaches beyond the picture.

    Attributes:
        start: Top and left of the first position's box, in pixels.
        step: Pixels from the box of one position to that of the next, down and to the right.
        size: Height and width of the box, in pixels.
    """

    start: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (1, 1)

    def window(self, position: Sequence[int], image_size: Sequence[int]) -> Window:
        """Return the part of the box of a position that is inside a picture ``(H, W)``."""
        firsts = [start + place * step for start, place, step in zip(self.start, position, self.step, strict=True)]
        ends = [min(first + size, side) for first, size, side in zip(firsts, self.size, image_size, strict=True)]
        top, left = (max(first, 0) for first in firsts)
        return top, left, ends[0] - top, ends[1] - left


def receptive_fields(
    network: nn.Module, layers: Iterable[LayerCall], image_shape: Sequence[int]
) -> dict[LayerCall, ReceptiveField]:
    """Return the receptive fields of layers whose maps are made of local operations only.

    These are convolutions, pooling, padding with a constant, batch norm, elementwise functions, and sums of branches
    with one step. Layers behind any other operation are left out. Sizes, steps and starts compose as in Araujo et al.
    2019, https://distill.pub/2019/computing-receptive-fields.

    Args:
        network: Any module that takes pictures.
        layers: Layers of the network.
        image_shape: ``(C, H, W)`` of the pictures.
    """
    if not (layers := set(layers)):
        return {}
    device, dtype = device_and_dtype(network)
    pictures = torch.full((1, *image_shape), 0.5, device=device, dtype=dtype)
    with isolated_rng(), frozen(network), torch.no_grad(), _Tracing(pictures) as tracing:
        activations = Capture(network, layers)(pictures)
    fields = {layer: tracing.fields.get(activation.tensor) for layer, activation in activations.items()}
    return {layer: field for layer, field in fields.items() if field is not None and tracing.is_complete}


class _Tracing(TorchDispatchMode):
    """Keeps the receptive field of each tensor that depends on the pictures, None if it is not known."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fields: Any = WeakTensorKeyDictionary({pictures: ReceptiveField()})
        self.is_complete = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        inputs = {one: self.fields[one] for one in _tensors(args) if one in self.fields}
        result = func(*args, **(kwargs or {}))
        if inputs:
            outputs = _tensors([result])
            field = _output_field(func, args, outputs[0], inputs) if outputs else None
            self.fields.update(dict.fromkeys(outputs, field))
            # A write into a part of a tensor changes the tensor, which is not among the outputs.
            parts = [one for one in outputs if one.untyped_storage().nbytes() > one.nbytes]
            self.is_complete &= not (func._schema.is_mutable and parts)
        return result


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return [one for one in flat if isinstance(one, Tensor)]


def _output_field(
    func: Any, args: Sequence[Any], output: Tensor, inputs: Mapping[Tensor, ReceptiveField | None]
) -> ReceptiveField | None:
    """Return the receptive field of an operation's output from those of its inputs and its arguments."""
    fields = [field for field in inputs.values() if field is not None]
    if len(fields) < len(inputs) or any(one.ndim != 4 for one in (output, *inputs)):
        return None
    operation, first = func.overloadpacket, fields[0]
    if torch.Tag.pointwise in func.tags or operation in _UNTAGGED:
        is_local = all(one.shape[2:] == output.shape[2:] for one in inputs)
        return _union(fields) if is_local and len({field.step for field in fields}) == 1 else None
    if operation is _aten.convolution and len(inputs) == 1 and not args[6]:
        return _composed(first, args[1].shape[2:], *args[3:6])
    if operation in _POOLINGS:
        settings = dict(enumerate(args))  # in which defaults may be missing
        dilation = settings.get(4, 1) if operation is _aten.max_pool2d_with_indices else 1
        return _composed(first, args[1], settings.get(2) or args[1], settings.get(3, 0), dilation)
    if operation is _aten.constant_pad_nd and len(args[1]) <= 4:
        left, _, top, _ = (*args[1], 0, 0)[:4]
        return _composed(first, (1, 1), (1, 1), (top, left), (1, 1))
    return None


def _union(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Return the smallest receptive field around fields with one step."""
    starts = [min(field.start[side] for field in fields) for side in (0, 1)]
    ends = [max(field.start[side] + field.size[side] for field in fields) for side in (0, 1)]
    return ReceptiveField(_pair(starts), fields[0].step, (ends[0] - starts[0], ends[1] - starts[1]))


def _composed(field: ReceptiveField, kernel: Any, stride: Any, padding: Any, dilation: Any) -> ReceptiveField:
    """Return the receptive field behind a window that slides over a map."""
    sides = zip(*field, *map(_pair, (kernel, stride, padding, dilation)), strict=True)
    down, across = (
        (start - pad * step, step * jump, size + (width - 1) * spread * step)
        for start, step, size, width, jump, pad, spread in sides
    )
    return ReceptiveField(*zip(down, across, strict=True))


def _pair(value: int | Sequence[int]) -> _Sides:
    first, *_, last = (value, value) if isinstance(value, int) else (*value, *value)
    return first, last
