"""Pictures by a small network that draws them from coordinates."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.errors import InputError
from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.display import check_max_rms, check_std, to_display

# Moments of the arctangent of a standard normal variable, rounded as in lucid.
_VALUE_STD, _SQUARE_MEAN, _SQUARE_STD, _SQUARE_RMS = 0.67, 0.45, 0.396, 0.6
# Weights are this times the parameters. The networks need a tenth of the steps that other parametrisations take, and
# Adam's steps do not depend on the size of the gradient: with this factor one learning rate suits all.
_WEIGHT_SCALE = 0.1


class CPPNImage(Parametrization):
    """The parameters are the weights of a network that maps a pixel's coordinates to its colour.

    Compositional pattern-producing networks (Stanley 2007) draw smooth, endless patterns, more like graphics than like
    photos (Mordvintsev et al. 2018, https://distill.pub/2018/differentiable-parameterizations/#section-xy2rgb). Each
    picture has its own weights: `num_layers` layers of `width` linear maps of the coordinates (x, y), each followed by
    ``[atan(h) / 0.67, (atan(h)² - 0.45) / 0.396]``, whose parts have mean 0 and standard deviation 1 if h is standard
    normal, then one linear map to the channels, and a sigmoid.

    Coordinates run from -√3 to √3 over the side of a square picture, which gives them unit variance; in other pictures
    the step is the same both ways. The same parameters draw the same picture at any size. They are one vector: layer by
    layer the weights ``(in, out)`` and the biases ``(out,)``, times ten, so that Adam with a learning rate of 0.05
    moves the weights by 0.005. Every layer keeps its values at all pixels for the gradient, some 160 MB for a picture
    of 224 pixels, so make batches small. It cannot start from a picture (`invert`).

    Args:
        num_layers: Number of hidden layers. More make finer patterns.
        width: Number of linear maps of a hidden layer; the activation doubles them.
        activation: ``"unbiased"`` as above; ``"composite"`` without subtracting the mean, ``atan(h)² / 0.6``.
        std: Standard deviation of the initial weights of the last layer, relative to that of the hidden layers, which
            is ``sqrt(1 / inputs)``. 0 starts with a grey picture, as lucid does.
        decorrelate: Whether the network draws decorrelated colours (`correlate_colors`).
        max_rms: Bound on the root mean square of a picture (`limit_rms`), for data on a black background.

    Raises:
        InputError: A setting is out of its range.
    """

    def __init__(
        self,
        num_layers: int = 8,
        width: int = 24,
        activation: Literal["unbiased", "composite"] = "unbiased",
        std: float = 0.01,
        decorrelate: bool = False,
        max_rms: float | None = None,
    ) -> None:
        for name, value in {"num_layers": num_layers, "width": width}.items():
            if value < 1:
                raise InputError(f"CPPNImage({name}={value}): must be at least 1")
        if activation not in ("unbiased", "composite"):
            raise InputError(f"CPPNImage(activation={activation!r}): must be 'unbiased' or 'composite'")
        self.num_layers = num_layers
        self.width = width
        self.activation = activation
        self.std = check_std("CPPNImage", std)
        self.decorrelate = decorrelate
        self.max_rms = check_max_rms("CPPNImage", max_rms)

    @override
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        layers = self._layers(image_shape[0])
        parts = []
        for place, (n_inputs, n_outputs) in enumerate(layers):
            std = math.sqrt(1 / n_inputs) * (self.std if place == len(layers) - 1 else 1)
            parts.append(std * torch.randn(n_inputs * n_outputs, generator=generator))
            parts.append(torch.zeros(n_outputs))
        return torch.cat(parts) / _WEIGHT_SCALE

    @override
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        channels, height, width = image_shape
        layers = self._layers(channels)
        counts = [count for n_inputs, n_outputs in layers for count in (n_inputs * n_outputs, n_outputs)]
        parts = torch.split_with_sizes(_WEIGHT_SCALE * parameters, counts, dim=1)
        # (B, features, pixels) throughout: one matrix product per layer for all pictures.
        hidden = _coordinates(height, width, parameters).expand(len(parameters), -1, -1)
        for place, (n_inputs, n_outputs) in enumerate(layers):
            weights = parts[2 * place].reshape(-1, n_inputs, n_outputs).transpose(1, 2)
            hidden = torch.baddbmm(parts[2 * place + 1][:, :, None], weights, hidden)
            if place < len(layers) - 1:
                hidden = self._activate(hidden)
        return to_display(hidden.reshape(-1, channels, height, width), self.decorrelate, self.max_rms)

    @override
    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        """Return the parameters as they are: they draw the same picture at any size."""
        if blur:
            raise InputError(f"CPPNImage cannot blur pictures by {blur:g} at a new size; leave out the blur")
        return parameters

    def _activate(self, hidden: Tensor) -> Tensor:
        values = hidden.atan()
        squares = values.square()
        centred = (squares - _SQUARE_MEAN) / _SQUARE_STD if self.activation == "unbiased" else squares / _SQUARE_RMS
        return torch.cat([values / _VALUE_STD, centred], dim=1)

    def _layers(self, channels: int) -> list[tuple[int, int]]:
        """Return the numbers of inputs and outputs of each linear map."""
        return [
            (2 if place == 0 else 2 * self.width, channels if place == self.num_layers else self.width)
            for place in range(self.num_layers + 1)
        ]


def _coordinates(height: int, width: int, like: Tensor) -> Tensor:
    """Return x and y of each pixel, ``(2, H * W)``."""
    step = 2 * math.sqrt(3 / (height * width))
    rows = (torch.arange(height, device=like.device, dtype=like.dtype) - (height - 1) / 2) * step
    columns = (torch.arange(width, device=like.device, dtype=like.dtype) - (width - 1) / 2) * step
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])
