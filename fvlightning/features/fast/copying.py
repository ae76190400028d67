"""A copy of a network that gives the same in less time, and the same for each picture whatever its batch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fvlightning.features.capture import Activation, Activations, Capture, device_and_dtype, find_layer, is_compiled
from fvlightning.features.fast._activations import copies_its_input
from fvlightning.features.fast._columns import ColumnsConv2d
from fvlightning.features.fast._folding import FoldedBatchNorm2d, folded, is_foldable_norm
from fvlightning.features.fast._hooks import has_hooks, has_plain_weight
from fvlightning.features.fast._linear import RowLinear
from fvlightning.features.fast._means import MeanConv2d
from fvlightning.features.fast._relu6 import LeanReLU6
from fvlightning.features.fast._same import SameConv2d, is_same_convolution
from fvlightning.features.fast._strided import StridedConv2d
from fvlightning.features.fast._succession import Succession
from fvlightning.features.units import LayerCall

# The largest difference between copy and network, in roundings of the largest activation of a layer.
_ROUNDING = 1024

# A network gains nothing from channels last unless a convolution has this many channels on both sides.
_FEWEST_CHANNELS = 16


def fast_copy(
    network: nn.Module,
    layers: Collection[LayerCall],
    image_shapes: Iterable[Sequence[int]],
    only_means: bool = False,
) -> nn.Module:
    """Return a copy of a frozen network, for the gradients of some layers to the picture.

    In the copy, batch norms are folded into the convolutions before them (`folded`), weights of convolutions have their
    channels last in memory, and the first convolution computes its gradient by columns (`ColumnsConv2d`) or by phases
    (`StridedConv2d`). Depthwise convolutions with 'same' padding (`SameConv2d`) and activations in place (`LeanReLU6`,
    `copies_its_input`) do without a copy of their input. If only the means of one layer are needed, and it is a
    convolution, the copy computes these alone (`MeanConv2d`).

    Modules have the same paths, run the same code, and share all weights that are not changed. The copy is tried on a
    random picture of each size. The network itself is returned if its activations differ by more than rounding, if the
    copy cannot be made, or if nothing is gained. Later changes of the network's weights do not reach the copy.

    Args:
        network: Any module that takes pictures, frozen (`fvlightning.features.capture.frozen`).
        layers: The layers that are captured. Everything behind the last of them is left as it is.
        image_shapes: Sizes ``(C, H, W)`` of the pictures.
        only_means: Whether only the mean over all positions of the activations is used.
    """
    device, dtype = device_and_dtype(network)
    if device.type != "cpu" or dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return network
    if any(isinstance(module, torch.jit.ScriptModule) or is_compiled(module) for module in network.modules()):
        return network
    shapes = dict.fromkeys(tuple(shape) for shape in image_shapes)
    pictures = [torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype) for shape in shapes]
    captured = {find_layer(network, layer.layer) for layer in layers}
    # The forward pass has to end at the convolution: with two layers, one comes before the other.
    ends = only_means and len(layers) == 1 and next(iter(layers)).call == 0
    averaged = set(filter(MeanConv2d.suits, filter(has_plain_weight, captured))) if ends else set()
    changes, first = _possible_changes(network, layers, pictures[0], captured)
    changes = replace(changes, averaged=averaged)
    capture = Capture(network, layers)
    with torch.no_grad():
        expected = [first, *(capture(picture) for picture in pictures[1:])]
        if averaged:
            expected = [
                {layer: Activation(value.tensor.mean((2, 3), keepdim=True)) for layer, value in activations.items()}
                for activations in expected
            ]
        for channels_last in (True, False):
            # A network's own code may look at a changed part (`view` at the order in memory), and raise anything.
            with suppress(Exception):
                fast = _changed(network, changes, channels_last)
                if fast is not None and _gives(fast, pictures, expected, _ROUNDING * torch.finfo(dtype).eps):
                    return fast
    return network


@dataclass(frozen=True)
class _Changes:
    """The changes of a copy.

    Args:
        convolutions: Those that are called, and have plain weights.
        folds: By convolution, the batch norm that becomes part of it.
        averaged: The convolutions that compute their means only.
    """

    convolutions: Sequence[nn.Conv2d]
    folds: Mapping[nn.Conv2d, nn.Module]
    averaged: Collection[nn.Module] = ()


def _possible_changes(
    network: nn.Module,
    layers: Collection[LayerCall],
    picture: Tensor,
    captured: Collection[nn.Module],
) -> tuple[_Changes, Activations]:
    """Run the network once; return the changes that are possible, and its activations without their graph."""
    modules = list(network.modules())
    hooked = [module for module in modules if has_hooks(module)]  # before `Succession` adds hooks
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    plain = {module for module in convolutions if has_plain_weight(module)}
    norms = Succession(convolutions, [module for module in modules if is_foldable_norm(module)], captured, hooked)
    with norms.watching():
        activations = Capture(network, layers)(picture.detach().requires_grad_())
    results = [activation.tensor for activation in activations.values()]
    folds = norms.sole_pairs(results)
    changes = _Changes(
        convolutions=[module for module in norms.called if module in plain],
        folds={
            module: norm
            for module, norm in folds.items()
            if module in plain and (type(module) is nn.Conv2d or is_same_convolution(module))
        },
    )
    return changes, {layer: replace(value, tensor=value.tensor.detach()) for layer, value in activations.items()}


def _changed(network: nn.Module, changes: _Changes, channels_last: bool) -> nn.Module | None:
    """Return the copy with these changes, or None if there are none."""
    convolutions = changes.convolutions
    if channels_last and max((min(c.in_channels, c.out_channels) for c in convolutions), default=0) < _FEWEST_CHANNELS:
        return None
    kinds: dict[nn.Module, type[nn.Module]] = dict.fromkeys(filter(ColumnsConv2d.suits, convolutions), ColumnsConv2d)
    kinds |= dict.fromkeys(filter(StridedConv2d.suits, convolutions), StridedConv2d)
    kinds |= dict.fromkeys(filter(SameConv2d.suits, convolutions), SameConv2d)
    kinds |= dict.fromkeys(filter(LeanReLU6.suits, network.modules()), LeanReLU6)
    kinds |= dict.fromkeys(changes.averaged, MeanConv2d)
    kinds |= dict.fromkeys(changes.folds.values(), FoldedBatchNorm2d)
    activations = [module for module in network.modules() if copies_its_input(module)]
    if not kinds and not activations and not channels_last:
        return None
    # No gain of time, so not worth a copy by itself.
    kinds |= dict.fromkeys(filter(RowLinear.suits, network.modules()), RowLinear)
    copies: dict[nn.Module, nn.Module] = {}
    changed = _copied(network, kinds, copies)
    for activation in activations:
        vars(copies[activation])["inplace"] = False
    for convolution in convolutions:
        parameters = copies[convolution]._parameters
        weight = convolution.weight.detach()
        if (norm := changes.folds.get(convolution)) is not None:
            weight, bias = folded(convolution, norm)
            parameters["bias"] = nn.Parameter(bias, requires_grad=False)
        if channels_last and convolution not in changes.averaged:
            weight = weight.contiguous(memory_format=torch.channels_last)
        parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    return changed


def _copied(
    module: nn.Module, kinds: Mapping[nn.Module, type[nn.Module]], copies: dict[nn.Module, nn.Module]
) -> nn.Module:
    """Return a copy of a module and its children, which shares everything else: weights, settings, references.

    `copy.deepcopy` would also copy a LightningModule's trainer, with its data.

    Args:
        module: The module to copy.
        kinds: The classes of copies that change their class.
        copies: The copies by their originals; new ones are added.
    """
    if module not in copies:
        copies[module] = copy = object.__new__(kinds.get(module, type(module)))
        registers = vars(nn.Module())
        for name, value in vars(module).items():
            # The copy has its own registers of weights, buffers and hooks.
            owned = name in registers and isinstance(value, dict | set)
            copy.__dict__[name] = value.copy() if owned else value
        for name, child in module._modules.items():
            copy._modules[name] = None if child is None else _copied(child, kinds, copies)
    return copies[module]


def _gives(copy: nn.Module, pictures: Iterable[Tensor], expected: Iterable[Activations], rounding: float) -> bool:
    """Whether a copy gives the expected activations, up to a share of the largest activation of a layer."""
    for picture, activations in zip(pictures, expected, strict=True):
        of_copy = Capture(copy, activations)(picture)
        for layer, activation in activations.items():
            # A layer may give booleans or integers.
            values, copied = activation.tensor.to(picture.dtype), of_copy[layer].tensor.to(picture.dtype)
            # A non-finite difference compares as False.
            if copied.shape != values.shape or not bool(
                ((copied - values).abs() <= rounding * values.abs().amax()).all()
            ):
                return False
    return True
