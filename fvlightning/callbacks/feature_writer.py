"""Writes each picture when it is done, and the sheets and the manifest at the end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo
from typing_extensions import override

import fvlightning
from fvlightning.features import Feature, Maximizer, Unit
from fvlightning.output import (
    contact_sheet,
    feature_record,
    layer_name,
    log_image,
    save_png,
    takes_images,
    to_pixels,
    to_signed_pixels,
    unit_file,
    write_manifest,
)

_RECORD = "fvlightning"
# What may differ between two runs that make the same picture.
_NO_PART_OF_THE_PICTURE = ("score", "steps", "best_step", "status", "versions")


class FeatureWriter(BasePredictionWriter):
    """Writes features as they are made: ``FOLDER/LAYER/INDEX.png``, each with its record inside the file.

    A picture and its record are one file, written whole or not at all: whatever ends a run, what is there is good, and
    the next run goes on behind it. At the end the rank zero reads all files back and writes a contact sheet a layer,
    ``FOLDER/LAYER.png``, and the records as ``FOLDER/features.json``.

    Args:
        folder: Where the files go.
        units: All units of the run, in order, also those that are there already.
        maximizer: How the pictures are made.
        common: Entries that all records share: the model, its weights, the shape of the pictures.
    """

    def __init__(self, folder: Path, units: Sequence[Unit], maximizer: Maximizer, common: dict[str, Any]) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.units = list(units)
        self.maximizer = maximizer
        self.common = common

    def missing(self) -> list[Unit]:
        """Return the units of which a picture is not there, or was made with other settings or another model."""
        settings = self.maximizer.settings
        return [
            unit
            for unit in self.units
            if not all(self._is_there(unit, repeat, settings) for repeat in range(self.maximizer.repeats))
        ]

    def _is_there(self, unit: Unit, repeat: int, settings: dict[str, Any]) -> bool:
        record = read_record(self.folder / unit_file(unit, repeat))
        wanted = {"unit": str(unit), "repeat": repeat, "settings": settings, **self.common}
        wanted = {key: value for key, value in wanted.items() if key not in _NO_PART_OF_THE_PICTURE}
        # By way of JSON, in which tuples are lists.
        return record is not None and json.loads(json.dumps(wanted, default=str)).items() <= record.items()

    @override
    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Sequence[Feature],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        for feature in prediction:
            assert isinstance(feature.unit, Unit)
            file = unit_file(feature.unit, feature.repeat)
            limit = float(feature.image.abs().max()) or 1.0
            bounded = self.maximizer.image.bounded
            pixels = to_pixels(feature.image) if bounded else to_signed_pixels(feature.image, limit)
            info = PngInfo()
            info.add_text(_RECORD, json.dumps({**feature_record(feature, file), **self.common}, default=str))
            save_png(pixels, self.folder / file, info)

    def finish(self, trainer: pl.Trainer) -> list[dict[str, Any]]:
        """Write the sheets and the manifest, give the sheets to the loggers, and return the records. For rank zero."""
        records = []
        for layer, units in _by_layer(self.units).items():
            pictures, labels = [], []
            for unit in units:
                for repeat in range(self.maximizer.repeats):
                    path = self.folder / unit_file(unit, repeat)
                    record = read_record(path)
                    if record is None:
                        continue
                    records.append(record)
                    with PILImage.open(path) as picture:
                        pictures.append(np.asarray(picture.convert("RGB")))
                    label = unit_file(unit, repeat).stem
                    labels.append(label if record["status"] == "ok" else f"{label} ({record['status']})")
            if not pictures:
                continue
            sheet = contact_sheet(pictures, labels, f"{self.common['model']}, {layer}")
            save_png(sheet, self.folder / f"{layer_name(layer)}.png")
            for logger in trainer.loggers:
                if takes_images(logger):
                    log_image(logger, f"features/{layer}", sheet, 0)
        write_manifest(records, self.folder / "features.json")
        return records


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


def _by_layer(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    layers: dict[str, list[Unit]] = {}
    for unit in units:
        layers.setdefault(str(unit.layer_call), []).append(unit)
    return layers
