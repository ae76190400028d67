"""All that is known of a unit as a figure: pictures, weights, images, activations, and the optimisation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fvlightning.io import write_atomically
from fvlightning.output import Example, Pixels, Record, UnitExamples, example_label, percent, resized

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 200
_STYLE: Any = {
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a class may be called "$"
    "pdf.fonttype": 42,  # TrueType, as many journals ask for
}
# In inches. The width is that of a page's text.
_WIDTH = 5.5
_MARGIN = 0.08
_GAP = 0.08
_LINE = 0.14
_HEAD = 0.5
_PICTURE = 1.7
_PLOT = 1.15
_MOST_IN_A_ROW = 5
_LONGEST_LABEL, _LONGEST_TITLE = 20, 100  # characters
_SMALLEST_IMAGE = 224  # pixels; viewers would blur a smaller one
_POSITIVE, _OTHER, _PICTURE_COLOR = "tab:blue", "0.67", "tab:red"


@dataclass(frozen=True)
class UnitSheet:
    """What is known of a unit. Whatever is None, empty or not finite is left out.

    Attributes:
        title: Unit and class.
        source: Model and images.
        record: The record of the unit's picture.
        pictures: The picture and the negative one, by what stands under them.
        weights: A tile with the unit's weights and what stands under it; None unless the layer sees the pixels.
        examples: The images that excite the unit most and least.
        tiles: Those of the examples, in their order.
    """

    title: str
    source: str
    record: Record
    pictures: Mapping[str, Pixels]
    weights: tuple[Pixels, str] | None
    examples: UnitExamples
    tiles: Sequence[Pixels]

    @property
    def numbers(self) -> dict[str, str]:
        """The figures of the sheet by their names."""
        record, found = self.record, self.examples
        values = {} if record.score is None else {"score of the picture": f"{record.score:.3g}"}
        if found.maximum is not None:
            values["largest of the images"] = f"{found.maximum:.3g}"
            if record.score is not None and record.score > 0 and found.maximum > 0:
                values["picture / largest"] = f"{record.score / found.maximum:.3g}"
            values["images active"] = "0 % (dead)" if found.dead else percent(found.active)
        if found.n_non_finite:
            values["images, not finite"] = f"{found.n_non_finite:,}"
        values["best step"] = f"{record.best_step} of {record.steps}"
        return {**values, "pooling": record.settings["pooling"]}


def save_sheet(sheet: UnitSheet, path: Path) -> None:
    """Draw a sheet and write it as ``PATH.png`` and ``PATH.pdf``, each whole or not at all.

    In the PDF, text is text, and pictures have their own pixels.
    """
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure = draw_sheet(sheet)
        write_atomically(path.with_suffix(".png"), partial(figure.savefig, format="png", dpi=_DPI))
        for image in (image for axes in figure.axes for image in axes.images):
            image.set_interpolation("none")
        about: dict[str, Any] = {"Title": f"{sheet.title}, {sheet.source}", "CreationDate": None}
        write_atomically(path.with_suffix(".pdf"), partial(figure.savefig, format="pdf", metadata=about))


class _Page:
    """A figure that is laid out in inches, from the upper left corner."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure  # pyplot does not know it, so it needs no closing

        self.figure: Figure = Figure(figsize=(_WIDTH, height))
        self._height = height

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        bottom = self._height - top - height
        place = (left / _WIDTH, bottom / self._height, width / _WIDTH, height / self._height)
        return self.figure.add_axes(place)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / _WIDTH, 1 - top / self._height, text, va="top", **style)

    def image(self, pixels: Pixels, left: float, top: float, width: float, height: float) -> None:
        """Show pixels as large as they fit into a box, at the left of its upper edge."""
        scale = min(width / pixels.shape[1], height / pixels.shape[0])
        axes = self.axes(left, top, pixels.shape[1] * scale, pixels.shape[0] * scale)
        axes.imshow(_enlarged(pixels), aspect="auto")
        axes.set_axis_off()


