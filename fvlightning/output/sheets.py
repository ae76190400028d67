"""Contact sheets: many pictures as one, each with a label under it."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from fvlightning.features import Feature
from fvlightning.output.names import with_class
from fvlightning.output.pixels import Pixels, on_grey, resized, to_pixels, value_limit
from fvlightning.output.records import Record

# In pixels.
_SMALLEST_TILE = 112  # smaller pictures are enlarged
_SMALLEST_SHRUNK_TILE = 64  # pictures shrink down to this where a sheet would be too wide
_WIDEST_SHEET = 3200
_WIDEST_TITLE = 640  # a title may widen a sheet of few pictures
_GAP = 8
_MOST_ON_A_CARD = 25  # pictures
_LARGEST_FONT = 56
_SMALLEST_FONT = 11
_INK = (40, 40, 40)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def feature_sheet(records: Sequence[Record], pictures: Sequence[Pixels], title: str) -> PILImage.Image:
    """Return a contact sheet of the pictures of some records, labelled with index and class.

    Signed values have a legend below if all pictures share one limit; otherwise each label gives the limit.
    """
    labels = [record.label for record in records]
    limits = {record.limit for record in records}
    if len(limits) > 1:
        labels = [f"{label} (±{record.limit:.2g})" for label, record in zip(labels, records, strict=True)]
    limit = limits.pop() if len(limits) == 1 else None
    return contact_sheet([on_grey(picture) for picture in pictures], labels, title, limit=limit)


def snapshot_strip(feature: Feature, bounded: bool, class_name: str | None = None) -> PILImage.Image:
    """Return a feature's snapshots and then its picture, all of the picture's size, labelled with their steps.

    Pictures that are not `bounded`, in [0, 1], are shown as signed values.
    """
    pictures = {f"step {step}": picture for step, picture in sorted(feature.snapshots.items())}
    pictures[f"best: step {feature.best_step}"] = feature.image
    limit = None if bounded else value_limit(pictures.values())
    pixels = [to_pixels(picture, limit) for picture in pictures.values()]
    height, width = pixels[-1].shape[:2]
    pixels = [resized(snapshot, width, height) for snapshot in pixels]
    return contact_sheet(pixels, list(pictures), with_class(feature.name, class_name), columns=len(pixels), limit=limit)


def card_parts(names: Sequence[str]) -> dict[str, slice]:
    """Return the parts of a sheet of more than 25 pictures, by the names of their first and last pictures, ``0-24``.

    TensorBoard's cards are 300 pixels wide, so more pictures need several cards. Fewer have no parts.
    """
    if len(names) <= _MOST_ON_A_CARD:
        return {}
    parts = [slice(first, first + _MOST_ON_A_CARD) for first in range(0, len(names), _MOST_ON_A_CARD)]
    return {f"{names[part][0]}-{names[part][-1]}": part for part in parts}


def contact_sheet(
    pictures: Sequence[Pixels],
    labels: Sequence[str],
    title: str = "",
    *,
    columns: int | None = None,
    groups: Mapping[str, int] | None = None,
    limit: float | None = None,
    signed: bool = True,
    largest_font: int = _LARGEST_FONT,
) -> PILImage.Image:
    """Lay pictures out in rows, each with a label under it.

    Args:
        pictures: Each ``(H, W, 3)``, all of one size. Small ones are enlarged by a whole factor, by repeating pixels.
            All are shrunk where the sheet would be wider than 3,200 pixels.
        labels: One a picture. A label wider than its picture is set in smaller type and in up to three lines; one of
            several lines keeps these.
        title: Stands above.
        columns: Pictures per row. Default: a number that gives the sheet about the shape of a card in TensorBoard.
        groups: Numbers of neighbouring columns by the heading above them, in place of `columns`; groups are set apart.
        limit: For values with a limit (`to_pixels`): a legend from ``-limit``, or 0, to ``limit`` stands below.
        signed: Whether these values may be negative.
        largest_font: Size of the type, in pixels. Default: legible where the sheet shrinks into a card of TensorBoard.
    """
    height, width = pictures[0].shape[:2]
    groups = groups or {}
    columns = sum(groups.values()) or columns or _columns(len(pictures), height / width)
    width, height = _tile_size(width, height, columns)
    n_rows = math.ceil(len(pictures) / columns)
    # A sheet of more rows or columns shrinks more to fit into a card, 7 by 4, and its labels have to stay readable.
    share = min(max(n_rows, 4 * columns / 7) + 2, 6) / 24
    font_size = max(12, min(int(share * height), largest_font))
    firsts = [0, *accumulate(groups.values())][:-1]  # the first column of each group
    lefts = [
        _GAP + column * (width + _GAP) + sum(2 * _GAP for first in firsts[1:] if first <= column)
        for column in range(columns)
    ]
    grid_width = lefts[-1] + width + _GAP
    title, title_size = _fitted(title, font_size, _SMALLEST_FONT, max(grid_width - 2 * _GAP, _WIDEST_TITLE), 1)
    title_font = _font(title_size)
    line = round(1.25 * font_size)
    top = (line + 2 * _GAP if title else _GAP) + (line if groups else 0)
    small = max(_SMALLEST_FONT, font_size // 2)
    fitted = [_fitted(label, font_size, small, width) for label in labels]
    label_height = max([line, *(round(1.4 * size) * (text.count("\n") + 1) for text, size in fitted if "\n" in text)])
    legend_height = 2 * line if limit is not None else 0
    sheet_width = max(grid_width, math.ceil(title_font.getlength(title)) + 2 * _GAP)
    sheet_height = top + n_rows * (height + label_height + _GAP) + legend_height
    sheet = PILImage.new("RGB", (sheet_width, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP + line / 2), title, fill=_INK, font=title_font, anchor="lm")
    for first, (heading, n_columns) in zip(firsts, groups.items(), strict=True):
        text, size = _fitted(heading, font_size, _SMALLEST_FONT, n_columns * (width + _GAP), 1)
        draw.text((lefts[first], top - line / 2), text, fill=_INK, font=_font(size), anchor="lm")
    for place, (picture, (text, size)) in enumerate(zip(pictures, fitted, strict=True)):
        row, column = divmod(place, columns)
        x, y = lefts[column], top + row * (height + label_height + _GAP)
        sheet.paste(PILImage.fromarray(resized(picture, width, height, enlarge_smoothly=False)), (x, y))
        middle = (x + width / 2, y + height + label_height / 2)
        draw.text(middle, text, fill=_INK, font=_font(size), anchor="mm", align="center")
    if limit is not None:
        _draw_legend(sheet, limit, signed, line, _font(font_size))
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Return a number of columns that nearly fills the last row of a sheet, and its card, 7 by 4, in TensorBoard."""
    ideal = math.sqrt(1.9 * count * aspect)
    best = min(count, math.ceil(ideal))

    def cost(columns: int) -> tuple[float, float]:
        return -count % columns / columns + abs(columns - best) / 4, abs(math.log(columns / ideal))

    return min(range(max(1, best - 2), min(count, best + 2) + 1), key=cost)


