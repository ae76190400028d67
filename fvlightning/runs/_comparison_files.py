"""A comparison as files: a sheet, a table for people, and all figures for programs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from fvlightning.analysis import Measures, PictureMeasures, medians
from fvlightning.io import write_json, write_text
from fvlightning.output import Pixels, contact_sheet, resized, save_png, with_class

ALL_NATURAL = "all natural images"
# In pixels. Smaller pictures are enlarged, so that their figures fit below them.
_SMALLEST_TILE = 168
_FONT = 16
_HEADS = {
    "activation_ratio": "activation / largest natural",
    "robust_activation": "random crops / clean",
    "total_variation": "total variation",
    "spectral_slope": "spectral slope",
    "contrast": "contrast",
    "colorfulness": "colourfulness",
    "nearest_natural": "to the nearest natural image",
}


def write_comparison(
    folder: Path,
    columns: Mapping[str, Sequence[PictureMeasures]],
    pixels: Mapping[str, Sequence[Pixels]],
    *,
    natural: Measures,
    settings: Mapping[str, Any],
    class_names: Mapping[str, str],
) -> str:
    """Write ``comparison.png``, ``comparison.md`` and ``comparison.json``, each whole or not at all.

    Args:
        folder: Where the files go.
        columns: The measures by space; each space has the same pictures in the same order.
        pixels: The pictures ``(H, W, 3)`` by space.
        natural: The medians of all natural images.
        settings: How the comparison was made, plain values, with the name of the ``model``.
        class_names: Names of the classes that units stand for, by the units' text forms.

    Returns:
        The table.
    """
    by_space = {**{space: medians(measures) for space, measures in columns.items()}, ALL_NATURAL: natural}
    table = comparison_table(by_space)
    names = {unit: {"class_name": name} for unit, name in class_names.items()}
    # The natural image of a unit stands beside each of its repeats, and is listed once.
    pictures = [
        {"space": space, **asdict(picture), **names.get(picture.unit, {})}
        for space, measures in columns.items()
        for picture in dict.fromkeys(measures)
    ]
    medians_by_space = {space: asdict(measures) for space, measures in by_space.items()}
    save_png(comparison_sheet(columns, pixels, settings["model"], class_names), folder / "comparison.png")
    write_text(folder / "comparison.md", table)
    write_json(folder / "comparison.json", {**settings, "medians": medians_by_space, "pictures": pictures})
    return table


def comparison_sheet(
    columns: Mapping[str, Sequence[PictureMeasures]],
    pixels: Mapping[str, Sequence[Pixels]],
    title: str,
    class_names: Mapping[str, str],
) -> PILImage.Image:
    """Return a sheet with one row per picture of a unit and one column per space.

    Below each picture stand the unit with the name of its class (in the first column) or the activation as a multiple
    of the largest natural one, and the measures of its pixels.

    Args:
        columns: See `write_comparison`.
        pixels: See `write_comparison`. All are resized to the size of those of the last space.
        title: Stands above.
        class_names: See `write_comparison`.
    """
    height, width = pixels[list(columns)[-1]][0].shape[:2]
    factor = math.ceil(_SMALLEST_TILE / min(height, width))
    first = next(iter(columns))
    tiles, labels = [], []
    for row in range(len(pixels[first])):
        for space, measures in columns.items():
            picture = measures[row]
            small = resized(pixels[space][row], width, height)
            tiles.append(resized(small, factor * width, factor * height, enlarge_smoothly=False))
            if space == first:  # whose ratio is 1
                name = with_class(picture.unit, class_names.get(picture.unit))
                heading = f"{name} #{picture.repeat}" if picture.repeat else name
            else:
                heading = f"activation {_short(picture.activation_ratio)} x natural"
            colour = f", colour {picture.colorfulness:.2f}" if picture.colorfulness else ""  # grey pictures have 0
            labels.append(
                f"{heading}\nslope {_short(picture.spectral_slope)}, TV {_short(picture.total_variation)}\n"
                f"contrast {_short(picture.contrast)}{colour}"
            )
    return contact_sheet(tiles, labels, title, groups=dict.fromkeys(columns, 1), largest_font=_FONT)


def comparison_table(spaces: Mapping[str, Measures]) -> str:
    """Return a Markdown table with one row per space and one column per measure. A dash stands for None."""
    rows = [["space", *_HEADS.values()], ["---", *["---:"] * len(_HEADS)]]
    for space, measures in spaces.items():
        values = [getattr(measures, name) for name in _HEADS]
        rows.append([space, *("-" if value is None else f"{value:.3g}" for value in values)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
