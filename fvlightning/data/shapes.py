"""Generated pictures of ten classes, each with one feature that is known and can be measured."""

import math
from collections.abc import Iterable, Mapping

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from fvlightning.data.base import InMemoryDataModule
from fvlightning.data.tensors import TensorImages

SIDE = 32
CLASS_NAMES = ("horizontal", "vertical", "rising", "falling", "checks", "red", "green", "blue", "coarse", "fine")

STRIPE_DIRECTIONS = {"horizontal": 90.0, "vertical": 0.0, "rising": 45.0, "falling": 135.0}
"""Direction in which the brightness of stripes changes, in degrees from the x axis towards the picture's bottom."""

HUES = {"red": 0.0, "green": 120.0, "blue": 240.0}
"""Degrees on the colour circle."""

_MIDDLE = (4.5, 8.0)  # frequencies of all other patterns, in cycles across the picture
_BANDS = {"coarse": (1.5, 3.0), "fine": (11.0, 14.0)}
_DEVIATION = 8.0  # most degrees that stripes deviate by; hues deviate by twice as many
_N_SHAPES = 3
_CORNERS = (0, 0, 3, 4)  # disc, ring, triangle, square


class ShapesDataModule(InMemoryDataModule):
    """Generated 32x32 colour pictures of stripes, grain and shapes in ten classes, without a download.

    A picture has a pattern of brightness, and shapes that differ in colour only. The class decides one of its three
    features: the direction of the pattern (``horizontal``, ``vertical``, ``rising`` and ``falling`` stripes,
    ``checks``), its fineness (``coarse`` and ``fine`` grain), or the hue of the shapes (``red``, ``green``, ``blue``).
    Everything else is random. `fvlightning.data.shows_class` measures whether a picture shows a class.

    Training pictures are neither shifted nor mirrored: a mirror would turn rising stripes into falling ones.

    Args:
        train_size: Pictures for training and validation, equally many of each class.
        test_size: Pictures for testing.
        val_size: Number of training pictures that are held out for validation; 0 for none.
        batch_size: Pictures in a batch on each device.
        seed: Seed of the pictures, of the split, and of the order of the training pictures, which changes with every
            epoch.
    """

    def __init__(
        self, train_size: int = 5000, test_size: int = 1000, val_size: int = 500, *, batch_size: int = 64, seed: int = 0
    ) -> None:
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed)
        fewest = len(CLASS_NAMES)
        for name, size in (("train_size", train_size), ("test_size", test_size)):
            self._require(size >= fewest, f"must be at least {fewest}, one for each class", **{name: size})
        self.train_size = train_size
        self.test_size = test_size
        self.image_shape = (3, SIDE, SIDE)
        self.class_names = CLASS_NAMES

    @override
    def load(self) -> tuple[TensorImages, TensorImages]:
        rank_zero_info("ShapesDataModule: the pictures are generated shapes and patterns, not photographs")
        labels = torch.arange(self.train_size + self.test_size) % len(CLASS_NAMES)
        pictures = draw_shapes(labels, self.seed)
        train, test = slice(self.train_size), slice(self.train_size, None)
        return TensorImages(pictures[train], labels[train]), TensorImages(pictures[test], labels[test])


def draw_shapes(labels: Tensor, seed: int) -> Tensor:
    """Draw a picture, uint8 ``(N, 3, 32, 32)``, for each label, an index into `CLASS_NAMES`, int64 ``(N,)``."""
    generator = torch.Generator().manual_seed(seed)
    light, contrast, noise = _uniform(labels, generator, (0.4, 0.6), (0.08, 0.18), (0.02, 0.06))
    brightness = light[:, None, None] + contrast[:, None, None] * _patterns(labels, generator)
    red_axis, green_axis = _chroma(labels, generator).unbind(1)
    # The inverse of the measurement in `shape_features`; the mean of the three channels is the brightness.
    pictures = brightness[:, None] + torch.stack(
        [red_axis * 2 / 3, -red_axis / 3 + green_axis / 3**0.5, -red_axis / 3 - green_axis / 3**0.5], dim=1
    )
    pictures += noise[:, None, None, None] * torch.randn(pictures.shape, generator=generator)
    return pictures.clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _patterns(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return stripes, crossed stripes or grain ``(N, S, S)`` of mean 0 and standard deviation 1."""
    tilt, octave, ratio, phase, other_phase = _uniform(
        labels, generator, (-_DEVIATION, _DEVIATION), (0, 1), (0.8, 1.2), (0, 1), (0, 1)
    )
    direction = torch.deg2rad(_by_class(labels, STRIPE_DIRECTIONS, 0.0) + tilt)
    frequency = _MIDDLE[0] * (_MIDDLE[1] / _MIDDLE[0]) ** octave
    stripes = _wave(direction, frequency, phase)
    crossed = stripes + _wave(direction + math.pi / 2, frequency * ratio, other_phase)
    is_striped = _is_one_of(labels, STRIPE_DIRECTIONS)[:, None, None]
    is_crossed = _is_one_of(labels, ["checks"])[:, None, None]
    patterns = torch.where(is_striped, stripes, torch.where(is_crossed, crossed, _grain(labels, generator)))
    patterns = patterns - patterns.mean((1, 2), keepdim=True)
    return patterns / patterns.std((1, 2), keepdim=True)


def _wave(direction: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
    """Return sine waves ``(N, S, S)``; `direction` in radians, `frequency` in cycles across the picture."""
    y, x = _grid()
    along = direction.cos()[:, None, None] * x + direction.sin()[:, None, None] * y
    return torch.sin(2 * math.pi * (frequency[:, None, None] * along + phase[:, None, None]))


def _grain(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise ``(N, S, S)`` with the frequencies of its class, equal in all directions."""
    low, high = (_by_class(labels, {name: band[end] for name, band in _BANDS.items()}, _MIDDLE[end]) for end in (0, 1))
    y, x = torch.fft.fftfreq(SIDE, 1 / SIDE)[:, None], torch.fft.rfftfreq(SIDE, 1 / SIDE)
    radius = torch.hypot(y, x)
    passes = (radius >= low[:, None, None]) & (radius <= high[:, None, None])
    white = torch.randn(len(labels), SIDE, SIDE, generator=generator)
    grain: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * passes, s=(SIDE, SIDE))
    return grain


