"""The files of the page of `microscope`: the tiles and the data of each layer, and the page itself."""

from collections.abc import Iterator, Mapping, Sequence
from math import exp, prod
from pathlib import Path
from typing import Any

import numpy as np

from fvlightning.features import Unit
from fvlightning.io import UnreadableImageError
from fvlightning.output import (
    Pixels,
    Record,
    WebPage,
    layer_name,
    on_grey,
    read_pixels,
    rounded,
    shrunk,
    to_pixels,
    weight_pixels,
)
from fvlightning.runs._microscope_content import PICTURES, Content, Epoch
from fvlightning.runs._microscope_images import LARGEST_EXACT_IMAGE, LARGEST_IMAGE
from fvlightning.runs._microscope_map import map_rows
from fvlightning.runs._microscope_units import NUMBERS, VERDICTS, histogram, unit_values
from fvlightning.runs._pictures import negative_of

# A wall shows larger pictures in this size, in pixels.
_LARGEST_TILE = 112


def estimated_size(
    n_units: int,
    n_pictures: int,
    image_shape: Sequence[int],
    *,
    n_steps: int,
    n_layers: int = 1,
    n_epochs: int = 0,
    n_examples: int = 0,
    n_images: int | None = None,
) -> float:
    """Return about how many bytes the page will have, by what files of digits and of photographs took.

    Args:
        n_units: Number of units.
        n_pictures: Number of pictures, the negative ones and repeats included.
        image_shape: ``(C, H, W)`` of the pictures.
        n_steps: Steps of the optimisation.
        n_layers: Number of layers.
        n_epochs: Number of epochs that are shown.
        n_examples: Number of images that are shown for all units together, some of them several times.
        n_images: Number of images that these are from, None if it is not known.
    """
    n_values, side = prod(image_shape), max(image_shape[1:])
    of_tile = n_values * min(1, _LARGEST_TILE / side) ** 2 * (0.45 if side <= _LARGEST_TILE else 0.1)
    of_image = n_values * min(1, LARGEST_IMAGE / side) ** 2 * (0.4 if side <= LARGEST_EXACT_IMAGE else 0.08)
    # The more examples a unit has, the more of them are those of others, too.
    n_shown = n_examples if n_images is None else n_images * (1 - exp(-n_examples / n_images)) if n_images else 0
    # A picture's file, record and part of a sheet; the page itself; the figures of the images, in two files.
    of_pictures = n_pictures * (3400 + 36 * n_steps + 1.5 * n_values + of_tile)
    of_units = n_units * (400 + n_epochs * (of_tile + 100) + (6000 if n_examples else 0))
    return 60_000 + of_pictures + of_units + n_shown * (of_image + 100 * n_layers)


def write_page(page: WebPage, content: Content) -> None:
    """Write all files of the page into a folder whose ``pictures`` are there."""
    layers = [_LayerFiles(page, content, number, name).write() for number, name in enumerate(content.units)]
    images = None
    if content.images is not None:
        images = {"sprites": content.images.sprites, "names": content.images.names}
    rows, flow = map_rows(content.surveys, content.connections, list(content.units))
    network = {
        "model": content.model,
        "facts": content.facts,
        "numbers": NUMBERS,
        "verdicts": VERDICTS,
        "images": images,
        "epochs": [epoch.number for epoch in content.epochs],
        "layers": layers,
        "map": rows,
        "flow": flow,
    }
    page.save_data("network", "microscope.network", network)
    sheets = [(name, f"{PICTURES}/{layer_name(name)}.png") for name in content.units]
    page.finish(
        model=content.model,
        facts=content.facts,
        layers=[
            {"name": name, "count": len(content.units[name]), "file": file}
            for name, file in sheets
            if (page.folder / file).exists()
        ],
    )


class _LayerFiles:
    """The files of a layer: its tiles, and the data of its units."""

    def __init__(self, page: WebPage, content: Content, number: int, name: str) -> None:
        self._page = page
        self._content = content
        self._number = number
        self._name = name
        self._units = list(map(str, content.units[name]))
        channels, height, width = content.image_shape
        self._blank = np.full((height, width * (1 if channels in (1, 3) else channels), 3), 128, np.uint8)

    def write(self) -> dict[str, Any]:
        """Write the files, and return what the map and the search need to know of the layer."""
        content, units = self._content, self._content.units[self._name]
        folder = self._page.folder / PICTURES
        negatives = [str(negative_of(unit)) for unit in units]
        best = {unit: records[0] for unit, records in content.records.items()}
        sprites = {
            "picture": self._save_pictures("picture", folder, self._units, best),
            "negative": self._save_pictures("negative", folder, negatives, best),
            "weights": self._save_weights(),
        }
        for epoch in content.epochs:
            kind = f"epoch_{epoch.number:04d}"
            sprites[f"epoch {epoch.number}"] = self._save_pictures(kind, epoch.folder, self._units, epoch.records)
        data: dict[str, Any] = {
            "units": [unit_values(content, unit, folder) for unit in units],
            "epochs": {epoch.number: self._epoch(epoch) for epoch in content.epochs},
            "excited": content.images.excited.get(self._name, []) if content.images else [],
        }
        survey = next((one for one in content.surveys if str(one.layer) == self._name), None)
        summaries = [[unit["id"], unit["class"], unit["label"]] for unit in data["units"]]
        return {
            "name": self._name,
            "kind": "" if survey is None else survey.kind,
            "shape": () if survey is None else survey.shape,
            "n_units": len(units) if survey is None else survey.n_units,
            "sprites": {kind: found for kind, found in sprites.items() if found is not None},
            "units": summaries,
            "data": self._page.save_data(f"layer_{self._number}", f"microscope.layers[{self._number}]", data),
        }

    def _save_pictures(
        self, kind: str, folder: Path, units: Sequence[str], records: Mapping[str, Record]
    ) -> dict[str, Any] | None:
        shown = [records.get(unit) for unit in units]
        if not any(shown):
            return None
        tiles = (self._picture(folder, record) for record in shown)
        exact = max(self._blank.shape) <= _LARGEST_TILE
        return self._page.save_sprites(tiles, len(units), f"{self._number}_{kind}", exact=exact)

    def _picture(self, folder: Path, record: Record | None) -> Pixels:
        pixels = self._blank
        if record is not None:
            try:
                pixels = on_grey(read_pixels(folder / record.file))
            except UnreadableImageError:
                pixels = self._blank
        return shrunk(pixels, _LARGEST_TILE)

    def _save_weights(self) -> dict[str, Any] | None:
        units = [unit for unit in self._content.units[self._name] if isinstance(unit, Unit)]
        if self._name not in self._content.weights or len(units) < len(self._units):
            return None
        weights = self._content.weights[self._name].weights

        def tiles() -> Iterator[Pixels]:
            for unit in units:
                kernel = weights[unit.index or 0]
                limit = float(kernel.abs().max()) or 1.0
                yield to_pixels(0.5 + kernel / (2 * limit)) if len(kernel) == 3 else weight_pixels(kernel, limit)

        return self._page.save_sprites(tiles(), len(units), f"{self._number}_weights", exact=True)

    def _epoch(self, epoch: Epoch) -> dict[str, Any]:
        records = [epoch.records.get(unit) for unit in self._units]
        values: dict[str, Any] = {"scores": [record and rounded(record.score) for record in records]}
        if epoch.examples:
            keys = ("n_images", "minimum", "maximum", "histogram")
            values["images"] = [
                found and {**histogram(*(found[key] for key in keys)), "active": rounded(found["active"])}
                for found in map(epoch.examples.get, self._units)
            ]
        return values
