"""Writes each picture when it is finished, and the sheets and the manifest at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning.features import Feature, Maximizer, Objective, Unit
from fvlightning.io import digest_of_weights, remove_unfinished
from fvlightning.output.names import epoch_label, group_name, layer_name, strip_file, unit_file
from fvlightning.output.pixels import Pixels, as_pixels, save_png, to_pixels, value_limit, with_alpha
from fvlightning.output.records import Record, plain, read_picture, read_record, save_with_record, write_manifest
from fvlightning.output.sheets import card_parts, feature_sheet, snapshot_strip
from fvlightning.protocols import model_name
from fvlightning.version import __version__

WrittenPictures = Mapping[str, tuple[Record, Pixels]]
"""Records and pixels by the names of their files, relative to the folder of the results."""

_NONE: WrittenPictures = MappingProxyType({})


class FeatureWriter:
    """Writes features into a folder: ``LAYER/INDEX.png``, each with its record inside the file.

    A picture and its record are one file, written whole or not at all. So whatever ends a run, the pictures in the
    folder are whole, and the next run makes only the missing ones. Sums of units are in ``sums`` and ``sums.png``.

    Args:
        folder: The folder of the results.
        units: All units of the run, in order, including those that are finished already.
        maximizer: How the pictures are made.
        model: The model with the units.
        image_shape: ``(C, H, W)`` of the pictures.
        class_names: Names of the classes that units stand for, by the units' text forms.
        epoch: Number of epochs that the model was trained for, if it is being trained.
    """

    def __init__(
        self,
        folder: Path,
        units: Sequence[Unit | Objective],
        maximizer: Maximizer,
        model: nn.Module,
        image_shape: Sequence[int],
        *,
        class_names: Mapping[str, str] | None = None,
        epoch: int | None = None,
    ) -> None:
        self.folder = folder
        self._units = list(units)
        self._settings = maximizer.settings
        self._class_names = class_names or {}
        digest, shape = digest_of_weights(model), tuple(image_shape)
        self._common: dict[str, Any] = {"model": model_name(model), "weights": digest, "image_shape": shape}
        self._epoch = epoch

    def missing(self) -> list[Unit | Objective]:
        """Return the units that lack a picture of these settings, this model and this shape."""
        expected = self._common | {"settings": plain(self._settings.describe())}
        if snapshots := sorted({step for step in self._settings.snapshots if step <= self._settings.steps}):
            expected["snapshots"] = tuple(snapshots)

        def matches(record: Record) -> bool:
            same = all(getattr(record, name) == value for name, value in expected.items())
            # The strip of a picture has the same record.
            return same and (not snapshots or read_record(self.folder / str(record.snapshots_file)) == record)

        repeats = self._settings.repeats
        return [unit for unit in self._units if sum(matches(record) for record, _ in self._read(unit)) < repeats]

    def write(self, *features: Feature) -> WrittenPictures:
        """Write the pictures of features, each after the strip of its snapshots, ``LAYER/INDEX_steps.png``.

        Signed values of features that are written together and stand on one sheet share one scale. Return what the
        files hold, by the names of the files.

        Raises:
            InputError: There is no space left.
        """
        bounded = self._settings.image.bounded
        images_by_sheet: dict[str, list[Tensor]] = {}
        for feature in features:
            images_by_sheet.setdefault(group_name(feature.unit), []).append(feature.image)
        limits = {sheet: None if bounded else value_limit(images) for sheet, images in images_by_sheet.items()}
        versions = {"fvlightning": __version__, "torch": torch.__version__, "lightning": lightning.__version__}
        common = self._common | {"epoch": self._epoch, "versions": versions}
        written: dict[str, tuple[Record, Pixels]] = {}
        for feature in features:
            limit = limits[group_name(feature.unit)]
            record = Record.of(feature, class_name=self._class_names.get(feature.name), limit=limit, **common)
            strip = self.folder / strip_file(feature.unit, feature.repeat)
            if feature.snapshots:
                sheet = snapshot_strip(feature, bounded, record.class_name)
                save_with_record(as_pixels(sheet), strip, record)
            else:
                strip.unlink(missing_ok=True)  # the strip of an earlier run shows another picture
            pixels = to_pixels(feature.image, limit)
            if feature.importance is not None:
                pixels = with_alpha(pixels, feature.importance)
            save_with_record(pixels, self.folder / record.file, record)
            written[record.file] = record, pixels
        return written

    def finish(self, written: WrittenPictures = _NONE) -> tuple[list[Record], dict[str, PILImage.Image]]:
        """Write the sheets of the pictures in the folder, ``LAYER.png``, and the manifest, ``features.json``.

        The manifest lists all pictures in the folder. Return the records of the pictures of these units, and the sheets
        for loggers by name, ``LAYER``, or ``LAYER/FIRST-LAST`` for each 25 pictures of a layer that has more. For rank
        zero, when all ranks have finished.

        Args:
            written: What `write` has just returned; all other pictures are read from their files.
        """
        remove_unfinished(self.folder)
        units_by_sheet: dict[str, list[Unit | Objective]] = {}
        for unit in self._units:
            units_by_sheet.setdefault(group_name(unit), []).append(unit)
        all_records: list[Record] = []
        sheets: dict[str, PILImage.Image] = {}
        for name, units in units_by_sheet.items():
            remove_unfinished(self.folder / layer_name(name))
            pictures = [picture for unit in units for picture in self._read(unit, written)]
            # The run that made a picture may not have known the name of its class.
            records = [
                replace(record, class_name=self._class_names.get(record.unit, record.class_name))
                for record, _ in pictures
            ]
            all_records += records
            if records:
                model = self._common["model"]
                title = f"{model}, {name}" if self._epoch is None else f"{name}, {epoch_label(self._epoch)}"
                pixels = [pixels for _, pixels in pictures]
                sheet = feature_sheet(records, pixels, title)
                save_png(sheet, self.folder / f"{layer_name(name)}.png")
                parts = card_parts([Path(record.file).stem for record in records])
                cards = {
                    f"{name}/{ends}": feature_sheet(records[part], pixels[part], title) for ends, part in parts.items()
                }
                sheets |= cards or {name: sheet}
        files = {record.file for record in all_records}
        paths = {path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.glob("*/*.png"))}
        others = [(file, read_record(path)) for file, path in paths.items() if file not in files]
        # The record of a copied file names the original.
        earlier = [record for file, record in others if record is not None and record.file == file]
        write_manifest([*all_records, *earlier], self.folder / "features.json")
        return all_records, sheets

    def _read(self, unit: Unit | Objective, written: WrittenPictures = _NONE) -> list[tuple[Record, Pixels]]:
        """Return a unit's pictures in the folder, repeat by repeat; those just written are not opened."""
        files = [unit_file(unit, repeat).as_posix() for repeat in range(self._settings.repeats)]
        pictures = [(file, written.get(file) or read_picture(self.folder / file)) for file in files]
        # The record of a copied file names the original.
        return [
            picture for file, picture in pictures if picture and (picture[0].unit, picture[0].file) == (str(unit), file)
        ]
