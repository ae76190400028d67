"""Files that are written whole or not at all."""

import errno
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fvlightning.errors import InputError

# The disk is full, the user's quota is, or the file exceeds the size that the process may write.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with an open file under a temporary name beside `path`, then rename it. Missing folders are made.

    Raises:
        InputError: There is no space left.
        OSError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # rather than the temporary name
            if error.errno in _NO_SPACE:
                reason = (error.strerror or "disk full").lower()
                raise InputError(
                    f"no space left in {path.parent} ({reason}): free some, and run the same command again"
                ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8. See `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON; values of other types become their `str`. See `write_atomically`."""
    write_text(path, json.dumps(value, indent=1, default=str))


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed processes left; a live process may still write recent ones."""
    for file in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # another process may have renamed it
            if time.time() - file.stat().st_mtime > 60:
                file.unlink()


def check_writable(folder: Path) -> None:
    """Make `folder` and write a file in it, so that a long run does not fail at its first result.

    Raises:
        InputError: The folder cannot be made or written, or there is no space left.
    """
    try:
        write_atomically(folder / ".writable", lambda file: file.write(b"1"))
        (folder / ".writable").unlink()
    except OSError as error:
        # In a file system that the kernel makes, such as /proc, a new folder is "no such file".
        missing = error.errno == errno.ENOENT
        reason = "no folder can be made there" if missing else (error.strerror or str(error)).lower()
        raise InputError(f"cannot write to the folder {folder}: {reason}; choose another one") from error