def _tile_size(width: int, height: int, columns: int) -> tuple[int, int]:
    factor: float = max(1, math.ceil(_SMALLEST_TILE / min(height, width)))
    widest = (_WIDEST_SHEET - _GAP) // columns - _GAP
    if factor == 1:
        factor = min(1, max(widest / width, _SMALLEST_SHRUNK_TILE / min(height, width)))
    return round(width * factor), round(height * factor)


def _fitted(label: str, largest: int, smallest: int, width: int, most_lines: int = 3) -> tuple[str, int]:
    """Return a label, broken into lines or cut if need be, and a size of type in which it is no wider than `width`."""
    widest = max(label.split("\n"), key=_font(largest).getlength)
    # Widths grow about as sizes do.
    start = min(largest, int(largest * width / max(_font(largest).getlength(widest), 1)) + 1)
    for size in range(start, smallest - 1, -1):
        if _font(size).getlength(widest) <= width:
            return label, size
    font = _font(smallest)
    lines = [line for part in label.split("\n") for line in _wrapped(part, font, width, most_lines)]
    return "\n".join(_cut(line, font, width) for line in lines), smallest


def _wrapped(text: str, font: _Font, width: int, most_lines: int) -> list[str]:
    """Break a text between words into lines no wider than `width`, but for a long word and the last line."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width or len(lines) == most_lines:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)  # which reads it each time


def _cut(text: str, font: _Font, width: int) -> str:
    """Return a text no wider than `width`, with dots in place of its middle if it has to be cut."""
    shorter = text
    for length in range(len(text) - 1, 1, -1):
        if font.getlength(shorter) <= width:
            break
        shorter = f"{text[: length - length // 2]}..{text[-(length // 2) :]}"
    return shorter


def _draw_legend(sheet: PILImage.Image, limit: float, signed: bool, line: int, font: _Font) -> None:
    width = min(sheet.width - 2 * _GAP, 320)
    lowest = -limit if signed else 0.0
    bar = to_pixels(torch.linspace(lowest, limit, width).expand(1, line // 2, width), limit, signed=signed)
    y = sheet.height - 2 * line + line // 4
    sheet.paste(PILImage.fromarray(np.ascontiguousarray(bar)), (_GAP, y))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((_GAP, y, _GAP + width - 1, y + line // 2 - 1), outline=_INK)
    middle = (lowest + limit) / 2
    for x, value, anchor in ((0, lowest, "lt"), (width / 2, middle, "mt"), (width, limit, "rt")):
        draw.text((_GAP + x, y + 0.75 * line), f"{value:.2g}", fill=_INK, font=font, anchor=anchor)
