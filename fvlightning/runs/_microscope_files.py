"""What the page of `microscope` shows, as plain values and tiles, from records, examples and weights."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fvlightning.analysis import FirstLayer
from fvlightning.features import Objective, Unit
from fvlightning.features.capture import LayerSurvey
from fvlightning.io import UnreadableImageError
from fvlightning.output import (
    Example,
    Pixels,
    Record,
    UnitExamples,
    WebPage,
    from_pixels,
    group_name,
    layer_name,
    on_grey,
    read_pixels,
    resized,
    rounded,
    rounded_all,
    to_pixels,
    unit_file,
    weight_pixels,
)
from fvlightning.runs._pictures import negative_of, score_of

PICTURES = "pictures"
# A wall shows larger pictures in this size, in pixels.
_LARGEST_TILE = 112
_LARGEST_IMAGE = 256
_MOST_STEPS = 128  # of a curve
# The numbers of units by their keys: name, and meaning.
NUMBERS = {
    "score": ("score", "the unit's activation on its picture, as saved"),
    "ratio": ("score ÷ largest", "1: the picture excites the unit as much as the image that excites it most"),
    "largest": ("largest of images", "the unit's highest activation on an image"),
    "active": ("images active", "share of the images on which the unit is above 0 at some position at least"),
    "cosine": ("cosine of weights", "of the unit's weights and the patch of its picture that excites it most"),
    "step": ("best step", "the step of the optimisation that gave the picture"),
}


@dataclass(frozen=True)
class Epoch:
    """What a training has left of an epoch.

    Attributes:
        number: Number of epochs that the model was trained for.
        folder: The folder of the pictures.
        records: The records of the best picture of each unit.
        examples: The figures of images by unit, as `write_examples` writes them; empty without an `ExamplesCallback`.
    """

    number: int
    folder: Path
    records: Mapping[str, Record]
    examples: Mapping[str, Mapping[str, Any]]


@dataclass
class Images:
    """The images that are examples of some unit.

    Attributes:
        indices: The number of each image on the page, by its place in the data.
        names: Class, or nothing, and file or place, of each image.
        sprites: See `WebPage.save_sprites`.
        excited: By layer, for each image the units that it excites most, with their scores.
    """

    indices: Mapping[int, int]
    names: list[tuple[str, str]]
    sprites: dict[str, Any]
    excited: dict[str, list[list[tuple[int, float]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """All that is known of the units of a network; whatever is empty is not shown.

    Attributes:
        model: Name of the model.
        facts: Lines about model, pictures and images, by their headings.
        units: The units, layer by layer in the order of the network.
        surveys: The layers of the network.
        image_shape: ``(C, H, W)`` of the pictures.
        records: The records of the pictures in ``pictures``, the negative ones included, by unit, the best first.
        examples: Those of each unit.
        images: The images of the examples.
        weights: The layers that see the pixels.
        epochs: Those of the training.
    """

    model: str
    facts: Mapping[str, str]
    units: Mapping[str, Sequence[Unit | Objective]]
    surveys: Sequence[LayerSurvey]
    image_shape: tuple[int, ...]
    records: Mapping[str, Sequence[Record]]
    examples: Mapping[str, UnitExamples]
    images: Images | None
    weights: Mapping[str, FirstLayer]
    epochs: Sequence[Epoch]


def by_layer(units: Sequence[Unit | Objective], surveys: Sequence[LayerSurvey]) -> dict[str, list[Unit | Objective]]:
    """Return units by the names of their layers, in the order of the network, and sums at the end."""
    groups: dict[str, list[Unit | Objective]] = {str(survey.layer): [] for survey in surveys}
    for unit in units:
        groups.setdefault(group_name(unit), []).append(unit)
    return {name: group for name, group in groups.items() if group}


def best_first(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each unit, the highest score first."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=score_of, reverse=True):
        groups.setdefault(record.unit, []).append(record)
    return groups


def image_tile(picture: Tensor) -> Pixels:
    """Return an image ``(C, H, W)`` as it stands on the page, at most 256 pixels large."""
    return _fitted(to_pixels(picture), _LARGEST_IMAGE)


def write_page(page: WebPage, content: Content) -> None:
    """Write all files of the page into a folder whose ``pictures`` are there."""
    layers = [_LayerFiles(page, content, number, name).write() for number, name in enumerate(content.units)]
    images = None
    if content.images is not None:
        images = {"sprites": content.images.sprites, "names": content.images.names}
    network = {
        "model": content.model,
        "facts": content.facts,
        "numbers": {key: {"name": name, "meaning": meaning} for key, (name, meaning) in NUMBERS.items()},
        "images": images,
        "epochs": [epoch.number for epoch in content.epochs],
        "layers": layers,
        "map": _map(content),
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


def _map(content: Content) -> list[Any]:
    """Return the innermost modules in order: the number of a layer that is shown, or name, kind and shape."""
    numbers = {name: number for number, name in enumerate(content.units)}
    paths = {survey.layer.layer for survey in content.surveys}
    containers = {path.rpartition(".")[0] for path in paths}
    rows: list[Any] = []
    for survey in content.surveys:
        name = str(survey.layer)
        if name in numbers:
            rows.append(numbers.pop(name))
        elif survey.layer.layer not in containers:
            rows.append([name, survey.kind, survey.shape])
    return [*rows, *numbers.values()]


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
            "units": [self._unit(unit) for unit in units],
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
        return _fitted(pixels, _LARGEST_TILE)

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

    def _unit(self, unit: Unit | Objective) -> dict[str, Any]:
        content, name = self._content, str(unit)
        records, found = content.records.get(name, ()), content.examples.get(name)
        record = records[0] if records else None
        largest = None if found is None else found.maximum
        numbers: dict[str, float | None] = {"largest": largest, "active": None if found is None else found.active}
        if record is not None:
            numbers |= {"score": record.score, "step": record.best_step, "cosine": self._cosine(unit, record)}
            if record.score is not None and largest is not None and record.score > 0 and largest > 0:
                numbers["ratio"] = record.score / largest
        names = [found and found.class_name, record and record.class_name]
        return {
            "id": unit_file(unit).stem if isinstance(unit, Unit) else name,
            "name": name,
            "class": next(filter(None, names), None),
            "label": _common_label(found),
            "numbers": rounded_all(numbers),
            "pictures": [_picture_facts(record) for record in records],
            "negatives": [_picture_facts(one) for one in content.records.get(str(negative_of(unit)), ())],
            "curve": _curve(record),
            "images": None if found is None else self._examples(found),
        }

    def _cosine(self, unit: Unit | Objective, record: Record) -> float | None:
        layer = self._content.weights.get(self._name)
        if layer is None or not isinstance(unit, Unit) or unit.index is None or unit != Unit(unit.layer, unit.index):
            return None
        if record.status != "ok" or record.limit is not None:
            return None
        try:
            pixels = on_grey(read_pixels(self._page.folder / PICTURES / record.file))
        except UnreadableImageError:
            return None
        picture = from_pixels(pixels, record.image_shape[0])
        (match,) = layer.match([unit.index], picture[None], either_sign=record.settings["pooling"] == "rms")
        return match.cosine

    def _examples(self, found: UnitExamples) -> dict[str, Any]:
        assert self._content.images is not None
        indices = self._content.images.indices

        def plain(examples: Sequence[Example]) -> list[Any]:
            return [[indices[one.place], rounded(one.score), self._share(one.box)] for one in examples]

        return {
            **_histogram(found.n_images, found.minimum, found.maximum, found.histogram),
            "not_finite": found.n_non_finite,
            "strongest": plain(found.strongest),
            "weakest": plain(found.weakest),
        }

    def _share(self, box: Sequence[int] | None) -> list[float] | None:
        """Return a box as shares of the image's height and width."""
        if box is None:
            return None
        _, height, width = self._content.image_shape
        return [round(side / whole, 4) for side, whole in zip(box, (height, width) * 2, strict=True)]

    def _epoch(self, epoch: Epoch) -> dict[str, Any]:
        records = [epoch.records.get(unit) for unit in self._units]
        values: dict[str, Any] = {"scores": [record and rounded(record.score) for record in records]}
        if epoch.examples:
            values["images"] = [
                found
                and {
                    **_histogram(found["n_images"], found["minimum"], found["maximum"], found["histogram"]),
                    "active": rounded(found["active"]),
                }
                for found in map(epoch.examples.get, self._units)
            ]
        return values


