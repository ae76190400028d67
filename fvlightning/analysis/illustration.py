"""The images of examples, read again, with the patches that units respond to."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning.analysis.patches import Patch, find_patches
from fvlightning.data import PictureBatch
from fvlightning.features import Objective, Unit
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


class Page(NamedTuple):
    """A sheet of up to 64 units of a layer: its name, ``LAYER`` or ``LAYER_0-63``, their examples, and the picture."""

    name: str
    examples: list[UnitExamples]
    sheet: PILImage.Image


def illustrate(
    network: nn.Module,
    units: Sequence[Unit | Objective],
    results: Sequence[UnitExamples],
    read: Callable[[Tensor], Iterable[PictureBatch]],
    *,
    title: str,
    unit_classes: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    files: Sequence[Path] | None = None,
    pictures: Mapping[str, Mapping[str, Pixels]] | None = None,
) -> Iterator[Page]:
    """Complete the examples of units with what is known of their images, and lay these out on sheets.

    Args:
        network: Any module that takes the pictures.
        units: The units.
        results: The examples of each unit, with places and scores.
        read: Yields the pictures at places, int64 ``(N,)``, with these places as their indices.
        title: The beginning of the titles; the layer stands behind it.
        unit_classes: Names of the classes that units stand for, by the units' text forms.
        class_names: Names of the classes of labels, if they are known.
        files: The file of each place, if the images have files.
        pictures: Pictures of units, by the heading of their column and then by the unit.
    """
    rows_by_layer: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        rows_by_layer.setdefault(group_name(unit), []).append(row)
    for layer, rows in rows_by_layer.items():
        for end, part in sheet_parts([str(units[row]) for row in rows]).items():
            page_units, page_results = [units[row] for row in rows[part]], [results[row] for row in rows[part]]
            shown = list(_complete(network, page_units, page_results, read, class_names, files))
            names = unit_classes or {}
            examples = [replace(one, class_name=names.get(one.unit)) for one, _ in shown]
            sheet = example_sheet(examples, [tiles for _, tiles in shown], f"{layer}{end}, {title}", pictures)
            yield Page(f"{layer}{end}", examples, sheet)


def _complete(
    network: nn.Module,
    units: Sequence[Unit | Objective],
    results: Sequence[UnitExamples],
    read: Callable[[Tensor], Iterable[PictureBatch]],
    class_names: Sequence[str],
    files: Sequence[Path] | None,
) -> Iterator[tuple[UnitExamples, list[Pixels]]]:
    """Yield the completed examples of each unit with their tiles; images are read for as many units as fit."""
    first, n_values = 0, 1
    while first < len(units):
        # The first unit tells how large the pictures are.
        last = first + 1 if first == 0 else first + max(1, _MOST_AT_ONCE // n_values)
        places = torch.tensor(sorted({one.place for result in results[first:last] for one in result.examples}))
        pictures: dict[int, tuple[Tensor, int | None]] = {}
        for batch in read(places) if len(places) else ():
            labels = [None] * len(batch.indices) if batch.labels is None else batch.labels.tolist()
            rows = zip(batch.indices.tolist(), batch.pictures.cpu().unbind(), labels, strict=True)
            # A view would keep the whole batch in memory.
            pictures |= {place: (picture.clone(), label) for place, picture, label in rows}
        for unit, result in zip(units[first:last], results[first:last], strict=True):
            n_values = max(n_values, sum(pictures[example.place][0].numel() for example in result.examples))
            yield _illustrated(network, unit, result, pictures, class_names, files)
        first = last


def _illustrated(
    network: nn.Module,
    unit: Unit | Objective,
    result: UnitExamples,
    pictures: dict[int, tuple[Tensor, int | None]],
    class_names: Sequence[str],
    files: Sequence[Path] | None,
) -> tuple[UnitExamples, list[Pixels]]:
    examples = [*result.strongest, *result.tenths, *result.weakest]
    is_weakest = [False] * (len(examples) - len(result.weakest)) + [True] * len(result.weakest)
    patches = [Patch((), None)] * len(examples)
    if isinstance(unit, Unit) and unit.index is not None and examples:
        batch = torch.stack([pictures[example.place][0] for example in examples])
        lowest = [weakest != unit.minimize for weakest in is_weakest]
        patches = find_patches(network, [unit] * len(batch), batch, lowest=lowest)
    completed: list[Example] = []
    for example, patch in zip(examples, patches, strict=True):
        label = pictures[example.place][1]
        name = class_names[label] if label is not None and 0 <= label < len(class_names) else None
        file = None if files is None else str(files[example.place])
        completed.append(replace(example, label=label, class_name=name, file=file, **patch._asdict()))
    ends = len(result.strongest), len(result.strongest) + len(result.tenths)
    result = replace(
        result,
        strongest=tuple(completed[: ends[0]]),
        tenths=tuple(completed[ends[0] : ends[1]]),
        weakest=tuple(completed[ends[1] :]),
    )
    return result, [example_tile(to_pixels(pictures[one.place][0]), one.box) for one in result.examples]
