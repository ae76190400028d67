"""Images and classes in the rows of tables of the library `datasets`."""

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.data.file_images import EncodedImages
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_LABEL_NAMES = ("cls", "label", "labels")  # of columns of integers, which may be anything
# By default a column of the first of these types that any has; by choice also one of the others.
_TYPES = {
    "image": (({"Image"}, {"struct of bytes"}), {"binary", "large_binary"}),
    "label": (({"ClassLabel"}, _INTEGERS), {"string", "large_string"}),
}
_MOST_CLASSES = 100_000


class RowImages(EncodedImages):
    """Images in the rows of a table, which is read from the disk row by row; copies and pickles share the file.

    Args:
        table: A table of `datasets`.
        column: The column of the images: their bytes, or their bytes and paths.
        labels: The class of each row, int64 ``(N,)``.
    """

    def __init__(self, table: Any, column: str, labels: Tensor) -> None:
        super().__init__(labels)
        self.part = str(table.split)
        self._table = table.select_columns(column).with_format("arrow")
        self._rows = torch.arange(len(table))

    @override
    def encoded(self, index: int) -> tuple[str, IO[bytes] | None]:
        row = int(self._rows[index])
        cell = self._table[row].column(0)[0]
        name = f"{self.part}[{row}]"
        if cell.is_valid and hasattr(cell, "keys"):  # of a struct
            path = cell["path"].as_py() if "path" in cell else None
            cell = cell["bytes"]
            if not cell.is_valid and path is not None and os.path.isfile(path):
                return path, None
            name += f" {path}" if path else ""
        if not cell.is_valid:
            raise UnreadableImageError(name, "there are no bytes")
        return name, BytesIO(cell.as_buffer())

    @override
    def subset(self, indices: Tensor) -> Self:
        images = super().subset(indices)
        images._rows = self._rows[indices]
        return images


def find_column(
    features: Mapping[str, Any], kind: Literal["image", "label"], chosen: str | None, place: str | Path
) -> str:
    """Return the name of the column of images or of classes.

    Args:
        features: The types of the columns by their names.
        kind: What is looked for.
        chosen: The setting ``image_column`` or ``label_column``. See `HuggingFaceDataModule`.
        place: Where the set is, for messages.

    Raises:
        InputError: The column is missing or of another type, or there are several that may be meant.
    """
    types = {name: _type_name(feature) for name, feature in features.items()}
    usual, others = _TYPES[kind]
    if chosen is None:
        by_type = (
            [name for name in types if types[name] in group and (group is not _INTEGERS or name in _LABEL_NAMES)]
            for group in usual
        )
        columns = next(filter(None, by_type), [])
        problem = f"has {'several columns that may be' if columns else 'no column that must be'} the {kind}s"
    else:
        columns = [chosen] if types.get(chosen) in others.union(*usual) else []
        problem = f"has no {kind}s in a column '{chosen}'"
    if len(columns) != 1:
        listed = ", ".join(f"{name} ({type_name})" for name, type_name in types.items())
        raise InputError(f"{place} {problem}; set {kind}_column to one of its columns: {listed}")
    return columns[0]


def read_labels(tables: Mapping[str, Any], column: str, place: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the class of each row by part, int64 ``(N,)`` with -1 for none, and the names of the classes.

    Args:
        tables: Tables of `datasets` by part, ``train`` among them.
        column: The column of the classes, in all of them.
        place: Where the set is, for messages.

    Raises:
        InputError: There are numbers that cannot be classes.
    """
    values = {part: table.select_columns(column).with_format("arrow")[:].column(0) for part, table in tables.items()}
    feature = tables["train"].features[column]
    if "string" in _type_name(feature):
        texts = {part: some.to_pylist() for part, some in values.items()}
        names = sorted({text for some in texts.values() for text in some if text is not None})
        numbers = {name: number for number, name in enumerate(names)}
        labels = {part: torch.tensor([numbers.get(text, -1) for text in some]) for part, some in texts.items()}
        return labels, tuple(names)
    labels = {
        part: torch.from_numpy(some.cast("int64").fill_null(-1).to_numpy().astype(np.int64))
        for part, some in values.items()
    }
    if _type_name(feature) == "ClassLabel":
        return labels, tuple(feature.names)
    last = max(int(some.max()) for some in labels.values())
    if last >= _MOST_CLASSES:
        raise InputError(f"label_column: '{column}' of {place} goes up to {last}, too far for classes; set another one")
    return labels, tuple(map(str, range(last + 1)))


def _type_name(feature: Any) -> str:
    if isinstance(feature, Mapping):
        return "struct of bytes" if "bytes" in feature else "struct"
    kind = type(feature).__name__
    return str(feature.dtype) if kind == "Value" else kind
