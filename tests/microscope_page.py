"""The data and the tiles of a page of `microscope`, read from its files."""

import json
from pathlib import Path
from typing import Any

from fvlightning.output import Pixels, read_pixels


def data_of(name: str, folder: str = "microscope") -> Any:
    """Return the values that a script of the page assigns."""
    text = Path(folder, "data", f"{name}.js").read_text()
    return json.loads(text.partition(" = ")[2].rstrip(";\n"))


def tiles_of(sprites: dict[str, Any], folder: str = "microscope") -> list[Pixels]:
    """Cut the tiles out of their sprites."""
    columns, rows, width, height = (sprites[name] for name in ("columns", "rows", "width", "height"))
    tiles = []
    for place in range(sprites["count"]):
        file, inside = divmod(place, columns * rows)
        row, column = divmod(inside, columns)
        pixels = read_pixels(Path(folder, sprites["files"][file]))
        tiles.append(pixels[row * height :, column * width :][:height, :width])
    return tiles
