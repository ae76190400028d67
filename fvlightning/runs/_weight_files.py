"""Weights beside pictures as files: a sheet, and all figures for programs."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from torch import Tensor, nn

from fvlightning.analysis import FirstLayer, WeightMatch
from fvlightning.errors import InputError
from fvlightning.features import Objective, Unit
from fvlightning.io import write_json
from fvlightning.output import (
    Pixels,
    Record,
    card_parts,
    contact_sheet,
    layer_name,
    resized,
    save_png,
    to_pixels,
    weight_pixels,
)

_COSINES = ("cosine", "centred_cosine", "largest_cosine")
# In pixels.
_SMALLEST_TILE = 112
_GAP = 4
_SMALLEST_FRAME = 20
_FRAME = (230, 60, 30)


def write_weights(
    folder: Path,
    records: Sequence[Record],
    matches: Sequence[WeightMatch],
    pictures: Tensor,
    *,
    settings: Mapping[str, Any],
) -> tuple[str, dict[str, PILImage.Image]]:
    """Write ``LAYER_weights.png`` and ``weights.json``, each whole or not at all.

    Args:
        folder: Where the files go.
        records: Those of the pictures.
        matches: How the weights compare with each picture.
        pictures: ``(B, C, H, W)`` in [0, 1].
        settings: Plain values with the names of the ``model`` and the ``layer``.

    Returns:
        A line about the medians, and the sheets for loggers by name, ``LAYER``, or ``LAYER/FIRST-LAST`` for each 25
        units of a layer that has more.
    """
    figures = [_figures(record, match) for record, match in zip(records, matches, strict=True)]
    medians = {name: _median([values[name] for values in figures]) for name in _COSINES}
    write_json(folder / "weights.json", {**settings, "medians": medians, "units": figures})
    tiles = [weight_tile(match, picture) for match, picture in zip(matches, pictures, strict=True)]
    labels = [
        f"{record.label}: {_short(values['cosine'])} ({_short(values['centred_cosine'])})"
        for record, values in zip(records, figures, strict=True)
    ]
    layer = settings["layer"]
    title = f"{settings['model']}, {layer}: weights, {'patch, ' if _is_patch(matches[0], pictures[0]) else ''}picture"
    title += "; cosine (without means)"
    sheet = contact_sheet(tiles, labels, title)
    save_png(sheet, folder / f"{layer_name(layer)}_weights.png")
    cards = {
        f"{layer}/{ends}": contact_sheet(tiles[part], labels[part], title)
        for ends, part in card_parts([Path(record.file).stem for record in records]).items()
    }
    cosine, centred, largest = (_short(medians[name]) for name in _COSINES)
    line = f"{layer}: median cosine of weights and pictures {cosine} (at most {largest}), without their means {centred}"
    if n_opposite := sum((values["centred_cosine"] or 0) < 0 for values in figures):
        line += f"; {n_opposite} of {len(figures)} pictures show the opposite of the weights"
    return line, cards or {layer: sheet}


def first_layers(
    network: nn.Module, units: Iterable[Unit | Objective], image_shape: Sequence[int]
) -> dict[str, FirstLayer]:
    """Return the layers of units that see the pixels of pictures, by their names."""
    layers: dict[str, FirstLayer] = {}
    for name in {unit.layer for unit in units if isinstance(unit, Unit)}:
        with suppress(InputError):  # the weights of the others are no images
            layers[name] = FirstLayer(network, name, image_shape)
    return layers


def layer_of_weights(layers: Mapping[str, FirstLayer], unit: Unit | Objective, record: Record) -> FirstLayer | None:
    """Return the layer whose weights can be compared with a unit's picture, None if there is none."""
    if not isinstance(unit, Unit) or unit.index is None or unit != Unit(unit.layer, unit.index):
        return None
    return layers.get(unit.layer) if record.limit is None else None


def match_of(layer: FirstLayer, unit: Unit | Objective, record: Record, picture: Tensor) -> WeightMatch:
    """Compare the weights of a unit with its picture ``(C, H, W)``."""
    assert isinstance(unit, Unit)
    assert unit.index is not None
    return layer.match([unit.index], picture[None], either_sign=record.settings["pooling"] == "rms")[0]


def weight_tile(match: WeightMatch, picture: Tensor) -> Pixels:
    """Return a unit's weights, the patch if it is not the whole picture, and the picture, side by side.

    Each unit has its own scale of colours. The picture ``(C, H, W)`` has a frame around the patch.
    """
    limit = float(match.weights.abs().max())
    limit = limit if 0 < limit < math.inf else 1.0
    in_color = len(match.weights) == 3
    images = [to_pixels(0.5 + match.weights / (2 * limit)) if in_color else weight_pixels(match.weights, limit)]
    shown = to_pixels(picture)
    height = max(_SMALLEST_TILE, len(shown))
    shown = _enlarged(shown, height)
    if _is_patch(match, picture):
        images.append(to_pixels(match.patch))
        shown = _framed(shown, match.box, height / picture.shape[1])
    paper = np.full((height, _GAP, 3), 255, np.uint8)
    parts = [part for image in [*images, shown] for part in (paper, _enlarged(image, height))]
    return np.hstack([*parts, paper])


def _is_patch(match: WeightMatch, picture: Tensor) -> bool:
    return match.weights.shape != picture.shape


def _enlarged(pixels: Pixels, height: int) -> Pixels:
    return resized(pixels, round(pixels.shape[1] * height / len(pixels)), height, enlarge_smoothly=False)


def _framed(pixels: Pixels, box: tuple[int, int, int, int], factor: float) -> Pixels:
    """Draw a frame around a box, whose sides are enlarged by a factor, at some distance from a small one."""
    top, left, bottom, right = (round(side * factor) for side in box)
    margin = max(1, (_SMALLEST_FRAME - bottom + top) // 2)
    image = PILImage.fromarray(pixels)
    ends = (left - margin, top - margin, right + margin - 1, bottom + margin - 1)
    ImageDraw.Draw(image).rectangle(ends, None, _FRAME, width=max(1, len(pixels) // _SMALLEST_TILE))
    return np.asarray(image)


def _figures(record: Record, match: WeightMatch) -> dict[str, Any]:
    # A picture that the unit does not respond to is noise.
    cosines = {name: getattr(match, name) if record.status == "ok" else None for name in _COSINES}
    return {
        "unit": record.unit,
        "repeat": record.repeat,
        "file": record.file,
        "status": record.status,
        "score": record.score,
        "activation": _finite(match.activation),
        "norm": _finite(match.norm),
        **cosines,
        "position": match.position,
        "box": match.box,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".replace("0.", ".", 1)
