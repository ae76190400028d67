"""A copy of a network that gives the same, in less time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor, nn

from fvlightning.features.capture.capture import Activation, Activations, Capture, device_and_dtype, find_layer
from fvlightning.features.capture.isolation import is_compiled
from fvlightning.features.fast.columns import ColumnsConv2d
from fvlightning.features.fast.folding import FoldedBatchNorm2d, folded, is_foldable_norm
from fvlightning.features.fast.hooks import has_hooks, has_plain_weight
from fvlightning.features.fast.means import MeanConv2d
from fvlightning.features.fast.pooling import LateReLU, RectifiedMaxPool2d
from fvlightning.features.fast.strided import StridedConv2d
from fvlightning.features.fast.succession import Succession
from fvlightning.features.units import LayerCall

# The largest difference, in roundings of the largest activation of a layer.
_ROUNDING = 1024

# A network none of whose convolutions takes and gives so many channels gains nothing by having them last.
_FEWEST_CHANNELS = 16


@dataclass(frozen=True)
class _Changes:
    """What is changed in a copy.

    Args:
        convolutions: Those that are called, and have plain weights.
        folds: By convolution, the batch norm that becomes part of it.
        late_relus: By ReLU, the max pooling that does its work.
        averaged: The convolutions of which only the means are wanted.
    """

    convolutions: Sequence[nn.Conv2d]
    folds: Mapping[nn.Conv2d, nn.Module]
    late_relus: Mapping[nn.Module, nn.Module]
    averaged: Collection[nn.Module]


def fast_copy(
    network: nn.Module,
    layers: Collection[LayerCall],
    image_shapes: Iterable[Sequence[int]],
    only_means: bool = False,
    exact_relus: bool = False,
) -> nn.Module:
    """Return a copy of a frozen network, for the gradients of some layers to the picture.

    In the copy batch norms are folded into the convolutions before them, if no wanted layer lies between; the weights
    of convolutions have their channels last, which makes all that follows have them last; the first convolution
    computes its gradient by columns (`ColumnsConv2d`) or by phases (`StridedConv2d`); and a ReLU before a max pooling
    is computed behind it (`RectifiedMaxPool2d`). Modules have the same paths, run the same code, and share all weights
    that are not changed. The copy is tried on a random picture of each size: where its activations are not what the
    network gives, up to rounding, or it cannot be made, the network itself is returned. So it is where nothing can be
    gained.

    If nothing but the means over all positions of a single layer is wanted, and that is a convolution, the copy
    computes these alone (`MeanConv2d`), and stands for the network only as far as that layer.

    It knows nothing of what becomes of the network's weights later on.

    Args:
        network: Any module that takes pictures, frozen (`fvlightning.features.capture.isolation.frozen`).
        layers: What is wanted. What lies behind the last of them is left as it is.
        image_shapes: Sizes ``(C, H, W)`` of the pictures.
        only_means: Whether of the activations nothing but the mean over all positions is wanted.
        exact_relus: Whether ReLUs stay where they are: for `open_relus`, whose gradient a pooling before them would
            send another way.
    """
    device, dtype = device_and_dtype(network)
    if device.type != "cpu" or dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return network
    if any(isinstance(module, torch.jit.ScriptModule) or is_compiled(module) for module in network.modules()):
        return network
    shapes = dict.fromkeys(tuple(shape) for shape in image_shapes)
    pictures = [torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype) for shape in shapes]
    wanted = {find_layer(network, layer.layer) for layer in layers}
    # The forward pass has to end there: of two layers one comes before the other.
    ends = only_means and len(layers) == 1 and next(iter(layers)).call == 0
    averaged = set(filter(MeanConv2d.suits, filter(has_plain_weight, wanted))) if ends else set()
    changes, first = _possible_changes(network, layers, pictures[0], wanted, averaged, exact_relus)
    capture = Capture(network, layers)
    with torch.no_grad():
        expected = [first, *(capture(picture) for picture in pictures[1:])]
        if averaged:
            expected = [{layer: _averaged(found) for layer, found in activations.items()} for activations in expected]
        # What a ReLU gives may have a part in the results of which the graph knows nothing.
        choices = [changes, replace(changes, late_relus={})] if changes.late_relus else [changes]
        for channels_last, chosen in product((True, False), choices):
            # A network's own code may look at what was changed (`view` at the order in memory), and raise anything.
            with suppress(Exception):
                quick = _changed(network, chosen, channels_last)
                if quick is not None and _gives(quick, pictures, expected, _ROUNDING * torch.finfo(dtype).eps):
                    return quick
    return network


def _possible_changes(
    network: nn.Module,
    layers: Collection[LayerCall],
    picture: Tensor,
    wanted: Collection[nn.Module],
    averaged: Collection[nn.Module],
    exact_relus: bool,
) -> tuple[_Changes, Activations]:
    """Run the network once; return what can be changed in a copy, and what it gave, without its graph.

    The arguments are those of `fast_copy`.
    """
    # Looked at before there are hooks of `Succession`.
    modules = list(network.modules())
    hooked = [module for module in modules if has_hooks(module)]
    plain = {module for module in modules if isinstance(module, nn.Conv2d) and has_plain_weight(module)}
    norms = Succession(
        [module for module in modules if isinstance(module, nn.Conv2d)],
        [module for module in modules if is_foldable_norm(module)],
        wanted,
        hooked,
    )
    pools = Succession(
        [module for module in modules if LateReLU.suits(module)],
        [module for module in modules if RectifiedMaxPool2d.suits(module)],
        wanted,
        hooked,
    )
    with norms.watching(), pools.watching():
        found = Capture(network, layers)(picture.detach().requires_grad_())
    results = [activation.tensor for activation in found.values()]
    folds = norms.sole_pairs(results)
    changes = _Changes(
        convolutions=[module for module in norms.called if module in plain],
        folds={module: norm for module, norm in folds.items() if module in plain and type(module) is nn.Conv2d},
        late_relus={} if exact_relus else pools.sole_pairs(results),
        averaged=averaged,
    )
    return changes, {layer: replace(given, tensor=given.tensor.detach()) for layer, given in found.items()}


def _averaged(activation: Activation) -> Activation:
    return Activation(activation.tensor.mean((2, 3), keepdim=True))


def _changed(network: nn.Module, changes: _Changes, channels_last: bool) -> nn.Module | None:
    """Return the copy with all that can be changed in it, or None if that is nothing."""
    convolutions = changes.convolutions
    if channels_last and max((min(c.in_channels, c.out_channels) for c in convolutions), default=0) < _FEWEST_CHANNELS:
        return None
    kinds: dict[nn.Module, type[nn.Module]] = dict.fromkeys(filter(ColumnsConv2d.suits, convolutions), ColumnsConv2d)
    kinds |= dict.fromkeys(filter(StridedConv2d.suits, convolutions), StridedConv2d)
    kinds |= dict.fromkeys(changes.averaged, MeanConv2d)
    kinds |= dict.fromkeys(changes.folds.values(), FoldedBatchNorm2d)
    kinds |= dict.fromkeys(changes.late_relus, LateReLU)
    kinds |= dict.fromkeys(changes.late_relus.values(), RectifiedMaxPool2d)
    if not kinds and not channels_last:
        return None
    copies: dict[nn.Module, nn.Module] = {}
    changed = _copied(network, kinds, copies)
    for convolution in convolutions:
        registered = copies[convolution]._parameters
        weight = convolution.weight.detach()
        if (norm := changes.folds.get(convolution)) is not None:
            weight, bias = folded(convolution, norm)
            registered["bias"] = nn.Parameter(bias, requires_grad=False)
        if channels_last and convolution not in changes.averaged:
            weight = weight.contiguous(memory_format=torch.channels_last)
        registered["weight"] = nn.Parameter(weight, requires_grad=False)
    return changed


def _copied(
    module: nn.Module, kinds: Mapping[nn.Module, type[nn.Module]], copies: dict[nn.Module, nn.Module]
) -> nn.Module:
    """Return a copy of a module and of those in it, which shares all else: weights, settings, what they refer to.

    Not `copy.deepcopy`, which would copy a LightningModule's trainer, too, with its data.

    Args:
        module: What is copied.
        kinds: The classes of copies that are of another one.
        copies: By their originals the copies that have been made; those that are made are added.
    """
    if module not in copies:
        copies[module] = copy = object.__new__(kinds.get(module, type(module)))
        registers = vars(nn.Module())
        for name, value in vars(module).items():
            # A module's registers of what it has, as weights and hooks, are the copy's own.
            owned = name in registers and isinstance(value, dict | set)
            copy.__dict__[name] = value.copy() if owned else value
        for name, child in module._modules.items():
            copy._modules[name] = None if child is None else _copied(child, kinds, copies)
    return copies[module]


def _gives(copy: nn.Module, pictures: Iterable[Tensor], expected: Iterable[Activations], rounding: float) -> bool:
    """Whether a copy gives what is expected, but for differences of a share of the largest activation of a layer."""
    for picture, activations in zip(pictures, expected, strict=True):
        found = Capture(copy, activations)(picture)
        for layer, activation in activations.items():
            # Of a decision that is no number, too.
            values, of_copy = activation.tensor.to(picture.dtype), found[layer].tensor.to(picture.dtype)
            if of_copy.shape != values.shape:
                return False
            # What is not finite is not near anything.
            if not bool(((of_copy - values).abs() <= rounding * values.abs().amax()).all()):
                return False
    return True
