"""A comparison as files: a sheet, a table for people, and all figures for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from fvlightning.analysis import Measures, PictureMeasures, medians
from fvlightning.io import write_json, write_text
from fvlightning.output import Pixels, contact_sheet, resized, save_png, with_class

ALL_NATURAL = "all natural images"
_HEADS = {
    "activation_ratio": "activation / largest natural",
    "robust_activation": "random crops / clean",
    "total_variation": "total variation",
    "spectral_slope": "spectral slope",
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
    title = f"{settings['model']}: {', '.join(columns)}"
    save_png(comparison_sheet(columns, pixels, title, class_names), folder / "comparison.png")
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

    The first label of a row is the unit with the name of its class. The others are the space, and the activation as a
    multiple of the largest natural one.

    Args:
        columns: See `write_comparison`.
        pixels: See `write_comparison`. All are resized to the size of those of the last space.
        title: Stands above.
        class_names: See `write_comparison`.
    """
    height, width = pixels[list(columns)[-1]][0].shape[:2]
    first = next(iter(columns))
    tiles, labels = [], []
    for row in range(len(pixels[first])):
        for space, measures in columns.items():
            unit, repeat, ratio = measures[row].unit, measures[row].repeat, measures[row].activation_ratio
            tiles.append(resized(pixels[space][row], width, height))
            # Short labels are legible, and the ratio of the first is 1.
            if space == first:
                labels.append(with_class(unit, class_names.get(unit)) + (f" #{repeat}" if repeat else ""))
            else:
                labels.append(space if ratio is None else f"{space} {ratio:.2f}")
    return contact_sheet(tiles, labels, title, columns=len(columns))


def comparison_table(spaces: Mapping[str, Measures]) -> str:
    """Return a Markdown table with one row per space and one column per measure. A dash stands for None."""
    rows = [["space", *_HEADS.values()], ["---", *["---:"] * len(_HEADS)]]
    for space, measures in spaces.items():
        values = [getattr(measures, name) for name in _HEADS]
        rows.append([space, *("-" if value is None else f"{value:.3g}" for value in values)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