def draw_sheet(sheet: UnitSheet) -> "Figure":
    """Draw a sheet, 5.5 inches wide."""
    found = sheet.examples
    labels = _labels([*found.strongest, *found.weakest])
    n_strongest = len(found.strongest)
    # The tiles are those of all examples, from the strongest to the weakest.
    rows = {
        "images that excite it most": list(zip(sheet.tiles, labels[:n_strongest], strict=False)),
        "images that excite it least": list(zip(sheet.tiles[::-1], labels[n_strongest:], strict=False)),
    }
    rows = {heading: pairs for heading, pairs in rows.items() if pairs}
    width = (_WIDTH - 2 * _MARGIN + _GAP) / _MOST_IN_A_ROW - _GAP
    height = width * sheet.tiles[0].shape[0] / sheet.tiles[0].shape[1] if rows else 0.0
    step = height + (2 if any("\n" in label for label in labels) else 1) * _LINE + _GAP / 2
    n_rows = sum(math.ceil(len(pairs) / _MOST_IN_A_ROW) for pairs in rows.values())
    pictures_end = _HEAD + _PICTURE + 2 * _LINE
    page = _Page(pictures_end + len(rows) * 1.5 * _LINE + n_rows * step + _PLOT + 0.55)
    title = _cut(sheet.title, _LONGEST_TITLE)
    page.text(_MARGIN, 0.08, title, fontsize=min(11, 560 / len(title)), weight="bold")
    page.text(_MARGIN, 0.28, sheet.source, color="0.35")
    for place, (caption, pixels) in enumerate(sheet.pictures.items()):
        left = _MARGIN + place * (_PICTURE + _GAP)
        page.image(pixels, left, _HEAD, _PICTURE, _PICTURE)
        page.text(left, _HEAD + _PICTURE + 0.04, caption)
    _draw_numbers(page, sheet)
    top = pictures_end
    for heading, pairs in rows.items():
        page.text(_MARGIN, top, heading, weight="bold")
        top += 1.25 * _LINE
        for place, (tile, label) in enumerate(pairs):
            column = place % _MOST_IN_A_ROW
            if place and not column:
                top += step
            left = _MARGIN + column * (width + _GAP)
            page.image(tile, left, top, width, height)
            page.text(left + width / 2, top + height + 0.03, label, ha="center", fontsize=6.5)
        top += step + 0.25 * _LINE
    plots = [_draw_history] if found.maximum is None else [_draw_histogram, _draw_history]
    for place, draw in enumerate(plots):
        draw(page.axes(0.48 + place * 2.78, top + 0.1, 2.2, _PLOT), sheet)
    return page.figure


def _draw_numbers(page: _Page, sheet: UnitSheet) -> None:
    """Draw the figures, and the weights below, to the right of the pictures."""
    left, top = _MARGIN + 2 * (_PICTURE + _GAP) + 0.08, _HEAD
    for name, value in sheet.numbers.items():
        page.text(left, top, name, color="0.35")
        page.text(_WIDTH - _MARGIN, top, value, ha="right")
        top += _LINE
    if sheet.weights is not None:
        pixels, caption = sheet.weights
        page.image(pixels, left, top + 0.06, _WIDTH - _MARGIN - left, 0.5)
        page.text(left, top + 0.6, caption, fontsize=6.5)


def _draw_histogram(axes: "Axes", sheet: UnitSheet) -> None:
    found, score = sheet.examples, sheet.record.score
    low, high = found.minimum or 0.0, found.maximum or 0.0
    n_bins = len(found.histogram)
    width = (high - low) / n_bins or 1.0
    lefts = low + width * np.arange(n_bins)
    colors = [_POSITIVE if left + width / 2 > 0 else _OTHER for left in lefts]
    axes.bar(lefts, found.histogram, 0.9 * width, align="edge", color=colors)
    n_counted = sum(found.histogram)
    axes.set_xlabel("score of an image")
    axes.set_ylabel("images" if n_counted == found.n_images else f"images of {n_counted:,}")
    if score is None:
        return
    label = f"picture: {score:.3g}"
    if low <= score <= high:
        axes.axvline(score, color=_PICTURE_COLOR, linewidth=1)
    else:
        label = f"{label} \N{RIGHTWARDS ARROW}" if score > high else f"\N{LEFTWARDS ARROW} {label}"
    side = "right" if score > (low + high) / 2 else "left"
    _write_above(axes, min(max(score, low), high), label, side)


def _draw_history(axes: "Axes", sheet: UnitSheet) -> None:
    from matplotlib.ticker import MaxNLocator

    record = sheet.record
    scores = [math.nan if score is None else score for score in record.history]
    axes.plot(range(len(scores)), scores, color="0.35", linewidth=0.8)
    if record.score is not None:
        axes.plot(record.best_step, record.score, "o", color=_PICTURE_COLOR, markersize=4)
        _write_above(axes, len(scores), f"picture as saved, step {record.best_step}: {record.score:.3g}", "right")
    axes.set_xlabel("step")
    axes.set_ylabel("score with transforms" if record.settings["transforms"] else "score")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _write_above(axes: "Axes", x: float, text: str, side: str) -> None:
    """Write a text about the picture above a plot, with one of its sides at `x`."""
    axes.text(x, 1.02, text, transform=axes.get_xaxis_transform(), ha=side, color=_PICTURE_COLOR, fontsize=6.5)


def _labels(examples: Sequence[Example]) -> list[str]:
    """Return the labels of examples; if one is long, the scores stand below the names, which are cut."""
    labels = [example_label(example) for example in examples]
    if all(len(label) <= _LONGEST_LABEL for label in labels):
        return labels
    parts = [label.rpartition(": ") for label in labels]
    return [f"{_cut(name, _LONGEST_LABEL)}\n{score}" for name, _, score in parts]


def _cut(text: str, longest: int) -> str:
    half = longest // 2 - 1
    return text if len(text) <= longest else f"{text[:half]}..{text[-half:]}"


def _enlarged(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    factor = -(-_SMALLEST_IMAGE // min(height, width))
    return resized(pixels, factor * width, factor * height, enlarge_smoothly=False) if factor > 1 else pixels