def _picture_facts(record: Record) -> dict[str, Any]:
    facts = {"file": f"{PICTURES}/{record.file}", "score": rounded(record.score), "status": record.status}
    return {**facts, "steps": record.steps, "limit": rounded(record.limit)}


def _curve(record: Record | None) -> dict[str, Any] | None:
    """Return the scores of the optimisation, every n-th of a long one."""
    if record is None:
        return None
    every = -(-len(record.history) // _MOST_STEPS) or 1
    return {"every": every, "scores": [rounded(score) for score in record.history[::every]]}


def _histogram(n_images: int, minimum: float | None, maximum: float | None, histogram: Sequence[int]) -> dict[str, Any]:
    return {"count": n_images, "minimum": rounded(minimum), "maximum": rounded(maximum), "histogram": histogram}


def _common_label(found: UnitExamples | None) -> str | None:
    """Return the most frequent class of the images that excite a unit most, None if they have no classes."""
    names = [name for one in (found.strongest if found else ()) if (name := class_of(one))]
    return Counter(names).most_common(1)[0][0] if names else None


def class_of(example: Example) -> str:
    """Return the class of an example's image, empty if it has none."""
    return example.class_name or ("" if example.label is None else str(example.label))


def _fitted(pixels: Pixels, largest: int) -> Pixels:
    height, width = pixels.shape[:2]
    share = largest / max(height, width)
    return pixels if share >= 1 else resized(pixels, max(1, round(share * width)), max(1, round(share * height)))