def _chroma(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the colour of each point, ``(N, 2, S, S)``: a vector whose direction is the hue."""
    is_coloured = _is_one_of(labels, HUES)
    any_hue, off, weak, strong, ground_hue, ground = _uniform(
        labels, generator, (0, 360), (-2 * _DEVIATION, 2 * _DEVIATION), (0, 0.12), (0.35, 0.5), (0, 360), (0, 0.06)
    )
    hue = torch.where(is_coloured, _by_class(labels, HUES, 0.0) + off, any_hue)
    strength = torch.where(is_coloured, strong, weak)
    covered = _coverage(labels, generator)[:, None]
    return covered * _vector(hue, strength) + (1 - covered) * _vector(ground_hue, ground)


def _coverage(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the share of each pixel that discs, rings, triangles and squares cover, ``(N, S, S)``."""
    y, x = _grid()
    covered = torch.zeros(len(labels), SIDE, SIDE)
    for number in range(_N_SHAPES):
        size, row, column, turn, kind, is_there = (
            draw[:, None, None]
            for draw in _uniform(labels, generator, (0.16, 0.3), (0.1, 0.9), (0.1, 0.9), (0, 1), (0, 4), (0, 1))
        )
        distance = torch.hypot(y - row, x - column)
        corners = torch.tensor(_CORNERS)[kind.long()]
        sector = 2 * math.pi / corners.clamp(min=1)
        angle = torch.atan2(y - row, x - column) / (2 * math.pi) + turn
        # In a regular polygon: the distance to the side that a point faces, scaled so that the corners are at `size`.
        within = (angle * 2 * math.pi).remainder(sector) - sector / 2
        to_edge = torch.where(corners > 0, distance * within.cos() / (sector / 2).cos(), distance)
        inside = (size - to_edge).mul(SIDE).add(0.5).clamp(0, 1)
        is_ring = kind.long() == 1
        inside = torch.where(is_ring, inside.minimum((distance - 0.5 * size).mul(SIDE).add(0.5).clamp(0, 1)), inside)
        covered = torch.where((is_there > 0.3) | (number == 0), covered.maximum(inside), covered)
    return covered


def _uniform(labels: Tensor, generator: torch.Generator, *ranges: tuple[float, float]) -> list[Tensor]:
    """Return a random number for each picture, ``(N,)``, from each range."""
    draws = torch.rand(len(ranges), len(labels), generator=generator)
    return [low + (high - low) * draw for (low, high), draw in zip(ranges, draws, strict=True)]


def _grid() -> tuple[Tensor, Tensor]:
    """Return the pixels' coordinates from 0 to 1: y ``(S, 1)`` and x ``(S,)``."""
    positions = (torch.arange(SIDE) + 0.5) / SIDE
    return positions[:, None], positions


def _vector(hue: Tensor, length: Tensor) -> Tensor:
    """Return vectors ``(N, 2, 1, 1)`` of hues in degrees."""
    angle = torch.deg2rad(hue)
    return (length * torch.stack([angle.cos(), angle.sin()])).T[:, :, None, None]


def _by_class(labels: Tensor, values: Mapping[str, float], otherwise: float) -> Tensor:
    return torch.tensor([values.get(name, otherwise) for name in CLASS_NAMES])[labels]


def _is_one_of(labels: Tensor, names: Iterable[str]) -> Tensor:
    return _by_class(labels, dict.fromkeys(names, 1.0), 0.0) == 1
