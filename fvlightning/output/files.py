"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fvlightning.errors import InputError
from fvlightning.features import Unit


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    Args:
        path: Where the file goes; missing folders are made.
        write: Writes the contents to a binary file that it is given.

    Raises:
        OSError: The folder cannot be written, or the disk is full. No half-written file stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make `folder` and write a file in it, so that a long run does not end at its first result.

    Raises:
        InputError: It cannot be made or written.
    """
    try:
        write_atomically(folder / ".writable", lambda file: file.write(b""))
        (folder / ".writable").unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write to the folder {folder}: {reason}; choose another one") from error


def layer_name(layer: str) -> str:
    """Return the name of a layer as a file's or a folder's."""
    return layer.replace("/", "_").replace(os.sep, "_")


def unit_file(unit: Unit, repeat: int = 0) -> Path:
    """Return ``LAYER/INDEX.png`` of a unit, relative to the folder of the results.

    A unit that is minimised has a ``-`` before the index, a position stands after an ``@``, a whole layer is
    ``LAYER/layer.png``, and repeats after the first have ``_1``, ``_2``, ... behind.
    """
    name = "layer" if unit.index is None else str(unit.index)
    position = "@" + ",".join(map(str, unit.position)) if unit.position else ""
    suffix = f"_{repeat}" if repeat else ""
    return Path(layer_name(str(unit.layer_call))) / f"{'-' if unit.minimize else ''}{name}{position}{suffix}.png"
