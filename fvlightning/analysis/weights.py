"""The weights of a first layer, beside what the layer sees in the pictures of its units."""

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fvlightning.analysis.measures import layer_inputs
from fvlightning.errors import InputError
from fvlightning.features import LayerCall, measure_layers
from fvlightning.features.capture import find_layer

# In relation to the largest value; a network in bfloat16 rounds like this.
_ROUNDING = 0.02
_BATCH_SIZE = 64


def first_layer(network: nn.Module) -> str:
    """Return the path of the first linear or two-dimensional convolutional layer.

    Raises:
        InputError: There is none.
    """
    for path, module in network.named_modules():
        if path and isinstance(module, nn.Linear | nn.Conv2d):
            return str(path).removeprefix("net.")
    raise InputError(f"{type(network).__name__} has no Linear or Conv2d layer whose weights could be shown")


def weight_images(network: nn.Module, layer: str, image_shape: Sequence[int] | None) -> Tensor:
    """Return the weights of a layer as images ``(U, C, H, W)``: kernels, or a linear layer's rows in a picture's shape.

    Args:
        network: Any module.
        layer: Path of the layer.
        image_shape: ``(C, H, W)`` of the network's pictures, if it is known.

    Raises:
        InputError: There is no such layer, it is neither linear nor a two-dimensional convolution, or a linear layer
            takes another number of inputs than a picture has.
    """
    module = _weighted(network, layer)
    weights = module.weight.detach().float().cpu()
    if isinstance(module, nn.Conv2d):
        return weights
    if image_shape is None or torch.Size(image_shape).numel() != module.in_features:
        raise InputError(
            f"layer {layer!r} takes {module.in_features} inputs, which are not the pixels of a picture of shape "
            f"{image_shape}; choose the first layer of the network"
        )
    return weights.reshape(-1, *image_shape)


@dataclass(frozen=True, eq=False)
class WeightMatch:
    """A unit's weights w beside the patch of a picture that excites it most, x as the layer sees it: a = w·x + b.

    A linear layer sees the whole picture, a convolution what lies under its kernel.

    Attributes:
        weights: w, ``(C, H, W)``.
        patch: The patch of the picture itself, ``(C, H, W)`` in [0, 1]; padding is black.
        position: ``(row, column)`` of the patch's activation in the unit's map, the first of the strongest.
        box: ``(top, left, bottom, right)``, the pixels of the picture under the kernel; the last two are not included.
        activation: a, before any batch norm or ReLU behind the layer.
        norm: ‖w‖.
        cosine: w·x / ‖w‖‖x‖. None if either is 0.
        centred_cosine: That of w and x without their means over all entries, which ignores brightness: the likeness
            that one sees. None if either has only one value.
        largest_cosine: What no picture in [0, 1] exceeds: where black is 0 for the layer, pictures cannot have the
            signs of negative weights. None if w is 0.
    """

    weights: Tensor
    patch: Tensor
    position: tuple[int, int]
    box: tuple[int, int, int, int]
    activation: float
    norm: float
    cosine: float | None
    centred_cosine: float | None
    largest_cosine: float | None


