"""The images of examples, read again, with the patches that units respond to."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning.analysis.patches import find_patches
from fvlightning.data import PictureSelection
from fvlightning.features import Objective, Unit, measure_layers
from fvlightning.output import (
    Example,
    Pixels,
    UnitExamples,
    example_sheet,
    example_tile,
    group_name,
    sheet_parts,
    to_pixels,
)

_MOST_AT_ONCE = 2**27  # values of pictures that are in memory together
_BATCH_SIZE = 32
_Images = dict[int, tuple[Tensor, int | None]]  # pictures (C, H, W) and labels by place


class Page(NamedTuple):
    """A sheet of up to 64 units of a layer: its name, ``LAYER`` or ``LAYER_0-63``, their examples and the picture.

    Each unit has a list of tiles, those of its examples in their order.
    """

    name: str
    examples: list[UnitExamples]
    tiles: list[list[Pixels]]
    sheet: PILImage.Image


def illustrate(
    network: nn.Module,
    units: Sequence[Unit | Objective],
    results: Sequence[UnitExamples],
    selection: PictureSelection,
    *,
    title: str,
    class_names: Sequence[str] = (),
    unit_classes: Mapping[str, str] | None = None,
    pictures: Mapping[str, Mapping[str, Pixels]] | None = None,
) -> Iterator[Page]:
    """Complete the examples of units with what is known of their images, and lay these out on sheets.

    Args:
        network: Any module that takes the pictures.
        units: The units.
        results: The examples of each unit, with places and scores.
        selection: The images, which are read again.
        title: Stands above each sheet, behind the layer.
        class_names: Names of the classes of labels, if they are known.
        unit_classes: Names of the classes that units stand for, by the units' text forms.
        pictures: Pictures of units, by the heading of their column and then by the unit.
    """
    rows_by_layer: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        rows_by_layer.setdefault(group_name(unit), []).append(row)
    sizes = measure_layers(
        network, {unit.layer_call for unit in units if isinstance(unit, Unit)}, selection.image_shape
    )
    for layer, rows in rows_by_layer.items():
        for end, part in sheet_parts([str(units[row]) for row in rows]).items():
            examples: list[UnitExamples] = []
            tiles: list[list[Pixels]] = []
            for row, images in _read(results, rows[part], selection):
                unit, result = units[row], results[row]
                result = replace(result, class_name=(unit_classes or {}).get(result.unit))
                if isinstance(unit, Unit) and unit.index is not None and len(sizes[unit.layer_call]) > 1:
                    result = _with_patches(network, unit, result, images)
                result = _with_facts(result, images, class_names, selection.files)
                examples.append(result)
                tiles.append([example_tile(to_pixels(images[one.place][0]), one.box) for one in result.examples])
            sheet = example_sheet(examples, tiles, f"{layer}{end.replace('_', ':')}, {title}", pictures)
            yield Page(f"{layer}{end}", examples, tiles, sheet)


def _read(
    results: Sequence[UnitExamples], rows: Sequence[int], selection: PictureSelection
) -> Iterator[tuple[int, _Images]]:
    """Yield the rows of units, each with the images of its examples at least, of which as many are read as fit."""
    most = max(len(results[row].examples) for row in rows) * math.prod(selection.image_shape)
    n_units = max(1, _MOST_AT_ONCE // max(most, 1))
    for first in range(0, len(rows), n_units):
        part = rows[first : first + n_units]
        images: _Images = {}
        for batch in selection.at(torch.tensor(sorted({one.place for row in part for one in results[row].examples}))):
            labels = [None] * len(batch.indices) if batch.labels is None else batch.labels.tolist()
            # A view would keep the whole batch in memory.
            pictures = (picture.clone() for picture in batch.pictures.cpu())
            images |= zip(batch.indices.tolist(), zip(pictures, labels, strict=True), strict=True)
        yield from ((row, images) for row in part)


def _with_patches(network: nn.Module, unit: Unit, result: UnitExamples, images: _Images) -> UnitExamples:
    def locate(examples: Sequence[Example], lowest: bool) -> tuple[Example, ...]:
        parts = [examples[first : first + _BATCH_SIZE] for first in range(0, len(examples), _BATCH_SIZE)]
        batches = [torch.stack([images[one.place][0] for one in part]) for part in parts]
        patches = [patch for batch in batches for patch in find_patches(network, unit, batch, lowest=lowest)]
        return tuple(replace(one, **patch._asdict()) for one, patch in zip(examples, patches, strict=True))

    strong = locate([*result.strongest, *result.tenths], unit.minimize)
    n_strongest = len(result.strongest)
    weakest = locate(result.weakest, not unit.minimize)
    return replace(result, strongest=strong[:n_strongest], tenths=strong[n_strongest:], weakest=weakest)


def _with_facts(
    result: UnitExamples, images: _Images, class_names: Sequence[str], files: Sequence[str] | None
) -> UnitExamples:
    def with_facts(example: Example) -> Example:
        label = images[example.place][1]
        name = class_names[label] if label is not None and 0 <= label < len(class_names) else None
        file = None if files is None else files[example.place]
        return replace(example, label=label, class_name=name, file=file)

    groups = {name: tuple(map(with_facts, getattr(result, name))) for name in ("strongest", "tenths", "weakest")}
    return replace(result, **groups)  # type: ignore[arg-type]
