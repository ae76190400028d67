"""Join contact sheets into a picture for the README, row by row.

F=runs/quickstart/version_0/features
python tools/readme_picture.py $F/epoch_000[018]/conv2.png $F/epoch_000[018]/fc2.png --columns 3 -o both.png
python tools/readme_picture.py out/blocks.*.png out/classifier.png --columns 2 -o .github/imagenet.webp
"""

import argparse
from pathlib import Path

from PIL import Image as PILImage


def main() -> None:
    """Read the sheets, join them, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheets", type=Path, nargs="+", help="the sheets, in order")
    parser.add_argument("--columns", type=int, default=1, help="number of sheets in a row")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the picture goes, PNG or WebP")
    settings = parser.parse_args()
    sheets = [PILImage.open(path).convert("RGB") for path in settings.sheets]
    rows = [sheets[first : first + settings.columns] for first in range(0, len(sheets), settings.columns)]
    width = max(sum(sheet.width for sheet in row) for row in rows)
    height = sum(max(sheet.height for sheet in row) for row in rows)
    joined = PILImage.new("RGB", (width, height), (255, 255, 255))
    y = 0
    for row in rows:
        x = 0
        for sheet in row:
            joined.paste(sheet, (x, y))
            x += sheet.width
        y += max(sheet.height for sheet in row)
    if settings.output.suffix == ".png":
        joined.quantize(64).save(settings.output, optimize=True)
    else:
        joined.save(settings.output, quality=80)


if __name__ == "__main__":
    main()
