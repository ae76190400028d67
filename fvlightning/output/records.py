"""Records: the facts about each picture, inside its file and in ``features.json``."""

import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self

from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from fvlightning.errors import InputError
from fvlightning.features import Feature
from fvlightning.io import write_text
from fvlightning.output.names import SUMS, strip_file, sum_label, unit_file, with_class
from fvlightning.output.pixels import Pixels, as_pixels, save_png

# Keys of the texts in a PNG file: the record, and the digest of record and pixels.
_KEY, _DIGEST_KEY = "fvlightning", "fvlightning digest"
_END_OF_PNG = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Record:
    """What a picture shows and how it was made. The keys of its JSON form are the names of the attributes.

    See `fvlightning.Feature` for the attributes that are not listed here.

    Attributes:
        unit: Text form of what was maximised.
        file: The picture's file, relative to the folder of the results.
        score: The objective for the picture as it is in the file; None if it is not finite.
        history: The objective at each step, to 6 significant digits; None where it is not finite.
        model: Name of the model.
        weights: Digest of the model's weights.
        image_shape: ``(C, H, W)`` of the picture.
        versions: Versions of the packages that made the picture.
        class_name: Name of the class that the unit stands for, if it is known.
        epoch: Number of epochs that the model was trained for, if the picture was made during training.
        limit: For signed values, the value of the strongest red.
        snapshots: Numbers of steps after which there is a snapshot.
        snapshots_file: File of the snapshots, relative to the folder of the results.
    """

    unit: str
    repeat: int
    file: str
    score: float | None
    steps: int
    best_step: int
    status: str
    seed: int
    settings: dict[str, Any]
    history: tuple[float | None, ...]
    model: str
    weights: str
    image_shape: tuple[int, ...]
    versions: dict[str, str]
    class_name: str | None = None
    epoch: int | None = None
    limit: float | None = None
    snapshots: tuple[int, ...] = ()
    snapshots_file: str | None = None

    @classmethod
    def of(cls, feature: Feature, **others: Any) -> Self:
        """Return the record of a feature; `others` are the attributes that the feature does not have."""
        return cls(
            unit=feature.name,
            repeat=feature.repeat,
            file=unit_file(feature.unit, feature.repeat).as_posix(),
            score=feature.score if math.isfinite(feature.score) else None,
            steps=feature.steps,
            best_step=feature.best_step,
            status=feature.status,
            seed=feature.seed,
            settings=plain(feature.settings),
            history=tuple(float(f"{x:.6g}") if math.isfinite(x) else None for x in feature.history.tolist()),
            snapshots=tuple(sorted(feature.snapshots)),
            snapshots_file=strip_file(feature.unit, feature.repeat).as_posix() if feature.snapshots else None,
            **others,
        )

    @property
    def label(self) -> str:
        """The label of the picture: index or sum, class, number of the repeat, and the status unless it is ok."""
        is_sum = self.file.startswith(f"{SUMS}/")
        name = Path(self.file).stem.removesuffix(f"_{self.repeat}" if self.repeat else "")
        label = sum_label(self.unit) if is_sum else name
        label = with_class(label, self.class_name) + (f" #{self.repeat}" if self.repeat else "")
        return label if self.status == "ok" else f"{label} ({self.status})"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values, without those that have their default."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    @classmethod
    def from_dict(cls, values: object, source: str | Path) -> Self:
        """Return the record of plain values, as in the file `source`. Unknown keys are ignored.

        Raises:
            InputError: The values are not a mapping, or a key is missing.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"'{source}' holds no record; make the file again")
        known: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in values:
                value = values[field.name]
                known[field.name] = tuple(value) if isinstance(value, list) else value
            elif field.default is MISSING:
                raise InputError(f"'{source}' has a record without the key '{field.name}'; make the file again")
        return cls(**known)


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they are read back from JSON, in which tuples are lists."""
    values: dict[str, Any] = json.loads(json.dumps(settings))
    return values


def save_with_record(pixels: Pixels, path: Path, record: Record) -> None:
    """Write pixels as a PNG file with a record inside, which `read_record` reads. See `save_png`."""
    text, info = json.dumps(record.to_dict()), PngInfo()
    info.add_text(_KEY, text)
    info.add_text(_DIGEST_KEY, _digest(text, pixels))
    save_png(pixels, path, info)


def read_record(path: str | Path) -> Record | None:
    """Return the record inside a picture's file, or None if the file is not as it was written."""
    picture = read_picture(path)
    return picture[0] if picture else None


def read_picture(path: str | Path) -> tuple[Record, Pixels] | None:
    """Return the record and the pixels of a picture's file, or None if the file is not as it was written.

    It may be missing, damaged, or without a record, or record or pixels may have changed since.
    """
    # A damaged file can raise anything in Pillow, and a picture without a record is made again.
    with suppress(Exception):
        content = Path(path).read_bytes()
        with PILImage.open(io.BytesIO(content)) as image:
            image.verify()  # which closes it
        with PILImage.open(io.BytesIO(content)) as image:
            text, digest, pixels = image.info[_KEY], image.info[_DIGEST_KEY], as_pixels(image)
            if content.endswith(_END_OF_PNG) and digest == _digest(text, pixels):
                return Record.from_dict(json.loads(text), path), pixels
    return None


def _digest(text: str, pixels: Pixels) -> str:
    return hashlib.sha256(f"{text}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]


def write_manifest(records: Iterable[Record], path: Path) -> None:
    """Write records as a JSON list with one record per line, whole or not at all."""
    lines = ",\n".join(json.dumps(record.to_dict()) for record in records)
    write_text(path, f"[\n{lines}\n]\n")


def read_manifest(path: str | Path) -> list[Record]:
    """Return the records in a ``features.json``, given by its path or by its folder.

    Raises:
        InputError: There is no such file, it cannot be read, or it holds something else.
    """
    path = Path(path)
    path = path / "features.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no file '{path}'; give the features.json that visualize writes") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read '{path}': {error}; make the file again") from error
    if not isinstance(values, list):
        raise InputError(f"'{path}' holds no list of records; give a features.json that visualize writes")
    return [Record.from_dict(value, path) for value in values]
