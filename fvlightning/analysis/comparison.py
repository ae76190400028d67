"""Pictures of units, measured side by side with natural images."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from fvlightning.analysis.measures import FeatureSpace, nearest_distances, pixel_measures, robust_activations
from fvlightning.features import Objective, score

_BATCH_SIZE = 64


@dataclass(frozen=True)
class NaturalImages:
    """Measures of N natural images and U objectives: the yardstick for pictures that are made for a network."""

    activations: Tensor  # (N, U)
    strongest: Tensor  # (U, C, H, W) in [0, 1], the image with the highest score of each objective
    places: Tensor  # (U,), the index of that image among the N
    features: Tensor  # (N, D)
    pixels: Mapping[str, Tensor]  # (N,) each, see `pixel_measures`
    nearest: Tensor  # (N,), the distance of each to the nearest other image in the feature space


@dataclass(frozen=True)
class Measures:
    """Measures of a picture, or the medians of many pictures. None: not finite, or a ratio to a score of 0 or less."""

    activation_ratio: float | None  # the score of the clean picture over the largest of a natural image
    robust_activation: float | None  # the mean score of random crops over that of the clean picture
    total_variation: float | None  # see `fvlightning.features.total_variation`
    spectral_slope: float | None  # see `spectral_slope`
    contrast: float | None  # see `contrast`
    colorfulness: float | None  # see `colorfulness`
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
    pixels: list[dict[str, Tensor]] = []
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
        measures.append((activations.cpu(), space(pictures).cpu()))
        pixels.append(pixel_measures(pictures))
    assert best, "no batches"
    activations, features = (torch.cat(parts) for parts in zip(*measures, strict=True))
    by_name = {name: torch.cat([batch[name] for batch in pixels]).cpu() for name in pixels[0]}
    strongest, places = best[1].cpu(), best[2].cpu()
    return NaturalImages(activations, strongest, places, features, by_name, nearest_distances(features))


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
    return _assemble(objectives, places, natural, (clean, robust, nearest), pixel_measures(pictures))


def measure_strongest(
    network: nn.Module, objectives: Sequence[Objective], natural: NaturalImages, batch_size: int | None = None
) -> list[PictureMeasures]:
    """Measure each unit's strongest natural image like a picture; its distance is that to the nearest other image."""
    pictures, batches = natural.strongest, _batches(len(objectives), batch_size)
    robust = torch.cat([robust_activations(network, objectives[rows], pictures[rows]).cpu() for rows in batches])
    columns = natural.activations.amax(0), robust, natural.nearest[natural.places]
    places = [(place, 0) for place in range(len(objectives))]
    return _assemble(objectives, places, natural, columns, pixel_measures(pictures))


def medians(measures: Sequence[Measures]) -> Measures:
    """Return the median of each measure over the pictures that have it; None if no picture has it."""
    return Measures(*(_median([getattr(picture, field.name) for picture in measures]) for field in fields(Measures)))


def natural_medians(natural: NaturalImages) -> Measures:
    """Return the medians of all natural images. Measures that depend on a unit are None."""
    pixels = {name: _median(values.tolist()) for name, values in natural.pixels.items()}
    nearest = _median(natural.nearest.tolist())
    return Measures(activation_ratio=None, robust_activation=None, nearest_natural=nearest, **pixels)


def _batches(count: int, batch_size: int | None) -> list[slice]:
    size = batch_size or _BATCH_SIZE
    return [slice(first, first + size) for first in range(0, count, size)]


def _assemble(
    objectives: Sequence[Objective],
    places: Sequence[tuple[int, int]],
    natural: NaturalImages,
    columns: tuple[Tensor, Tensor, Tensor],
    pixels: Mapping[str, Tensor],
) -> list[PictureMeasures]:
    """Make rows of the clean scores, the scores of crops, the distances, and the measures of pixels, ``(B,)`` each."""
    largest = natural.activations.amax(0)[torch.tensor([place for place, _ in places])]
    rows = torch.stack([largest, *columns], dim=1).tolist()
    rows_of_pixels = torch.stack(list(pixels.values()), dim=1).tolist()
    return [
        PictureMeasures(
            activation_ratio=_ratio(clean, most),
            robust_activation=_ratio(robust, clean),
            nearest_natural=_finite(distance),
            activation=_finite(clean),
            unit=str(objectives[place]),
            repeat=repeat,
            **dict(zip(pixels, map(_finite, values), strict=True)),
        )
        for (place, repeat), (most, clean, robust, distance), values in zip(places, rows, rows_of_pixels, strict=True)
    ]


def _ratio(value: float, reference: float) -> float | None:
    return _finite(value / reference) if reference > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(known) if known else None
