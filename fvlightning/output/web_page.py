"""A page that a browser opens from its folder, without a server: tiles in sprites, data as scripts, and the page."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from fvlightning.io import write_atomically, write_text
from fvlightning.output.pixels import Pixels

PAGE = Path(__file__).parent / "page"
_TILES, _DATA = "tiles", "data"
# The largest sprite, in pixels and in tiles: browsers decode it as a whole.
_MOST_PIXELS, _MOST_COLUMNS = 2048, 16
_QUALITY = 85


class WebPage:
    """The files of a page, each written whole or not at all.

    Args:
        folder: The folder of the page.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[Path] = set()

    def save_sprites(self, tiles: Iterable[Pixels], count: int, name: str, *, exact: bool) -> dict[str, Any]:
        """Write tiles of one size, row by row, as WebP files ``tiles/NAME_NUMBER.webp``.

        A lossless WebP of small pictures takes half the space of a PNG.

        Args:
            tiles: The tiles, at least one, without an alpha channel.
            count: Their number.
            name: The beginning of the names of the files.
            exact: Whether the pixels stay as they are, or may change a little to save space.

        Returns:
            How to find a tile: ``files``, ``columns`` and ``rows`` of a full file, ``width`` and ``height`` of a tile,
            and ``count``.
        """
        remaining = iter(tiles)
        files: list[str] = []
        columns = rows = width = height = 0
        while chunk := list(islice(remaining, columns * rows or 1)):
            if not files:
                height, width = chunk[0].shape[:2]
                columns = min(_MOST_COLUMNS, max(1, _MOST_PIXELS // width), count)
                rows = min(_MOST_COLUMNS, max(1, _MOST_PIXELS // height))
                chunk += islice(remaining, columns * rows - 1)
            sprite = PILImage.new("RGB", (columns * width, -(-len(chunk) // columns) * height))
            for number, tile in enumerate(chunk):
                sprite.paste(PILImage.fromarray(tile), (number % columns * width, number // columns * height))
            files.append(f"{_TILES}/{name}_{len(files)}.webp")
            options = {"lossless": True} if exact else {"quality": _QUALITY}
            self._write(files[-1], partial(sprite.save, format="WEBP", method=6, **options))
        return {"files": files, "columns": columns, "rows": rows, "width": width, "height": height, "count": count}

    def save_data(self, name: str, target: str, value: object) -> str:
        """Write plain values as a script ``data/NAME.js`` that assigns them, and return its path.

        A page that is opened as a file may load scripts, but not JSON.

        Args:
            name: The name of the file.
            target: What the values are assigned to, in JavaScript.
            value: The values.
        """
        file = f"{_DATA}/{name}.js"
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        self._write(file, lambda opened: opened.write(f"{target} = {text};\n".encode()))
        return file

    def finish(self, **content: Any) -> None:
        """Write ``index.html`` with its style and its script, and remove tiles and data of an earlier page.

        Args:
            **content: What the template ``page/index.html`` shows.
        """
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        scripts = []
        for source in sorted([*PAGE.glob("*.css"), *PAGE.glob("*.js")]):
            file = f"{PAGE.name}/{source.name}"
            write_text(self.folder / file, source.read_text(encoding="utf-8"))
            if source.suffix == ".js":
                scripts.append(file)
        template = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined).get_template(
            "index.html"
        )
        # The data come last: the scripts have to be there to take them.
        html = template.render(content, scripts=[*scripts, f"{_DATA}/network.js"])
        write_text(self.folder / "index.html", html)
        for path in [*self.folder.glob(f"{_TILES}/*.webp"), *self.folder.glob(f"{_DATA}/*.js")]:
            if path not in self._written:
                path.unlink()

    def _write(self, file: str, write: Any) -> None:
        write_atomically(self.folder / file, write)
        self._written.add(self.folder / file)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Return a number to some significant digits; None if it is not finite."""
    if value is None or not abs(value) < float("inf"):
        return None
    return float(f"{value:.{digits}g}")


def rounded_all(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return those of some named numbers that are known and finite, to four significant digits."""
    numbers = {name: rounded(value) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if number is not None}
