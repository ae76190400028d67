"""Measures of single pictures: of their pixels, activation of random crops, distance to natural images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.features import (
    Objective,
    RandomResizedCrop,
    isolated_rng,
    picture_generator,
    score,
    total_variation,
)
from fvlightning.features.capture import Activation, device_and_dtype, find_layer, frozen, survey_layers
from fvlightning.protocols import picture_network

_N_CROPS = 16
# Half of the area or more. No flips: a unit may detect a direction.
_CROP = RandomResizedCrop(side=(0.5**0.5, 1.0))
_SMALLEST_POWER = 1e-12
_CHUNK = 1024


def robust_activations(network: nn.Module, objectives: Sequence[Objective], pictures: Tensor) -> Tensor:
    """Return the mean score ``(B,)``, on the network's device, of 16 random crops of each picture.

    There is one objective per picture. A picture always gets the same crops, whatever shares its batch. A crop covers
    half to all of the area and is enlarged to the picture's size.
    """
    generators = [picture_generator(0, f"views of {objective}", 0) for objective in objectives]
    draws = torch.stack([torch.rand(_N_CROPS, _CROP.n_draws, generator=generator) for generator in generators], dim=1)
    pictures = pictures.to(device_and_dtype(network)[0])
    crops = (_CROP(pictures, draws_of_crop.to(pictures)) for draws_of_crop in draws)
    return torch.stack([score(network, objectives, crop, paired=True) for crop in crops]).mean(0)


def spectral_slope(pictures: Tensor) -> Tensor:
    """Return the slope of the logarithmic power over the logarithmic frequency, of the mean of the channels.

    The power is the mean over rings of whole cycles per picture, from 2 to half the side, under a Hann window.
    Photographs have about -2 to -3 (Field 1987, https://doi.org/10.1364/JOSAA.4.002379), noise has 0.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1]. If they are not square, only the top left square counts.

    Returns:
        ``(B,)``: 0 for a picture of one colour, NaN for a side of less than 8 pixels, which has fewer than two rings.
    """
    side = min(pictures.shape[-2:])
    radii = torch.arange(2, side // 2, device=pictures.device)
    if len(radii) < 2:
        return pictures.new_full((len(pictures),), torch.nan)
    grey = pictures.mean(1)[:, :side, :side]
    grey = grey - grey.mean((1, 2), keepdim=True)
    window = torch.hann_window(side, periodic=False, device=pictures.device, dtype=pictures.dtype)
    power: Tensor = torch.fft.fft2(grey * window[:, None] * window).abs().square()
    frequencies = torch.fft.fftfreq(side, 1 / side, device=pictures.device)
    rings = torch.hypot(frequencies[:, None], frequencies).round().long().flatten()
    counts = rings.bincount()
    sums = power.new_zeros(len(pictures), len(counts)).index_add(1, rings, power.flatten(1))
    log_power = (sums / counts)[:, radii].clamp(min=_SMALLEST_POWER).log()
    log_frequency = radii.to(log_power).log()
    log_frequency = log_frequency - log_frequency.mean()
    # The least-squares line.
    return (log_power * log_frequency).sum(1) / log_frequency.square().sum()


def contrast(pictures: Tensor) -> Tensor:
    """Return the standard deviation ``(B,)`` of all values of each picture ``(B, C, H, W)`` in [0, 1].

    Photographs have about .23.
    """
    return pictures.flatten(1).std(1, correction=0)


def colorfulness(pictures: Tensor) -> Tensor:
    """Return how colourful pictures are (Hasler and Süsstrunk 2003, https://doi.org/10.1117/12.477378).

    ``√(σ²(rg) + σ²(yb)) + .3 · √(μ²(rg) + μ²(yb))``, with ``rg = R - G`` and ``yb = (R + G) / 2 - B``. Photographs have
    about .15.

    Args:
        pictures: ``(B, C, H, W)`` in [0, 1].

    Returns:
        ``(B,)``: 0 for one channel, which is grey, and NaN for other numbers of channels, whose colours are not known.
    """
    if pictures.shape[1] != 3:
        return pictures.new_full((len(pictures),), 0.0 if pictures.shape[1] == 1 else torch.nan)
    red, green, blue = pictures.flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])  # (2, B, H * W)
    spread, mean = torch.hypot(*opponents.std(2, correction=0)), torch.hypot(*opponents.mean(2))
    return spread + 0.3 * mean


def pixel_measures(pictures: Tensor) -> dict[str, Tensor]:
    """Return the measures ``(B,)`` that pictures ``(B, C, H, W)`` in [0, 1] have without a network, by their names."""
    return {
        "total_variation": total_variation(pictures, mean=True),
        "spectral_slope": spectral_slope(pictures),
        "contrast": contrast(pictures),
        "colorfulness": colorfulness(pictures),
    }


class FeatureSpace:
    """The input of a network's last layer: in a classifier, the features that tell the classes apart.

    The last layer is the one without child modules that is called last; `layer` is its path. Maps and sequences are
    averaged over their positions.

    Args:
        network: Any module that takes pictures. If it has a ``net``, the last layer of that counts.
        image_shape: ``(C, H, W)`` of the pictures.

    Raises:
        InputError: The network cannot take such pictures.
    """

    def __init__(self, network: nn.Module, image_shape: Sequence[int]) -> None:
        paths = [survey.layer.layer for survey in survey_layers(network, image_shape)]
        self.layer = [path for path in paths if not any(find_layer(network, path).children())][-1]
        self._network = network

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the features ``(B, D)``, on the network's device, of pictures ``(B, C, H, W)`` in [0, 1]."""
        inputs = layer_inputs(self._network, self.layer, pictures)[-1]
        layer = find_layer(self._network, self.layer)
        values = Activation.of(inputs, None, layer, pictures.shape[2:]).values
        return (values.flatten(2).mean(2) if values.ndim > 2 else values).float()


def layer_inputs(network: nn.Module, layer: str, pictures: Tensor) -> list[tuple[Any, ...]]:
    """Return the positional inputs of each call of a layer, for pictures ``(B, C, H, W)`` in [0, 1]."""
    device, dtype = device_and_dtype(network)
    inputs: list[tuple[Any, ...]] = []
    handle = find_layer(network, layer).register_forward_pre_hook(lambda _, args: inputs.append(args))
    try:
        with isolated_rng(), frozen(network), torch.no_grad():
            picture_network(network)(pictures.to(device, dtype))
    finally:
        handle.remove()
    return inputs


def nearest_distances(features: Tensor, references: Tensor | None = None) -> Tensor:
    """Return the Euclidean distance ``(B,)`` of each row of features ``(B, D)`` to the nearest reference ``(N, D)``.

    The references are by default the other rows; the distance of a single row is infinite. It is the plausibility of
    Fel et al. 2023 (https://arxiv.org/abs/2306.06805).
    """
    nearest = []
    for first in range(0, len(features), _CHUNK):
        distances = torch.cdist(features[first : first + _CHUNK], features if references is None else references)
        if references is None:
            distances.diagonal(first).fill_(torch.inf)  # of each row to itself
        nearest.append(distances.amin(1))
    return torch.cat(nearest)
