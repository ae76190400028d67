"""What the files of features are called, and what stands under their pictures."""

import os
import re
from hashlib import blake2b
from pathlib import Path

from fvlightning.features import Objective, Unit

SUMS = "sums"
_LONGEST = 80
# The signs of sums for which a file name has others, on any file system.
_SIGNS = str.maketrans({":": "=", "*": "x", "·": "x", " ": None})


def layer_name(layer: str) -> str:
    """Return the name of a layer as a file's or a folder's."""
    return layer.replace("/", "_").replace(os.sep, "_")


def unit_file(unit: Unit | Objective, repeat: int = 0) -> Path:
    """Return ``LAYER/INDEX.png`` of a unit, relative to the folder of the results.

    A unit that is minimised has a ``-`` before the index, a position stands after an ``@``, a whole layer is
    ``LAYER/layer.png``, and repeats after the first have ``_1``, ``_2``, ... behind. Sums of units, and other
    objectives, are ``sums/TEXT.png``: their text without spaces, ``=`` for a colon and ``x`` for a star. Of a long
    text, and of one with other signs, there is the beginning and a digest.
    """
    suffix = f"_{repeat}" if repeat else ""
    if isinstance(unit, Objective):
        return Path(SUMS) / f"{_text_name(str(unit))}{suffix}.png"
    name = "layer" if unit.index is None else str(unit.index)
    position = "@" + ",".join(map(str, unit.position)) if unit.position else ""
    return Path(layer_name(str(unit.layer_call))) / f"{'-' if unit.minimize else ''}{name}{position}{suffix}.png"


def strip_file(unit: Unit | Objective, repeat: int = 0) -> Path:
    """Return ``LAYER/INDEX_steps.png``, where the pictures on the way to that of a unit are."""
    file = unit_file(unit, repeat)
    return file.with_name(f"{file.stem}_steps.png")


def group_name(unit: Unit | Objective) -> str:
    """Return what the sheet that shows a unit is named after: its layer, or ``sums``."""
    return SUMS if isinstance(unit, Objective) else str(unit.layer_call)


def unit_label(unit: Unit | Objective, repeat: int = 0, status: str = "ok") -> str:
    """Return what stands under a picture: the index or the sum, which repeat it is, and what is wrong with it."""
    label = str(unit) if isinstance(unit, Objective) else unit_file(unit).stem
    if repeat:
        label += f" #{repeat}"
    return label if status == "ok" else f"{label} ({status})"


def _text_name(text: str) -> str:
    plain = text.translate(_SIGNS)
    name = re.sub(r"[^A-Za-z0-9.,@#=+_()-]", "_", plain)
    if name == plain and len(name) <= _LONGEST and not name.startswith("."):
        return name
    return f"{name[:_LONGEST].strip('.')}_{blake2b(text.encode(), digest_size=4).hexdigest()}"
