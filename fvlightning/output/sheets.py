"""Contact sheets: many pictures as one, each with its name under it."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from fvlightning.io.files import write_atomically
from fvlightning.output.colors import Pixels, to_signed_pixels

# Smaller pictures are enlarged to this, pixel by pixel.
_SMALLEST_TILE = 112
# A sheet of so many pictures that it would be wider shows them smaller, but never smaller than the second.
_WIDEST_SHEET = 3200
_SMALLEST_SHRUNK_TILE = 64
_GAP = 8
_LARGEST_FONT = 28
_SMALLEST_FONT = 11
_MOST_LINES = 3
# A title may make a sheet of few pictures wider, up to this.
_WIDEST_TITLE = 640
_INK = (40, 40, 40)
_PAPER = (255, 255, 255)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    pictures: Sequence[Pixels],
    labels: Sequence[str],
    title: str = "",
    columns: int | None = None,
    limit: float | None = None,
) -> PILImage.Image:
    """Lay pictures out in rows, each with a label under it.

    Args:
        pictures: Each ``(H, W, 3)``, all of one size. Small ones are enlarged by a whole factor, pixel by pixel; those
            of a sheet that would be wider than 3,200 pixels are made smaller.
        labels: One a picture. A label that is wider than its picture is set in smaller type, and in up to three lines.
        title: Stands above.
        columns: Pictures a row. Default: as many as make the sheet a little wider than high.
        limit: Of signed values, the value of the strongest red: a legend from ``-limit`` to ``limit`` stands below.

    Returns:
        An RGB image.
    """
    height, width = pictures[0].shape[:2]
    columns = columns or _columns(len(pictures), height / width)
    width, height = _tile_size(width, height, columns)
    font_size = max(12, min(height // 8, _LARGEST_FONT))
    grid_width = columns * (width + _GAP) + _GAP
    title, title_font = _fitted(title, font_size + 4, max(grid_width - 2 * _GAP, _WIDEST_TITLE), 1)
    line = round(1.5 * font_size)
    top = 2 * line if title else _GAP
    fitted = [_fitted(label, font_size, width) for label in labels]
    label_height = max(line, *(round(1.4 * _SMALLEST_FONT) * (text.count("\n") + 1) for text, _ in fitted))
    n_rows = math.ceil(len(pictures) / columns)
    legend_height = 2 * line if limit is not None else 0
    sheet_width = max(grid_width, math.ceil(title_font.getlength(title)) + 2 * _GAP)
    sheet_size = (sheet_width, top + n_rows * (height + label_height + _GAP) + legend_height)
    sheet = PILImage.new("RGB", sheet_size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, line // 3), title, fill=_INK, font=title_font)
    for place, (picture, (text, font)) in enumerate(zip(pictures, fitted, strict=True)):
        row, column = divmod(place, columns)
        x, y = _GAP + column * (width + _GAP), top + row * (height + label_height + _GAP)
        sheet.paste(_resized(picture, width, height), (x, y))
        middle = (x + width / 2, y + height + label_height / 2)
        draw.text(middle, text, fill=_INK, font=font, anchor="mm", align="center")
    if limit is not None:
        _draw_legend(sheet, limit, line, ImageFont.load_default(font_size))
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Return a number of columns that makes the sheet a little wider than high and its last row as full as can be."""
    ideal = math.sqrt(1.6 * count * aspect)
    best = min(count, math.ceil(ideal))

    def cost(columns: int) -> tuple[float, float]:
        return -count % columns / columns + abs(columns - best) / 10, abs(math.log(columns / ideal))

    return min(range(max(1, best - 2), min(count, best + 2) + 1), key=cost)


def _tile_size(width: int, height: int, columns: int) -> tuple[int, int]:
    """Return the width and height at which a picture of this size is shown in a sheet of so many columns."""
    factor: float = max(1, math.ceil(_SMALLEST_TILE / min(height, width)))
    widest = (_WIDEST_SHEET - _GAP) // columns - _GAP
    if factor == 1:
        factor = min(1, max(widest / width, _SMALLEST_SHRUNK_TILE / min(height, width)))
    return round(width * factor), round(height * factor)


def _resized(picture: Pixels, width: int, height: int) -> PILImage.Image:
    image = PILImage.fromarray(picture)
    enlarged = width >= image.width
    return image.resize((width, height), PILImage.Resampling.NEAREST if enlarged else PILImage.Resampling.LANCZOS)


def _fitted(label: str, font_size: int, width: int, most_lines: int = _MOST_LINES) -> tuple[str, _Font]:
    """Return a label, in lines if need be, and a font, in which it is no wider than `width`."""
    for size in range(font_size, _SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(label) <= width:
            return label, font
    lines = [""]
    for word in label.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width or len(lines) == most_lines:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(_cut(text, font, width) for text in lines), font


def _cut(text: str, font: _Font, width: int) -> str:
    """Return a text that is no wider than `width`, with dots for its middle if it is."""
    shorter = text
    for kept in range(len(text) - 1, 1, -1):
        if font.getlength(shorter) <= width:
            break
        shorter = f"{text[: kept - kept // 2]}..{text[-(kept // 2) :]}"
    return shorter


def _draw_legend(sheet: PILImage.Image, limit: float, line: int, font: _Font) -> None:
    import torch

    width = min(sheet.width - 2 * _GAP, 320)
    bar = to_signed_pixels(torch.linspace(-limit, limit, width).expand(1, line // 2, width), limit)
    y = sheet.height - 2 * line + line // 4
    sheet.paste(PILImage.fromarray(np.ascontiguousarray(bar)), (_GAP, y))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((_GAP, y, _GAP + width - 1, y + line // 2 - 1), outline=_INK)
    for x, text, anchor in ((0, f"{-limit:.2g}", "lt"), (width / 2, "0", "mt"), (width, f"{limit:.2g}", "rt")):
        draw.text((_GAP + x, y + 0.75 * line), text, fill=_INK, font=font, anchor=anchor)


def save_png(image: PILImage.Image | Pixels, path: Path, info: PngInfo | None = None) -> None:
    """Write an image as PNG, whole or not at all.

    Args:
        image: An image, or pixels ``(H, W, 3)``.
        path: Where it goes; missing folders are made.
        info: Texts that are kept in the file.
    """
    picture = image if isinstance(image, PILImage.Image) else PILImage.fromarray(image)
    write_atomically(path, lambda file: picture.save(file, format="PNG", pnginfo=info))


def save_animation(frames: Sequence[Path], path: Path, frame_ms: int = 500) -> None:
    """Join pictures into one animated WebP that plays for ever and rests on the last.

    Args:
        frames: PNG files in order. Smaller ones get a white margin, right and below.
        path: Where the animation goes.
        frame_ms: How long each is shown, in milliseconds; the last three times as long.
    """
    opened = [PILImage.open(frame) for frame in frames]
    size = max(image.width for image in opened), max(image.height for image in opened)
    images = []
    for image in opened:
        with image:
            images.append(PILImage.new("RGB", size, _PAPER))
            images[-1].paste(image, (0, 0))
    durations = [frame_ms] * (len(images) - 1) + [3 * frame_ms]
    options = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0, "quality": 80}
    write_atomically(path, lambda file: images[0].save(file, format="WEBP", **options))
