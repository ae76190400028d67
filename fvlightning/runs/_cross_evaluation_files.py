"""A cross-evaluation as files: a table for people, one for programs, a heat map, and the verdicts on each picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image as PILImage

from fvlightning.analysis import Cell, JudgedPicture
from fvlightning.io import write_json, write_text
from fvlightning.output import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURES = {"accuracy": "accuracy", "probability": "mean probability"}


def write_cross_evaluation(
    folder: Path, cells: Sequence[Cell], pictures: Sequence[JudgedPicture], settings: Mapping[str, Any]
) -> tuple[str, PILImage.Image]:
    """Write ``cross_evaluation.csv``, ``.md``, ``.json`` and ``.png``, each whole or not at all.

    Args:
        folder: Where the files go.
        cells: The means by source, mode and judge.
        pictures: What was found of each picture.
        settings: How it was done, plain values.

    Returns:
        The table and the heat map.
    """
    table, image = cross_evaluation_table(cells), heat_map(cells)
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, cells))
    content = {**settings, "cells": list(map(asdict, cells)), "pictures": list(map(asdict, pictures))}
    write_text(folder / "cross_evaluation.csv", text.getvalue())
    write_text(folder / "cross_evaluation.md", table)
    write_json(folder / "cross_evaluation.json", content)
    save_png(image, folder / "cross_evaluation.png")
    return table, image


def cross_evaluation_table(cells: Sequence[Cell]) -> str:
    """Return two Markdown tables, accuracy and mean probability, sources and modes in rows, judges in columns.

    A dash stands for what is not known.
    """
    rows, judges = _rows(cells), _judges(cells)
    tables = []
    for measure, title in _MEASURES.items():
        lines = [[f"{title}: pictures of", "made with", "pictures", *judges]]
        lines.append(["---", "---", "---:", *["---:"] * len(judges)])
        for (source, mode), row in rows.items():
            texts = [_text(row.get(judge), measure, " ± ") for judge in judges]
            lines.append([source, mode or "-", str(next(iter(row.values())).pictures), *texts])
        tables.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(tables)


def heat_map(cells: Sequence[Cell]) -> PILImage.Image:
    """Draw accuracies and mean probabilities, sources and modes from top to bottom, judges from left to right."""
    from matplotlib.figure import Figure

    rows, judges = _rows(cells), _judges(cells)
    names = [f"{source}, {mode}" if mode else source for source, mode in rows]
    # In inches.
    width = 2 * 1.2 * len(judges) + 0.1 * max(map(len, names)) + 1.0
    figure = Figure(figsize=(width, 0.7 * len(rows) + 1.6), layout="compressed")
    both = figure.subplots(1, 2, sharey=True)
    both[0].set_ylabel("pictures of, made with")
    for axes, (measure, title) in zip(both, _MEASURES.items(), strict=True):
        _draw(axes, [[row.get(judge) for judge in judges] for row in rows.values()], measure)
        axes.set_title(title)
        axes.set_xticks(range(len(judges)), judges)
        axes.set_xlabel("judge")
        axes.set_yticks(range(len(rows)), names)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return PILImage.open(file).convert("RGB")


def _draw(axes: "Axes", rows: Sequence[Sequence[Cell | None]], measure: str) -> None:
    values = [[float("nan") if cell is None else getattr(cell, measure) for cell in row] for row in rows]
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            color = "white" if values[row][column] > 0.6 else "black"
            axes.text(column, row, _text(cell, measure, "\n± "), ha="center", va="center", color=color)


def _rows(cells: Sequence[Cell]) -> dict[tuple[str, str], dict[str, Cell]]:
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.source, cell.mode), {})[cell.judge] = cell
    return rows


def _judges(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.judge for cell in cells))


def _text(cell: Cell | None, measure: str, sign: str) -> str:
    if cell is None:
        return "-"
    value, error = getattr(cell, measure), getattr(cell, f"{measure}_error")
    return f"{value:.2f}" + ("" if error is None else f"{sign}{error:.2f}")