class FirstLayer:
    """A linear or two-dimensional convolutional layer that sees the pixels of pictures, as they are or normalised.

    Args:
        network: Any module that takes pictures ``(B, C, H, W)`` in [0, 1].
        layer: Path of the layer.
        image_shape: ``(C, H, W)`` of the pictures.

    Attributes:
        layer: Path of the layer.
        weights: ``(U, C, H, W)``, see `weight_images`.

    Raises:
        InputError: See `weight_images`; or the network does not reach the layer or cannot take such pictures, the
            layer's inputs are not the pixels, each multiplied by and added to constants, the convolution is grouped,
            or it changes its weights before it applies them.
    """

    def __init__(self, network: nn.Module, layer: str, image_shape: Sequence[int]) -> None:
        self.layer = layer
        self.weights = weight_images(network, layer, image_shape)
        self._network = network
        self._shape = tuple(image_shape)
        measure_layers(network, [LayerCall(layer)], image_shape)  # explains what the network cannot take
        # A copy for the CPU. The network stays as it is.
        self._module = copy.deepcopy(_weighted(network, layer)).float().cpu()
        if (groups := getattr(self._module, "groups", 1)) > 1:
            raise InputError(
                f"layer {layer!r} is a grouped convolution, groups={groups}, whose kernels see only some of the "
                "channels; choose a layer with groups=1"
            )
        bias = self._module.bias
        self._biases = torch.zeros(len(self.weights)) if bias is None else bias.detach()
        noise = torch.rand(self._shape, generator=torch.Generator().manual_seed(0))
        self._low, self._high = self._check_inputs(noise)
        self._check_weights(noise)

    @torch.no_grad()
    def match(self, units: Sequence[int], pictures: Tensor, *, either_sign: bool = False) -> list[WeightMatch]:
        """Compare the weights of units with what the layer sees in their pictures.

        Args:
            units: B indices of units.
            pictures: ``(B, C, H, W)`` in [0, 1], one a unit.
            either_sign: Whether the strongest activation may be negative, as in pictures that were made with the
                pooling ``"rms"``. The cosine is then negative where a picture shows the opposite of the weights.
        """
        assert len(units) == len(pictures)
        _, height, width = self._shape
        # Counted from 1, because padding is 0.
        rows, columns = torch.meshgrid(torch.arange(1.0, height + 1), torch.arange(1.0, width + 1), indexing="ij")
        row_patches, column_patches = (self._patches(places.expand(self._shape)) for places in (rows, columns))
        reachable = torch.where(self.weights > 0, self._high > 0, self._low < 0)
        matches = []
        for unit, picture, inputs in zip(units, pictures, self._inputs(pictures), strict=True):
            weights, patches = self.weights[unit], self._patches(inputs)
            activations = torch.tensordot(weights, patches, 3) + self._biases[unit]
            strengths = activations.abs() if either_sign else activations
            row, column = divmod(int(strengths.argmax()), strengths.shape[1])
            patch = patches[..., row, column]
            top, bottom = _ends(row_patches[..., row, column])
            left, right = _ends(column_patches[..., row, column])
            matches.append(
                WeightMatch(
                    weights=weights,
                    patch=self._patches(picture)[..., row, column],
                    position=(row, column),
                    box=(top, left, bottom, right),
                    activation=float(activations[row, column]),
                    norm=float(weights.norm()),
                    cosine=_cosine(weights, patch),
                    centred_cosine=_cosine(weights, patch, centred=True),
                    largest_cosine=_cosine(weights, weights * reachable[unit]),
                )
            )
        return matches

    def _inputs(self, pictures: Tensor) -> Tensor:
        """Return the layer's inputs for pictures ``(B, C, H, W)``, on the CPU; those of a linear layer as pictures."""
        parts = [layer_inputs(self._network, self.layer, part)[0][0] for part in torch.split(pictures, _BATCH_SIZE)]
        inputs = torch.cat(parts).float().cpu()
        if isinstance(self._module, nn.Linear) and inputs[0].numel() == self._module.in_features:
            return inputs.reshape(-1, *self._shape)
        return inputs

    def _patches(self, image: Tensor) -> Tensor:
        """Cut the patch under each position of the kernel out of an image ``(C, H, W)``: ``(C, h, w, rows, columns)``.

        The layer itself does it, with all its padding and strides: it gets kernels of a single 1.
        """
        if isinstance(self._module, nn.Linear):
            return image[..., None, None]
        shape = self.weights.shape[1:]
        kernels = torch.eye(shape.numel()).reshape(-1, *shape)
        state = {"weight": kernels}
        if self._module.bias is not None:
            state["bias"] = torch.zeros(len(kernels))
        patches: Tensor = functional_call(self._module, state, image[None])[0]
        return patches.reshape(*shape, *patches.shape[1:])

    def _check_inputs(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest input of each channel, ``(C, 1, 1)``: those of black and white pictures.

        Raises:
            InputError: The inputs are not the pixels, multiplied by and added to constants.
        """
        inputs = self._inputs(torch.stack([torch.zeros_like(noise), torch.ones_like(noise), noise]))
        black, white, seen = inputs
        problem = None
        if seen.shape != self._shape:
            problem = f"its inputs have the shape {tuple(seen.shape)}, the picture {self._shape}"
        elif black.equal(white) or not _is_close(noise * (white - black), seen - black):
            problem = "its inputs are in another order, or computed from several pixels"
        if problem is not None:
            first = first_layer(self._network)
            advice = f"choose the first layer, {first!r}" if first != self.layer else "choose a layer that does"
            raise InputError(f"layer {self.layer!r} does not see the pixels of the picture: {problem}; {advice}")
        return inputs[:2].amin((0, 2, 3))[:, None, None], inputs[:2].amax((0, 2, 3))[:, None, None]

    @torch.no_grad()
    def _check_weights(self, noise: Tensor) -> None:
        """Raise `InputError` if the outputs of a convolution are not the products of its weights with patches."""
        if isinstance(self._module, nn.Linear):
            return
        # Layers that change their weights may not take as many kernels of a single 1.
        with suppress(RuntimeError):
            products = torch.tensordot(self.weights, self._patches(noise), 3) + self._biases[:, None, None]
            if _is_close(products, self._module(noise[None])[0]):
                return
        raise InputError(
            f"layer {self.layer!r}, a {type(self._module).__name__}, changes its weights before it applies them; give "
            "the network with plain weights"
        )


def _weighted(network: nn.Module, layer: str) -> nn.Linear | nn.Conv2d:
    module = find_layer(network, layer)
    if isinstance(module, nn.Linear | nn.Conv2d):
        return module
    raise InputError(
        f"layer {layer!r} is a {type(module).__name__}; choose a Linear or Conv2d layer, whose weights are images"
    )


def _is_close(expected: Tensor, actual: Tensor) -> bool:
    return torch.allclose(expected, actual, atol=_ROUNDING * float(expected.nan_to_num().abs().max()), equal_nan=True)


def _cosine(first: Tensor, second: Tensor, *, centred: bool = False) -> float | None:
    """Return the cosine of two tensors, with their means removed if `centred`; None if either is then 0."""
    # In double precision, so that nothing is left of a tensor of one value without its mean.
    first, second = first.double(), second.double()
    if centred:
        first, second = first - first.mean(), second - second.mean()
    norms = float(first.norm() * second.norm())
    return float((first * second).sum()) / norms if 0 < norms < math.inf else None


def _ends(places: Tensor) -> tuple[int, int]:
    """Return the first of some places that are counted from 1, counted from 0, and the number of the last."""
    inside = places[places > 0]
    return int(inside.min()) - 1, int(inside.max())
