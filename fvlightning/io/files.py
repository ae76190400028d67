"""Files that are there whole or not at all."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fvlightning.errors import InputError

# The disk, the user's share of it, and the largest size of a file that the process is allowed.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SECONDS_OF_A_WRITE = 60


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name beside `path`, then rename it.

    Args:
        path: Where the file goes; missing folders are made.
        write: Writes the contents to a binary file that it is given.

    Raises:
        InputError: There is no space left. No half-written file stays behind.
        OSError: The folder cannot be written. No half-written file stays behind.
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
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            reason = (error.strerror or "disk full").lower()
            raise InputError(
                f"no space left in {path.parent} ({reason}): free some, and run the same command again"
            ) from error
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that `write_atomically` left in `folder` when its process was killed.

    Those of the last minute stay, since another process may be at work.
    """
    for file in folder.glob(".*.tmp"):
        if time.time() - file.stat().st_mtime > _SECONDS_OF_A_WRITE:
            file.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make `folder` and write a file in it, so that a long run does not end at its first result.

    Raises:
        InputError: It cannot be made or written, or there is no space left.
    """
    try:
        write_atomically(folder / ".writable", lambda file: file.write(b"1"))
        (folder / ".writable").unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot write to the folder {folder}: {reason}; choose another one") from error
