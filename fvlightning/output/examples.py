"""Real images that excite units: their records, their tiles, their sheets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from fvlightning.io import Window, write_text
from fvlightning.output.names import with_class
from fvlightning.output.pixels import Pixels, on_grey, read_pixels, resized
from fvlightning.output.records import Record, read_manifest
from fvlightning.output.sheets import contact_sheet

_SMALLEST_TILE = 112  # pixels; smaller images are enlarged
_MOST_UNITS = 64  # on a sheet
# The share of an image that stays visible around the patch, on grey.
_FADED = 0.3
# The least side of the part of an image that is shown around a patch, in pixels.
_SMALLEST_WINDOW = 32
_ACTIVE, _INACTIVE = (31, 119, 180), (170, 170, 170)


@dataclass(frozen=True)
class Example:
    """A real image and what a unit makes of it.

    Attributes:
        place: Number of the image in its part of the data, or in the sorted folder.
        score: The unit's score.
        label: Index of the image's class.
        class_name: Name of that class.
        file: The image's file; that of a folder is relative to it.
        position: Where in the unit's map the activation is strongest, or weakest of the weakest images:
            ``(row, column)`` or ``(token,)``; empty for a unit without positions.
        box: The patch that the activation at that position depends on: top, left, height and width in pixels of the
            image as the network takes it. None for a unit without positions, or without a gradient there.
        receptive_field: The same of all that the activation can depend on, with any weights. None where that is not
            known (`fvlightning.analysis.receptive_fields`).
    """

    place: int
    score: float
    label: int | None = None
    class_name: str | None = None
    file: str | None = None
    position: tuple[int, ...] = ()
    box: Window | None = None
    receptive_field: Window | None = None


@dataclass(frozen=True)
class UnitExamples:
    """The images that excite a unit most and least, and some between.

    Attributes:
        unit: Text form of the unit.
        n_images: Number of images with a finite score.
        n_non_finite: Number of images whose score is not finite; they are left out of everything else.
        active: The share of images in which an activation of the unit is above 0 at some position at least.
        minimum: The lowest score, None without any image.
        maximum: The highest score.
        histogram: Numbers of images with scores in bins of one width from `minimum` to `maximum`, of a fixed random
            sample of up to 1,000 images.
        strongest: The images with the highest scores, the highest first.
        tenths: The middle image of each tenth of that sample, sorted by score, the highest first.
        weakest: The images with the lowest scores, the lowest first.
        class_name: Name of the class that the unit stands for, if it is known.
    """

    unit: str
    n_images: int
    n_non_finite: int
    active: float
    minimum: float | None
    maximum: float | None
    histogram: tuple[int, ...]
    strongest: tuple[Example, ...]
    tenths: tuple[Example, ...]
    weakest: tuple[Example, ...]
    class_name: str | None = None

    @property
    def dead(self) -> bool:
        """Whether no image activates the unit."""
        return self.active == 0

    @property
    def constant(self) -> bool:
        """Whether all images have the same score."""
        return self.n_images > 1 and self.minimum == self.maximum

    @property
    def examples(self) -> tuple[Example, ...]:
        """All examples in the order of a sheet's row, from the strongest to the weakest."""
        return *self.strongest, *self.tenths, *reversed(self.weakest)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values; optional ones that are not known are left out."""
        groups = ("strongest", "tenths", "weakest")
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in groups}
        values = {name: value for name, value in values.items() if name != "class_name" or value is not None}
        return {**values, "dead": self.dead, **{name: [_plain(one) for one in getattr(self, name)] for name in groups}}


def write_examples(units: Sequence[UnitExamples], settings: Mapping[str, Any], path: Path) -> None:
    """Write settings and the examples of units as JSON, with one unit per line, whole or not at all."""
    head = json.dumps(settings, indent=1).removesuffix("\n}")
    lines = ",\n".join(json.dumps(unit.to_dict()) for unit in units)
    write_text(path, f'{head},\n "units": [\n{lines}\n]\n}}\n')


def example_tile(pixels: Pixels, box: Window | None) -> Pixels:
    """Return an image as it stands on a sheet: faded around the patch `box`, and cut to its surroundings.

    The surroundings are three times as wide as the patch, and at least 32 pixels. The tile has the size of the image,
    or a multiple of it up to 112 pixels.
    """
    height, width = pixels.shape[:2]
    factor = -(-_SMALLEST_TILE // min(height, width))
    if box is not None:
        top, left, box_height, box_width = box
        faded = (pixels * _FADED + 128 * (1 - _FADED)).astype(np.uint8)
        inside = np.s_[top : top + box_height, left : left + box_width]
        faded[inside] = pixels[inside]
        # In the proportions of the image.
        share = max(3 * box_height / height, 3 * box_width / width, _SMALLEST_WINDOW / min(height, width))
        if share < 1:
            window_height, window_width = round(share * height), round(share * width)
            first = min(max(0, top + (box_height - window_height) // 2), height - window_height)
            left = min(max(0, left + (box_width - window_width) // 2), width - window_width)
            faded = faded[first : first + window_height, left : left + window_width]
        pixels = faded
    return resized(pixels, factor * width, factor * height, enlarge_smoothly=factor == 1)


def sheet_parts(units: Sequence[str]) -> dict[str, slice]:
    """Return the parts of a layer's units that share a sheet, by the ends of the sheets' names.

    A single sheet has no such end; of more than 64 units the ends are ``_0-63``, ``_64-127`` and so on.
    """
    if len(units) <= _MOST_UNITS:
        return {"": slice(None)}
    parts = [slice(first, first + _MOST_UNITS) for first in range(0, len(units), _MOST_UNITS)]
    return {f"_{_short_name(units[part][0])}-{_short_name(units[part][-1])}": part for part in parts}


def example_sheet(
    units: Sequence[UnitExamples],
    tiles: Sequence[Sequence[Pixels]],
    title: str,
    pictures: Mapping[str, Mapping[str, Pixels]] | None = None,
) -> PILImage.Image:
    """Return a sheet with one row per unit: its pictures, its activations, and its examples from strong to weak.

    Args:
        units: The units.
        tiles: The tiles of each unit's examples (`example_tile`), all of one size.
        title: Stands above.
        pictures: Pictures of units, by the heading of their column and then by the unit.
    """
    groups = {"strongest": "strongest", "tenths": "one of each tenth, from strong to weak", "weakest": "weakest"}
    sizes = {name: max(len(getattr(unit, name)) for unit in units) for name in groups}
    height, width = next((row[0].shape[:2] for row in tiles if row), (_SMALLEST_TILE, _SMALLEST_TILE))
    blank = np.full((height, width, 3), 255, np.uint8)
    columns = {name: column for name, column in (pictures or {}).items() if any(unit.unit in column for unit in units)}
    cells: list[tuple[Pixels, str]] = []
    for unit, unit_tiles in zip(units, tiles, strict=True):
        shown = [column.get(unit.unit) for column in columns.values()]
        cells += [(blank if one is None else resized(one, width, height, enlarge_smoothly=False), "") for one in shown]
        name = with_class(_short_name(unit.unit), unit.class_name)
        cells.append((_histogram_tile(unit, height, width), f"{name}: {percent(unit.active)}"))
        labelled = iter(zip(unit_tiles, map(example_label, unit.examples), strict=True))
        for group, size in sizes.items():
            n_examples = len(getattr(unit, group))
            cells += [*islice(labelled, n_examples), *[(blank, "")] * (size - n_examples)]
    headings = dict.fromkeys([*columns, "unit: active"], 1)
    headings |= {heading: sizes[name] for name, heading in groups.items() if sizes[name]}
    return contact_sheet([tile for tile, _ in cells], [label for _, label in cells], title, groups=headings)


def picture_columns(folder: Path, units: Sequence[str]) -> tuple[dict[str, dict[str, Pixels]], list[Record]]:
    """Return pictures of units, and of their negatives, in a folder of `visualize`.

    Args:
        folder: The folder.
        units: Text forms of the units.

    Returns:
        The pictures, by the heading of their column and then by the unit, and the records of these pictures. A column
        without pictures is left out.

    Raises:
        InputError: The folder has no ``features.json`` that can be read, or a picture is missing.
    """
    # The first of several repeats comes last.
    records = {record.unit: record for record in reversed(read_manifest(folder)) if record.score is not None}
    columns = {
        heading: {unit: records[sign + unit] for unit in units if sign + unit in records}
        for heading, sign in {"picture": "", "negative": "-"}.items()
    }
    pictures = {
        heading: {unit: on_grey(read_pixels(folder / record.file)) for unit, record in column.items()}
        for heading, column in columns.items()
        if column
    }
    return pictures, [record for column in columns.values() for record in column.values()]


def _histogram_tile(unit: UnitExamples, height: int, width: int) -> Pixels:
    """Return a histogram, the bins of positive scores in blue, with a line at the bottom."""
    tile = np.full((height, width, 3), 255, np.uint8)
    tile[-2:] = _INACTIVE
    edges = np.linspace(0, width, len(unit.histogram) + 1).round().astype(int)
    low, high = unit.minimum or 0.0, unit.maximum or 0.0
    for place, count in enumerate(unit.histogram):
        middle = low + (high - low) * (place + 0.5) / len(unit.histogram)
        top = height - round((height - 2) * count / max(1, *unit.histogram)) - 2
        tile[top:-2, edges[place] : edges[place + 1] - 1] = _ACTIVE if middle > 0 else _INACTIVE
    return tile


def example_label(example: Example) -> str:
    """Return an example's class, file or place, and its score: ``seven: 1.23``."""
    name = example.class_name or (None if example.label is None else str(example.label))
    if name is None and example.file is not None:
        file = Path(example.file)
        # Numbers are often those within a folder.
        name = f"{file.parent.name}/{file.stem}" if file.stem.isdigit() and file.parent.name else file.stem
    return f"{name or f'#{example.place}'}: {example.score:.3g}"


def percent(share: float) -> str:
    """Return a share in whole percents, of which only 0 is 0 % and only 1 is 100 %."""
    if 0 < share < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def _short_name(unit: str) -> str:
    """Return the part of a unit's text form behind its layer; that of a sum, or of a layer, is the whole text."""
    minus = "-" if unit.startswith("-") and " " not in unit else ""
    return unit if " " in unit else minus + unit.rpartition(":")[2]


def _plain(example: Example) -> dict[str, Any]:
    values = {field.name: getattr(example, field.name) for field in fields(example)}
    return {name: value for name, value in values.items() if value not in (None, ())}
