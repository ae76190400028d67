"""Joins the contact sheets of a run into the README's picture: a row for each layer, a column for each epoch.

python tools/readme_picture.py runs/quickstart/version_0 .github/quickstart.png
"""

import argparse
from pathlib import Path

from PIL import Image as PILImage


def main() -> None:
    """Read the sheets, join them, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("picture", type=Path, help="where the picture goes")
    parser.add_argument("--layers", nargs="+", default=["conv2", "fc2"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[0, 1, 8])
    settings = parser.parse_args()
    rows = [
        [
            PILImage.open(settings.run / "features" / f"epoch_{epoch:04d}" / f"{layer}.png").convert("RGB")
            for epoch in settings.epochs
        ]
        for layer in settings.layers
    ]
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
    joined.quantize(64).save(settings.picture, optimize=True)


if __name__ == "__main__":
    main()
