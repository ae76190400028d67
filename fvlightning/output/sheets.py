"""Contact sheets: many pictures as one, each with its name under it."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from fvlightning.output.colors import Pixels, to_signed_pixels
from fvlightning.output.files import write_atomically

_SMALLEST_TILE = 112
_GAP = 8
_INK = (40, 40, 40)
_PAPER = (255, 255, 255)


def contact_sheet(
    pictures: Sequence[Pixels],
    labels: Sequence[str],
    title: str = "",
    columns: int | None = None,
    limit: float | None = None,
) -> PILImage.Image:
    """Lay pictures out in rows, each with a label under it.

    Args:
        pictures: Each ``(H, W, 3)``, all of one size. Small ones are enlarged by a whole factor, pixel by pixel.
        labels: One a picture.
        title: Stands above.
        columns: Pictures a row. Default: as many as make the sheet a little wider than high.
        limit: Of signed values, the value of the strongest red: a legend from ``-limit`` to ``limit`` stands below.

    Returns:
        An RGB image.
    """
    height, width = pictures[0].shape[:2]
    factor = max(1, math.ceil(_SMALLEST_TILE / min(height, width)))
    height, width = height * factor, width * factor
    columns = columns or _columns(len(pictures), height / width)
    font_size = max(12, min(height // 8, 28))
    font, title_font = ImageFont.load_default(font_size), ImageFont.load_default(font_size + 4)
    line = round(1.5 * font_size)
    top = 2 * line if title else _GAP
    n_rows = math.ceil(len(pictures) / columns)
    legend_height = 2 * line if limit is not None else 0
    sheet_width = max(columns * (width + _GAP) + _GAP, math.ceil(title_font.getlength(title)) + 2 * _GAP)
    sheet_size = (sheet_width, top + n_rows * (height + line + _GAP) + legend_height)
    sheet = PILImage.new("RGB", sheet_size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, line // 3), title, fill=_INK, font=title_font)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        row, column = divmod(place, columns)
        x, y = _GAP + column * (width + _GAP), top + row * (height + line + _GAP)
        tile = PILImage.fromarray(picture).resize((width, height), PILImage.Resampling.NEAREST)
        sheet.paste(tile, (x, y))
        draw.text((x + width / 2, y + height + line / 2), label, fill=_INK, font=font, anchor="mm")
    if limit is not None:
        _draw_legend(sheet, limit, line, font)
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Return a number of columns that makes the sheet a little wider than high and its last row as full as can be."""
    fewest = min(count, math.ceil(math.sqrt(1.6 * count * aspect)))
    return min(range(fewest, min(count, fewest + 2) + 1), key=lambda columns: -count % columns)


def _draw_legend(
    sheet: PILImage.Image, limit: float, line: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
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
