"""Writes each picture when it is done, and the sheets and the manifest at the end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

import fvlightning
from fvlightning.features import Feature, Maximizer, Objective, Unit
from fvlightning.output import (
    Tile,
    feature_pixels,
    feature_record,
    feature_sheet,
    group_name,
    layer_name,
    log_image,
    remove_unfinished,
    save_png,
    snapshot_strip,
    strip_file,
    takes_images,
    unit_file,
    value_limit,
    write_manifest,
)
from fvlightning.output.colors import Pixels
from fvlightning.output.features import class_entry

_RECORD = "fvlightning"
# What may differ between two runs that make the same picture.
_NO_PART_OF_THE_PICTURE = ("score", "steps", "best_step", "status", "versions", "class")


class FeatureWriter:
    """Writes features as they are made: ``FOLDER/LAYER/INDEX.png``, each with its record inside the file.

    A picture and its record are one file, written whole or not at all: whatever ends a run, what is there is good, and
    the next run goes on behind it. If the maximizer keeps snapshots, they are beside it as one strip,
    ``FOLDER/LAYER/INDEX_steps.png``, which is written before the picture. At the end the rank zero reads all files back
    and writes a contact sheet a layer, ``FOLDER/LAYER.png``, of the units of this run, and the records of all pictures
    in the folder, also those of earlier runs, as ``FOLDER/features.json``. Sums of units are in ``FOLDER/sums`` and
    ``FOLDER/sums.png``.

    Args:
        folder: Where the files go.
        units: All units of the run, in order, also those that are there already.
        maximizer: How the pictures are made.
        common: Entries that all records share: the model, its weights, the shape of the pictures.
        tag: Under which name loggers get the sheets, ``TAG/LAYER``.
        names: Names of the classes that units stand for, by the units' text forms.
    """

    def __init__(
        self,
        folder: Path,
        units: Sequence[Unit | Objective],
        maximizer: Maximizer,
        common: dict[str, Any],
        tag: str = "features",
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.units = list(units)
        self.maximizer = maximizer
        self.common = common
        self.tag = tag
        self.names = names or {}
        self._snapshots = [step for step in maximizer.snapshots if step <= maximizer.steps]

    def missing(self) -> list[Unit | Objective]:
        """Return the units of which a file is not there, or was made with other settings or another model."""
        settings = self.maximizer.settings
        return [
            unit
            for unit in self.units
            if not all(self._is_there(unit, repeat, settings) for repeat in range(self.maximizer.repeats))
        ]

    def _is_there(self, unit: Unit | Objective, repeat: int, settings: dict[str, Any]) -> bool:
        if self._snapshots and not (self.folder / strip_file(unit, repeat)).is_file():
            return False
        record = read_record(self.folder / unit_file(unit, repeat))
        wanted = {"unit": str(unit), "repeat": repeat, "settings": settings, **self._strip(unit, repeat), **self.common}
        wanted = {key: value for key, value in wanted.items() if key not in _NO_PART_OF_THE_PICTURE}
        # By way of JSON, in which tuples are lists.
        return record is not None and json.loads(json.dumps(wanted, default=str)).items() <= record.items()

    def _strip(self, unit: Unit | Objective, repeat: int) -> dict[str, Any]:
        """Return what a record says of the strip: nothing if there is none."""
        strip = strip_file(unit, repeat).as_posix()
        return {"snapshots": self._snapshots, "snapshots_file": strip} if self._snapshots else {}

    def write(self, feature: Feature) -> None:
        """Write a feature's picture, and before it the strip of its snapshots.

        Raises:
            InputError: There is no space left.
        """
        file = unit_file(feature.unit, feature.repeat)
        record = feature_record(feature, file) | class_entry(self.names, feature.name)
        record |= self._strip(feature.unit, feature.repeat) | self.common
        limit = None
        if not self.maximizer.image.bounded:
            limit = record["limit"] = value_limit([feature.image])
        strip = self.folder / strip_file(feature.unit, feature.repeat)
        if self._snapshots:
            save_png(snapshot_strip(feature, self.maximizer.image.bounded, record.get("class")), strip)
        else:
            strip.unlink(missing_ok=True)  # one of an earlier run would be of another picture
        info = PngInfo()
        info.add_text(_RECORD, json.dumps(record, default=str))
        save_png(feature_pixels(feature, limit), self.folder / file, info)

    def finish(self, trainer: pl.Trainer) -> list[dict[str, Any]]:
        """Write the sheets and the manifest, give the sheets to the loggers, and return the records. For rank zero."""
        records = []
        remove_unfinished(self.folder)
        for name, units in _by_sheet(self.units).items():
            tiles = []
            for unit in units:
                for repeat in range(self.maximizer.repeats):
                    path = self.folder / unit_file(unit, repeat)
                    if (record := read_record(path)) is not None:
                        # The run that has made the picture may not have known the name.
                        record |= class_entry(self.names, str(unit))
                        records.append(record)
                        limit, class_name = record.get("limit"), record.get("class")
                        tiles.append(Tile(unit, repeat, record["status"], read_pixels(path), limit, class_name))
            if not tiles:
                continue
            remove_unfinished(self.folder / layer_name(name))
            sheet = feature_sheet(tiles, f"{self.common['model']}, {name}")
            save_png(sheet, self.folder / f"{layer_name(name)}.png")
            for logger in trainer.loggers:
                if takes_images(logger):
                    log_image(logger, f"{self.tag}/{name}", sheet, 0)
        write_manifest([*records, *self._earlier(records)], self.folder / "features.json")
        return records

    def _earlier(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records of the pictures in the folder that are not among these."""
        files = {record["file"] for record in records}
        others = [path for path in sorted(self.folder.glob("*/*.png")) if self._name(path) not in files]
        return [record for path in others if (record := read_record(path)) and record["file"] == self._name(path)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def read_pixels(path: Path) -> Pixels:
    """Return the pixels of a picture's file, ``(H, W, 3)``, or ``(H, W, 4)`` with an alpha channel."""
    with PILImage.open(path) as picture:
        return np.asarray(picture.convert("RGBA" if "A" in picture.getbands() else "RGB"))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record inside a picture's file, or None if there is no such file or no record in it."""
    try:
        with PILImage.open(path) as picture:
            text = picture.info.get(_RECORD)
    except (OSError, SyntaxError):  # Pillow's word for a broken PNG
        return None
    record: dict[str, Any] | None = json.loads(text) if text else None
    return record


def versions() -> dict[str, str]:
    """Return the versions of what makes the pictures."""
    return {"fvlightning": fvlightning.__version__, "torch": torch.__version__, "lightning": pl.__version__}


def _by_sheet(units: Sequence[Unit | Objective]) -> dict[str, list[Unit | Objective]]:
    sheets: dict[str, list[Unit | Objective]] = {}
    for unit in units:
        sheets.setdefault(group_name(unit), []).append(unit)
    return sheets
