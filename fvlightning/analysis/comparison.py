"""Pictures of the same units in several spaces, measured side by side with natural images."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.analysis.activations import own_activations, robust_activations
from fvlightning.analysis.natural_images import NaturalImages
from fvlightning.analysis.naturalness import spectral_slope, total_variation
from fvlightning.analysis.nearest import FeatureSpace, nearest_distances
from fvlightning.features.objectives import Objective

# How many pictures a network takes at once where only its forward pass is run.
MEASURED_AT_ONCE = 64


@dataclass(frozen=True)
class Measures:
    """What is measured of a picture, or the medians of many. None is what cannot be said.

    Attributes:
        activation_ratio: The objective on the clean picture, over the largest that a natural image reaches. None where
            that is not positive.
        robust_activation: The mean over random views (`robust_activations`), over that on the clean picture. None where
            the latter is not positive.
        total_variation: As of `total_variation`.
        spectral_slope: As of `spectral_slope`.
        nearest_natural: Distance to the nearest natural image in the feature space.
    """

    activation_ratio: float | None
    robust_activation: float | None
    total_variation: float | None
    spectral_slope: float | None
    nearest_natural: float | None


@dataclass(frozen=True)
class PictureMeasures(Measures):
    """The measures of one picture of one unit.

    Attributes:
        activation: The objective on the clean picture.
        unit: Text form of the unit.
        repeat: Which picture of the unit it is.
    """

    activation: float | None
    unit: str
    repeat: int


def measure_pictures(
    network: nn.Module,
    objectives: Sequence[Objective],
    places: Sequence[tuple[int, int]],
    pictures: Tensor,
    natural: NaturalImages,
    space: FeatureSpace,
    batch_size: int = MEASURED_AT_ONCE,
) -> list[PictureMeasures]:
    """Measure pictures of units; each by itself, whatever shares its batch.

    Args:
        network: Any module that takes the pictures.
        objectives: The units' objectives, in the order of `natural`.
        places: Of each picture the place of its objective, and which repeat it is.
        pictures: ``(B, C, H, W)`` in [0, 1].
        natural: What natural images are like.
        space: The feature space of `natural`.
        batch_size: How many pictures the network takes at once.
    """
    of_pictures = [objectives[place] for place, _ in places]
    clean, robust, features = [], [], []
    for first in range(0, len(pictures), batch_size):
        batch, own = pictures[first : first + batch_size], of_pictures[first : first + batch_size]
        clean.append(own_activations(network, own, batch).cpu())
        robust.append(robust_activations(network, own, batch).cpu())
        features.append(space(batch).cpu())
    nearest = nearest_distances(torch.cat(features), natural.features)
    return _assemble(objectives, places, natural, torch.cat(clean), torch.cat(robust), pictures, nearest)


def measure_strongest(
    network: nn.Module, objectives: Sequence[Objective], natural: NaturalImages, batch_size: int = MEASURED_AT_ONCE
) -> list[PictureMeasures]:
    """Measure the natural image that excites each unit most; its distance is that to the nearest other image.

    Args:
        network: As of `measure_pictures`.
        objectives: As of `measure_pictures`.
        natural: As of `measure_pictures`.
        batch_size: As of `measure_pictures`.
    """
    robust = []
    for first in range(0, len(objectives), batch_size):
        last = first + batch_size
        robust.append(robust_activations(network, objectives[first:last], natural.strongest[first:last]).cpu())
    clean, nearest = natural.activations.amax(0), natural.nearest[natural.places]
    places = [(place, 0) for place in range(len(objectives))]
    return _assemble(objectives, places, natural, clean, torch.cat(robust), natural.strongest, nearest)


def medians(measured: Sequence[Measures]) -> Measures:
    """Return the medians of what can be said; None of what cannot be said of any."""
    return Measures(**{name: _median([getattr(each, name) for each in measured]) for name in measure_names()})


def natural_medians(natural: NaturalImages) -> Measures:
    """Return the medians of all natural images, of what does not depend on a unit."""
    values = (natural.total_variation, natural.spectral_slope, natural.nearest)
    return Measures(None, None, *(_median([_said(value) for value in each.tolist()]) for each in values))


def measure_names() -> list[str]:
    """Return the names of the measures, in their order."""
    return [field.name for field in fields(Measures)]


def plain(measured: Measures) -> Mapping[str, Any]:
    """Return measures as plain values."""
    return {field.name: getattr(measured, field.name) for field in fields(measured)}


def _assemble(
    objectives: Sequence[Objective],
    places: Sequence[tuple[int, int]],
    natural: NaturalImages,
    clean: Tensor,
    robust: Tensor,
    pictures: Tensor,
    nearest: Tensor,
) -> list[PictureMeasures]:
    highest = natural.activations.amax(0)[torch.tensor([place for place, _ in places])]
    columns = (clean, robust, highest, total_variation(pictures), spectral_slope(pictures), nearest)
    measured = []
    for (place, repeat), row in zip(places, torch.stack(columns, dim=1).tolist(), strict=True):
        activation, over_views, most, *rest = row
        variation, slope, distance = (_said(value) for value in rest)
        measured.append(
            PictureMeasures(
                activation_ratio=_ratio(activation, most),
                robust_activation=_ratio(over_views, activation),
                total_variation=variation,
                spectral_slope=slope,
                nearest_natural=distance,
                activation=_said(activation),
                unit=str(objectives[place]),
                repeat=repeat,
            )
        )
    return measured


def _ratio(above: float, below: float) -> float | None:
    return _said(above / below) if below > 0 else None


def _said(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(values: Sequence[float | None]) -> float | None:
    said = [value for value in values if value is not None]
    return statistics.median(said) if said else None
