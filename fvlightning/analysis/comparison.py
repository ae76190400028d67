"""Pictures of units, measured side by side with natural images."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from fvlightning.analysis.measures import FeatureSpace, nearest_distances, robust_activations, spectral_slope
from fvlightning.features import Objective, score, total_variation

_BATCH_SIZE = 64


@dataclass(frozen=True)
class NaturalImages:
    """Measures of N natural images and U objectives: the yardstick for pictures that are made for a network."""

    activations: Tensor  # (N, U)
    strongest: Tensor  # (U, C, H, W) in [0, 1], the image with the highest score of each objective
    places: Tensor  # (U,), the index of that image among the N
    features: Tensor  # (N, D)
    total_variation: Tensor  # (N,)
    spectral_slope: Tensor  # (N,)
    nearest: Tensor  # (N,), the distance of each to the nearest other image in the feature space


@dataclass(frozen=True)
class Measures:
    """Measures of a picture, or the medians of many pictures. None: not finite, or a ratio to a score of 0 or less."""

    activation_ratio: float | None  # the score of the clean picture over the largest of a natural image
    robust_activation: float | None  # the mean score of random crops over that of the clean picture
    total_variation: float | None  # see `fvlightning.features.total_variation`
    spectral_slope: float | None  # see `spectral_slope`
    nearest_natural: float | None  # the distance to the nearest natural image in the feature space


@dataclass(frozen=True)
class PictureMeasures(Measures):
    """The measures of one picture of one unit."""

    activation: float | None  # the score of the clean picture
    unit: str  # in text form
    repeat: int  # which picture of the unit it is


def measure_natural_images(
    network: nn.Module, objectives: Sequence[Objective], space: FeatureSpace, batches: Iterable[Tensor]
) -> NaturalImages:
    """Measure batches of natural images ``(B, C, H, W)`` in [0, 1], on the network's device; at least one batch."""
    measures: list[tuple[Tensor, ...]] = []
    best: tuple[Tensor, ...] = ()
    n_before = 0
    for pictures in batches:
        activations = score(network, objectives, pictures)
        highest, rows = activations.max(0)
        candidates = highest, pictures[rows], rows + n_before
        best = best or candidates
        better = highest > best[0]
        best = tuple(
            torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(candidates, best, strict=True)
        )
        n_before += len(pictures)
        values = activations, space(pictures), total_variation(pictures, mean=True), spectral_slope(pictures)
        measures.append(tuple(value.cpu() for value in values))
    assert best, "no batches"
    activations, features, variation, slope = (torch.cat(parts) for parts in zip(*measures, strict=True))
    strongest, places = best[1].cpu(), best[2].cpu()
    return NaturalImages(activations, strongest, places, features, variation, slope, nearest_distances(features))


def measure_pictures(
    network: nn.Module,
    objectives: Sequence[Objective],
    places: Sequence[tuple[int, int]],
    pictures: Tensor,
    natural: NaturalImages,
    *,
    space: FeatureSpace,
    batch_size: int | None = None,
) -> list[PictureMeasures]:
    """Measure pictures of units, each independently of the others in its batch.

    Args:
        network: Any module that takes the pictures.
        objectives: The units' objectives, in the order of `natural`.
        places: For each picture the index of its objective, and which repeat it is.
        pictures: ``(B, C, H, W)`` in [0, 1].
        natural: The measures of natural images.
        space: The feature space of `natural`.
        batch_size: Pictures that the network takes at once. Default: 64.
    """
    paired = [objectives[place] for place, _ in places]
    batches = _batches(len(pictures), batch_size)
    clean = torch.cat([score(network, paired[rows], pictures[rows], paired=True).cpu() for rows in batches])
    robust = torch.cat([robust_activations(network, paired[rows], pictures[rows]).cpu() for rows in batches])
    nearest = nearest_distances(torch.cat([space(pictures[rows]).cpu() for rows in batches]), natural.features)
    columns = clean, robust, total_variation(pictures, mean=True), spectral_slope(pictures), nearest
    return _assemble(objectives, places, natural, columns)


def measure_strongest(
    network: nn.Module, objectives: Sequence[Objective], natural: NaturalImages, batch_size: int | None = None
) -> list[PictureMeasures]:
    """Measure each unit's strongest natural image like a picture; its distance is that to the nearest other image."""
    pictures, batches = natural.strongest, _batches(len(objectives), batch_size)
    robust = torch.cat([robust_activations(network, objectives[rows], pictures[rows]).cpu() for rows in batches])
    pixels = total_variation(pictures, mean=True), spectral_slope(pictures)
    columns = natural.activations.amax(0), robust, *pixels, natural.nearest[natural.places]
    return _assemble(objectives, [(place, 0) for place in range(len(objectives))], natural, columns)


def medians(measures: Sequence[Measures]) -> Measures:
    """Return the median of each measure over the pictures that have it; None if no picture has it."""
    return Measures(*(_median([getattr(picture, field.name) for picture in measures]) for field in fields(Measures)))


def natural_medians(natural: NaturalImages) -> Measures:
    """Return the medians of all natural images. Measures that depend on a unit are None."""
    columns = natural.total_variation, natural.spectral_slope, natural.nearest
    return Measures(None, None, *(_median(column.tolist()) for column in columns))


def _batches(count: int, batch_size: int | None) -> list[slice]:
    size = batch_size or _BATCH_SIZE
    return [slice(first, first + size) for first in range(0, count, size)]


def _assemble(
    objectives: Sequence[Objective],
    places: Sequence[tuple[int, int]],
    natural: NaturalImages,
    columns: Sequence[Tensor],
) -> list[PictureMeasures]:
    """Make rows of five columns ``(B,)``: clean score, score of crops, total variation, spectral slope, distance."""
    largest = natural.activations.amax(0)[torch.tensor([place for place, _ in places])]
    rows = torch.stack([largest, *columns], dim=1).tolist()
    return [
        PictureMeasures(
            activation_ratio=_ratio(clean, most),
            robust_activation=_ratio(robust, clean),
            total_variation=_finite(variation),
            spectral_slope=_finite(slope),
            nearest_natural=_finite(distance),
            activation=_finite(clean),
            unit=str(objectives[place]),
            repeat=repeat,
        )
        for (place, repeat), (most, clean, robust, variation, slope, distance) in zip(places, rows, strict=True)
    ]


def _ratio(value: float, reference: float) -> float | None:
    return _finite(value / reference) if reference > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(known) if known else None
