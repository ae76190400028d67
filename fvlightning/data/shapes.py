"""Generated pictures of ten classes, each with one feature that is known and can be measured.

A picture has a pattern of brightness, and shapes on it that differ in colour only. So it has three sides that do not
depend on each other: the direction of the pattern, its fineness, and the hue of the shapes. The class decides one of
them; the other two, and phase, contrast, brightness, noise, and the kind, number, size and place of the shapes, are
random. `fvlightning.data.shape_features` measures the three.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

SIDE = 32
CLASS_NAMES = ("horizontal", "vertical", "rising", "falling", "checks", "red", "green", "blue", "coarse", "fine")

STRIPE_DIRECTIONS = {"horizontal": 90.0, "vertical": 0.0, "rising": 45.0, "falling": 135.0}
"""Degrees from the x axis towards the bottom of the picture, in which the brightness of stripes changes."""

HUES = {"red": 0.0, "green": 120.0, "blue": 240.0}
"""Degrees on the colour circle."""

_MIDDLE = (4.5, 8.0)  # cycles across the picture, of all patterns but these:
_BANDS = {"coarse": (1.5, 3.0), "fine": (11.0, 14.0)}
_DEVIATION = 8.0  # degrees by which stripes, and half the degrees by which hues, are off at most
_SHAPES = 3  # in a picture
_CORNERS = (0, 0, 3, 4)  # disc, ring, triangle, square


def draw_shapes(labels: Tensor, seed: int) -> Tensor:
    """Draw a picture for each label.

    Args:
        labels: Indices into `CLASS_NAMES`, int64 of shape `(N,)`.
        seed: The same seed and labels give the same pictures.

    Returns:
        Bytes, uint8 of shape `(N, 3, 32, 32)`.
    """
    generator = torch.Generator().manual_seed(seed)
    light, contrast, noise = _uniform(labels, generator, (0.4, 0.6), (0.08, 0.18), (0.02, 0.06))
    brightness = light[:, None, None] + contrast[:, None, None] * _patterns(labels, generator)
    red_axis, green_axis = _chroma(labels, generator).unbind(1)
    # The inverse of what `shape_features` measures; the mean of the three is the brightness.
    pictures = brightness[:, None] + torch.stack(
        [red_axis * 2 / 3, -red_axis / 3 + green_axis / 3**0.5, -red_axis / 3 - green_axis / 3**0.5], dim=1
    )
    pictures += noise[:, None, None, None] * torch.randn(pictures.shape, generator=generator)
    return pictures.clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _patterns(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return patterns of mean 0 and standard deviation 1, `(N, S, S)`: stripes, crossed stripes, or grain."""
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
    """Return sine waves `(N, S, S)`; the direction is in radians, the frequency in cycles across the picture."""
    y, x = _grid()
    along = direction.cos()[:, None, None] * x + direction.sin()[:, None, None] * y
    return torch.sin(2 * math.pi * (frequency[:, None, None] * along + phase[:, None, None]))


def _grain(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise `(N, S, S)` that has the frequencies of its class's band, in all directions alike."""
    low, high = (_by_class(labels, {name: band[end] for name, band in _BANDS.items()}, _MIDDLE[end]) for end in (0, 1))
    y, x = torch.fft.fftfreq(SIDE, 1 / SIDE)[:, None], torch.fft.rfftfreq(SIDE, 1 / SIDE)
    radius = torch.hypot(y, x)
    passes = (radius >= low[:, None, None]) & (radius <= high[:, None, None])
    white = torch.randn(len(labels), SIDE, SIDE, generator=generator)
    grain: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * passes, s=(SIDE, SIDE))
    return grain


def _chroma(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the colour of each point, `(N, 2, S, S)`: a vector whose direction is the hue."""
    is_coloured = _is_one_of(labels, HUES)
    any_hue, off, weak, strong, ground_hue, ground = _uniform(
        labels, generator, (0, 360), (-2 * _DEVIATION, 2 * _DEVIATION), (0, 0.12), (0.35, 0.5), (0, 360), (0, 0.06)
    )
    hue = torch.where(is_coloured, _by_class(labels, HUES, 0.0) + off, any_hue)
    strength = torch.where(is_coloured, strong, weak)
    on_shapes, on_ground = _vector(hue, strength), _vector(ground_hue, ground)
    covered = _coverage(labels, generator)[:, None]
    return covered * on_shapes + (1 - covered) * on_ground


def _coverage(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return how much of each pixel is covered by shapes, `(N, S, S)`: discs, rings, triangles and squares."""
    y, x = _grid()
    covered = torch.zeros(len(labels), SIDE, SIDE)
    for number in range(_SHAPES):
        size, row, column, turn, kind, is_there = (
            draw[:, None, None]
            for draw in _uniform(labels, generator, (0.16, 0.3), (0.1, 0.9), (0.1, 0.9), (0, 1), (0, 4), (0, 1))
        )
        distance = torch.hypot(y - row, x - column)
        corners = torch.tensor(_CORNERS)[kind.long()]
        sector = 2 * math.pi / corners.clamp(min=1)
        angle = torch.atan2(y - row, x - column) / (2 * math.pi) + turn
        # Of a regular polygon, the distance from the side that a point faces, scaled so that the corners are at `size`.
        within = (angle * 2 * math.pi).remainder(sector) - sector / 2
        to_edge = torch.where(corners > 0, distance * within.cos() / (sector / 2).cos(), distance)
        inside = (size - to_edge).mul(SIDE).add(0.5).clamp(0, 1)
        is_ring = kind.long() == 1
        inside = torch.where(is_ring, inside.minimum((distance - 0.5 * size).mul(SIDE).add(0.5).clamp(0, 1)), inside)
        covered = torch.where((is_there > 0.3) | (number == 0), covered.maximum(inside), covered)
    return covered


def _uniform(labels: Tensor, generator: torch.Generator, *ranges: tuple[float, float]) -> list[Tensor]:
    """Return one random number a picture, `(N,)`, for each range."""
    draws = torch.rand(len(ranges), len(labels), generator=generator)
    return [low + (high - low) * draw for (low, high), draw in zip(ranges, draws, strict=True)]


def _grid() -> tuple[Tensor, Tensor]:
    """Return y, `(S, 1)`, and x, `(S,)`, of the pixels, from 0 to 1."""
    positions = (torch.arange(SIDE) + 0.5) / SIDE
    return positions[:, None], positions


def _vector(hue: Tensor, length: Tensor) -> Tensor:
    """Return vectors `(N, 2, 1, 1)` of a hue in degrees."""
    angle = torch.deg2rad(hue)
    return (length * torch.stack([angle.cos(), angle.sin()])).T[:, :, None, None]


def _by_class(labels: Tensor, values: dict[str, float], otherwise: float) -> Tensor:
    return torch.tensor([values.get(name, otherwise) for name in CLASS_NAMES])[labels]


def _is_one_of(labels: Tensor, names: Iterable[str]) -> Tensor:
    chosen = set(names)
    return torch.tensor([name in chosen for name in CLASS_NAMES])[labels]
