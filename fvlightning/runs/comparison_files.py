"""A comparison as files: a sheet, a table for people, and everything for programs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from fvlightning.analysis.comparison import Measures, PictureMeasures, measure_names, medians, plain
from fvlightning.output import contact_sheet, save_png, write_atomically
from fvlightning.output.colors import Pixels
from fvlightning.output.features import class_entry, with_class

ALL_NATURAL = "all natural images"
_HEADS = {
    "activation_ratio": "activation / largest natural",
    "robust_activation": "over views / clean",
    "total_variation": "total variation",
    "spectral_slope": "spectral slope",
    "nearest_natural": "to the nearest natural image",
}


def comparison_sheet(
    columns: Mapping[str, Sequence[PictureMeasures]],
    pixels: Mapping[str, Sequence[Pixels]],
    title: str,
    names: Mapping[str, str],
) -> PILImage.Image:
    """Return a sheet with a row a picture of a unit and a column a space.

    Under the first picture of a row are the unit and the name of its class, if it has one; under the others are the
    space, and the activation as a multiple of the largest natural one.

    Args:
        columns: The measures by space, of all spaces equally many, in one order.
        pixels: The pictures ``(H, W, 3)`` by space. Those of another size than the last are brought to its size.
        title: Stands above.
        names: Names of the classes that units stand for, by the units' text forms.
    """
    height, width = pixels[list(columns)[-1]][0].shape[:2]
    tiles, labels = [], []
    for row in range(len(pixels[next(iter(columns))])):
        for column, (space, measured) in enumerate(columns.items()):
            unit, repeat, ratio = measured[row].unit, measured[row].repeat, measured[row].activation_ratio
            tiles.append(_resized(pixels[space][row], (width, height)))
            # Short labels can be read: the unit stands under the first of a row, of which the ratio is 1.
            named = with_class(unit, names.get(unit)) + (f" #{repeat}" if repeat else "")
            labels.append(named if column == 0 else space if ratio is None else f"{space} {ratio:.2f}")
    return contact_sheet(tiles, labels, title, columns=len(columns))


def comparison_table(spaces: Mapping[str, Measures]) -> str:
    """Return a Markdown table with a row a space and a column a measure; what cannot be said is a dash."""
    lines = [
        f"| space | {' | '.join(_HEADS[name] for name in measure_names())} |",
        f"| --- |{' ---: |' * len(measure_names())}",
    ]
    for space, measured in spaces.items():
        values = [getattr(measured, name) for name in measure_names()]
        lines.append(f"| {space} | {' | '.join('-' if value is None else f'{value:.3g}' for value in values)} |")
    return "\n".join(lines) + "\n"


def write_comparison(
    folder: Path,
    columns: Mapping[str, Sequence[PictureMeasures]],
    pixels: Mapping[str, Sequence[Pixels]],
    natural: Measures,
    title: str,
    settings: Mapping[str, Any],
    names: Mapping[str, str],
) -> str:
    """Write ``comparison.png``, ``comparison.md`` and ``comparison.json``, each whole or not at all.

    Args:
        folder: Where they go.
        columns: As of `comparison_sheet`.
        pixels: As of `comparison_sheet`.
        natural: The medians of all natural images.
        title: Stands above the sheet.
        settings: What the comparison was made of, plain values.
        names: As of `comparison_sheet`.

    Returns:
        The table.
    """
    by_space = {**{space: medians(measured) for space, measured in columns.items()}, ALL_NATURAL: natural}
    table = comparison_table(by_space)
    content = {
        **settings,
        "medians": {space: plain(measured) for space, measured in by_space.items()},
        # A natural image stands beside each repeat of its unit, and is listed once.
        "pictures": [
            {"space": space, **plain(each), **class_entry(names, each.unit)}
            for space, measured in columns.items()
            for each in dict.fromkeys(measured)
        ],
    }
    save_png(comparison_sheet(columns, pixels, title, names), folder / "comparison.png")
    write_atomically(folder / "comparison.md", lambda file: file.write(table.encode()))
    text = json.dumps(content, indent=1, default=str)
    write_atomically(folder / "comparison.json", lambda file: file.write(text.encode()))
    return table


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[1::-1] == size:
        return pixels
    resized: Pixels = np.asarray(PILImage.fromarray(pixels).resize(size, PILImage.Resampling.LANCZOS))
    return resized
