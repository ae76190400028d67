"""Read files of `torch.save` without running code."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from fvlightning.errors import InputError


@dataclass(frozen=True)
class NamedClass:
    """Stands for a class or function that a file names: nothing is imported, and nothing can be called."""

    path: str

    def __call__(self, *_: object) -> NoReturn:
        """Refuse to be called by the file."""
        raise pickle.UnpicklingError(f"Trying to call {self.path}")


def load_plain(path: str | Path, *, refused: str, damaged: str, names: Sequence[str] = ()) -> object:
    """Return the content of a file of tensors and plain values, on the CPU.

    Args:
        path: A file of `torch.save`.
        refused: The message if the file holds anything else.
        damaged: The message if the file is damaged.
        names: Paths of classes that the file may name; each becomes a `NamedClass`.

    Raises:
        InputError: The file holds anything else, which could run code (the message is `refused`), it is damaged or of
            another kind (the message is `damaged`), or it is compressed.
    """
    _refuse_compressed(path)
    try:
        named = torch.serialization.safe_globals([(NamedClass(name), name) for name in names])
        with warnings.catch_warnings(), named:
            # torch warns of a plain pickle before it refuses it.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise InputError(refused if _is_refused(path, str(error)) else damaged) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        # The file makes an object of a class that it names.
        made = names and isinstance(error, TypeError)
        raise InputError(refused if made else damaged) from error


def _refuse_compressed(path: str | Path) -> None:
    """Raise `InputError` for an archive whose parts are larger than itself: unpacked, they could fill the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked, packed = sum(part.file_size for part in archive.infolist()), os.path.getsize(path)
    except (OSError, zipfile.BadZipFile):  # another format, or torch says what is wrong
        return
    if unpacked > packed:
        raise InputError(
            f"'{path}' is compressed, {packed / 2**20:,.1f} MiB that unpack to {unpacked / 2**20:,.1f} MiB, and is "
            "refused; give the file that torch.save has written, which is not compressed"
        )


def _is_refused(path: str | Path, reason: str) -> bool:
    """Return whether torch refused code or a plain pickle, rather than a damaged file."""
    if "Unsupported operand" in reason:
        with open(path, "rb") as file:
            return file.read(1) == pickle.PROTO
    return any(words in reason for words in ("GLOBAL", "Can only create", "Can only build", "Trying to"))
