"""Names of units: their files, their sheets, their classes."""

import os
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from torch import nn

from fvlightning.features import Objective, Unit
from fvlightning.features.capture import class_layers
from fvlightning.protocols import read_class_names

SUMS = "sums"
_LONGEST = 80
# In bytes. File systems take 255, and names of files have endings.
_LONGEST_FOLDER = 200
# Replacements of signs of sums that some file systems do not allow in names.
_SIGNS = str.maketrans({":": "=", "*": "x", "·": "x", " ": None})


def layer_name(layer: str) -> str:
    """Return the name of a layer as the name of a file or a folder; a long one is cut and ends in a digest."""
    name = layer.replace("/", "_").replace(os.sep, "_")
    return name if len(name.encode()) <= _LONGEST_FOLDER else _cut(name, layer)


def file_names(files: Iterable[Path], reserved: Iterable[str] = ()) -> dict[Path, str]:
    """Return a name for each file: its stem, with a number if another file, or something else, has that name."""
    names: dict[Path, str] = {}
    taken = set(reserved)
    for file in files:
        name, number = layer_name(file.stem), 1
        while name.lower() in taken:  # some file systems do not tell capitals from small letters
            number += 1
            name = f"{layer_name(file.stem)}_{number}"
        taken.add(name.lower())
        names[file] = name
    return names


def unit_file(unit: Unit | Objective, repeat: int = 0) -> Path:
    """Return the file of a unit's picture, relative to the folder of the results.

    Examples are ``conv/3.png``, ``conv/-3@4,5_1.png`` (minimised at a position, the second picture), ``conv/layer.png``
    (the whole layer), and ``sums/fc=7-0.5xfc=3.png``. The text of a sum that is long or has other signs is cut or
    changed, and ends in a digest.
    """
    suffix = f"_{repeat}" if repeat else ""
    if isinstance(unit, Objective):
        return Path(SUMS) / f"{_text_name(str(unit))}{suffix}.png"
    name = "layer" if unit.index is None else str(unit.index)
    position = "@" + ",".join(map(str, unit.position)) if unit.position else ""
    return Path(layer_name(str(unit.layer_call))) / f"{'-' if unit.minimize else ''}{name}{position}{suffix}.png"


def strip_file(unit: Unit | Objective, repeat: int = 0) -> Path:
    """Return the file of a unit's snapshots, ``LAYER/INDEX_steps.png``."""
    file = unit_file(unit, repeat)
    return file.with_name(f"{file.stem}_steps.png")


def group_name(unit: Unit | Objective) -> str:
    """Return the name of the sheet that shows a unit: its layer, or ``sums``."""
    return SUMS if isinstance(unit, Objective) else str(unit.layer_call)


def sum_label(text: str) -> str:
    """Return the text of a sum for the label of its picture: a `DistributionMatch` by its references alone.

    Its digest and its layers would not fit under a picture.
    """
    return re.sub(r"(DistributionMatch)\((.+?), [0-9a-f]{8}, [^()]*\)", r"\1 \2", text)


def epoch_label(epoch: int) -> str:
    """Return ``epoch 3``, or ``before training`` for epoch 0."""
    return f"epoch {epoch}" if epoch else "before training"


def with_class(unit: str, class_name: str | None) -> str:
    """Return a unit's index or text form, followed by the name of its class unless that only repeats the index."""
    index = unit.rpartition(":")[2].removeprefix("-")
    return unit if class_name is None or class_name == index else f"{unit} {class_name}"


def class_names(
    module: nn.Module, datamodule: object, units: Sequence[Unit | Objective], image_shape: Sequence[int]
) -> dict[str, str]:
    """Return the names of the classes that units stand for, by the text forms of these units.

    The units of a layer that gives the network's output, ``(B, K)``, are classes if the data, or else the module, have
    K ``class_names``. Other units, and sums, have no names. The pictures are ``(C, H, W)``.
    """
    known = [names for source in (module, datamodule) if (names := read_class_names(source))]
    if not known:
        return {}
    indexed = {unit: unit.index for unit in units if isinstance(unit, Unit) and unit.index is not None}
    n_classes = class_layers(module, {unit.layer_call for unit in indexed}, image_shape)
    return {
        str(unit): names[index]
        for names in known  # the names of the data come last and replace others
        for unit, index in indexed.items()
        if len(names) == n_classes.get(unit.layer_call)
    }


def _text_name(text: str) -> str:
    plain = text.translate(_SIGNS)
    name = re.sub(r"[^A-Za-z0-9.,@#=+_()-]", "_", plain)
    if name == plain and len(name) <= _LONGEST and not name.startswith("."):
        return name
    return _cut(name, text)


def _cut(name: str, text: str) -> str:
    """Return the beginning of a name, with a digest of the text that it stands for."""
    beginning = name.encode()[:_LONGEST].decode(errors="ignore")
    return f"{beginning.strip('.')}_{blake2b(text.encode(), digest_size=4).hexdigest()}"
