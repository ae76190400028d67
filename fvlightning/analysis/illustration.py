"""The images of examples, read again, with the patches that units respond to."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning.analysis.patches import Patch, find_patches
from fvlightning.analysis.receptive_fields import ReceptiveField, receptive_fields
from fvlightning.data import PictureSelection
from fvlightning.features import LayerCall, Objective, Unit, measure_layers
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
_GROUPS = ("strongest", "tenths", "weakest")
_Images = dict[int, tuple[Tensor, int | None]]  # pictures (C, H, W) and labels by place


class Page(NamedTuple):
    """Up to 64 units of a layer, for one sheet.

    Attributes:
        name: ``LAYER`` or ``LAYER_0-63``.
        heading: The same as one writes units, ``LAYER:0-63``.
        examples: Those of each unit.
        tiles: Of each unit those of its examples, in their order.
    """

    name: str
    heading: str
    examples: list[UnitExamples]
    tiles: list[list[Pixels]]

    def sheet(self, title: str, pictures: Mapping[str, Mapping[str, Pixels]] | None = None) -> PILImage.Image:
        """Lay the examples out on a sheet.

        Args:
            title: Stands above, behind the layer.
            pictures: Pictures of units, by the heading of their column and then by the unit.
        """
        return example_sheet(self.examples, self.tiles, f"{self.heading}, {title}", pictures)


def illustrate(
    network: nn.Module,
    units: Sequence[Unit | Objective],
    results: Sequence[UnitExamples],
    selection: PictureSelection,
    *,
    class_names: Sequence[str] = (),
    unit_classes: Mapping[str, str] | None = None,
) -> Iterator[Page]:
    """Complete the examples of units with what is known of their images, and show these as tiles.

    Args:
        network: Any module that takes the pictures.
        units: The units.
        results: The examples of each unit, with places and scores.
        selection: The images, which are read again.
        class_names: Names of the classes of labels, if they are known.
        unit_classes: Names of the classes that units stand for, by the units' text forms.
    """
    rows_by_layer: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        rows_by_layer.setdefault(group_name(unit), []).append(row)
    shape, unit_classes = selection.image_shape, unit_classes or {}
    sizes = measure_layers(network, {unit.layer_call for unit in units if isinstance(unit, Unit)}, shape)
    maps = [layer for layer, size in sizes.items() if len(size) > 1]
    fields = receptive_fields(network, maps, shape)
    n_images = max(1, _MOST_AT_ONCE // math.prod(shape))
    n_units = max(1, n_images // max(1, *(len(result.examples) for result in results)))
    # Sets that cannot be read picture by picture are read from their beginning each time.
    all_images = _read(results, selection) if len(_places(results)) <= n_images else None
    for layer, rows in rows_by_layer.items():
        for end, page in sheet_parts([str(units[row]) for row in rows]).items():
            examples: list[UnitExamples] = []
            tiles: list[list[Pixels]] = []
            for first in range(0, len(rows[page]), n_units):
                part = {units[row]: results[row] for row in rows[page][first : first + n_units]}
                images = all_images or _read(list(part.values()), selection)
                part |= _with_patches(network, part, images, maps, fields)
                for result in part.values():
                    result = replace(result, class_name=unit_classes.get(result.unit))
                    examples.append(_with_facts(result, images, class_names, selection.files))
                    tiles.append([example_tile(to_pixels(images[one.place][0]), one.box) for one in result.examples])
            yield Page(f"{layer}{end}", f"{layer}{end.replace('_', ':')}", examples, tiles)


def _places(results: Sequence[UnitExamples]) -> list[int]:
    return sorted({one.place for result in results for one in result.examples})


def _read(results: Sequence[UnitExamples], selection: PictureSelection) -> _Images:
    images: _Images = {}
    for batch in selection.at(torch.tensor(_places(results))):
        labels = [None] * len(batch.indices) if batch.labels is None else batch.labels.tolist()
        # A view would keep the whole batch in memory.
        pictures = (picture.clone() for picture in batch.pictures.cpu())
        images |= zip(batch.indices.tolist(), zip(pictures, labels, strict=True), strict=True)
    return images


def _with_patches(
    network: nn.Module,
    results: Mapping[Unit | Objective, UnitExamples],
    images: _Images,
    maps: Collection[LayerCall],
    fields: Mapping[LayerCall, ReceptiveField],
) -> dict[Unit | Objective, UnitExamples]:
    """Return the examples of those units of a layer that have a map, with positions and patches."""
    located = {
        unit: result
        for unit, result in results.items()
        if isinstance(unit, Unit) and unit.index is not None and unit.layer_call in maps
    }
    # Few large batches, each of several units, take half the time of many small ones.
    queries = [
        (unit, images[one.place][0], unit.minimize != (name == "weakest"))
        for unit, result in located.items()
        for name in _GROUPS
        for one in getattr(result, name)
    ]
    patches: list[Patch] = []
    for first in range(0, len(queries), _BATCH_SIZE):
        units, pictures, lowest = zip(*queries[first : first + _BATCH_SIZE], strict=True)
        patches += find_patches(network, units, torch.stack(pictures), lowest=lowest)
    remaining = iter(patches)

    def with_patch(example: Example, field: ReceptiveField | None) -> Example:
        position, box = next(remaining)
        window = None if field is None else field.window(position, images[example.place][0].shape[1:])
        return replace(example, position=position, box=box, receptive_field=window)

    return {
        unit: _changed(result, partial(with_patch, field=fields.get(unit.layer_call)))
        for unit, result in located.items()
    }


def _with_facts(
    result: UnitExamples, images: _Images, class_names: Sequence[str], files: Sequence[str] | None
) -> UnitExamples:
    def with_facts(example: Example) -> Example:
        label = images[example.place][1]
        name = class_names[label] if label is not None and 0 <= label < len(class_names) else None
        file = None if files is None else files[example.place]
        return replace(example, label=label, class_name=name, file=file)

    return _changed(result, with_facts)


def _changed(result: UnitExamples, change: Callable[[Example], Example]) -> UnitExamples:
    groups = {name: tuple(map(change, getattr(result, name))) for name in _GROUPS}
    return replace(result, **groups)  # type: ignore[arg-type]
