"""Reads checkpoints for the command line: without running code, and with one clear line for whatever is wrong."""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from fvlightning.errors import InputError
from fvlightning.io.loading import load_plain

# Lightning's words for a checkpoint that it finds by itself. 'best' and 'last' are of the same process's fit.
_FOUND_BY_LIGHTNING = ("hpc", "registry")
_MOST_NAMED = 5
_LAST = "last.ckpt"
# Likeness of names, in [0, 1], from which one may be a slip of the other.
_CLOSE = 0.65


def require_checkpoint(ckpt_path: str, subcommand: str, runs: str) -> None:
    """Raise `InputError` if there is no checkpoint at `ckpt_path`.

    Args:
        ckpt_path: A file, a folder (sharded checkpoints), a URL, or a word that Lightning understands.
        subcommand: ``fit`` may be given ``last``: Lightning then goes on from the last checkpoint in
            ``--checkpoint.dirpath``.
        runs: The folder in which the message looks for checkpoints to name, if there is none beside `ckpt_path`.
    """
    path = Path(ckpt_path)
    if path.exists() or "://" in ckpt_path or ckpt_path.split(":")[0] in _FOUND_BY_LIGHTNING:
        return
    if ckpt_path == "last" and subcommand == "fit":
        return
    there = name_checkpoints(ckpt_path, runs) or f"none in '{path.parent}', none under '{runs}'"
    raise InputError(f"no checkpoint '{ckpt_path}'; checkpoints: {there}")


def name_checkpoints(missing: str | Path, runs: str) -> str:
    """Return the names of checkpoints for a message, the one with the closest name first, then the newest.

    Of a folder that has a ``last.ckpt`` only that is named, unless another is the closest.

    Args:
        missing: What was asked for. Its folder is looked into, or else the working directory, or else `runs`.
        runs: A folder, with all that are below it.

    Returns:
        A few names, and how many more there are; empty if there are none.
    """
    folder = Path(missing).parent
    nearby = _newest(folder.glob("*.ckpt")) if folder != Path() else []
    files = nearby or _newest(Path().glob("*.ckpt")) or _newest(Path(runs).glob("**/*.ckpt"))
    lasts = {file.parent for file in files if file.name == _LAST}
    listed = [file for file in files if file.name == _LAST or file.parent not in lasts]
    likeness = {file: SequenceMatcher(None, str(missing), str(file)).ratio() for file in files}
    # Of equally close names the newest of those that are listed anyway.
    closest = max([*listed, *files], key=likeness.__getitem__, default=None)
    if closest is not None and likeness[closest] > _CLOSE:
        # A link to the closest has the same weights.
        listed = [closest, *(file for file in listed if file.resolve() != closest.resolve())]
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(map(str, listed[:_MOST_NAMED])) + more


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint file, on the CPU.

    Raises:
        InputError: If the file is no Lightning checkpoint, or holds code: that is refused, not run.
    """
    checkpoint = load_plain(
        path,
        refused=f"checkpoint '{path}' holds more than tensors and plain values, and is refused: loading it could run "
        "code. Save it again with plain hyperparameters",
        damaged=f"'{path}' is not a checkpoint, or it is damaged",
    )
    content: dict[str, Any] = checkpoint if isinstance(checkpoint, dict) else {}
    for key in ("state_dict", "pytorch-lightning_version"):
        if key not in content:
            raise InputError(f"'{path}' is not a Lightning checkpoint: it has no '{key}'")
    return content


def flatten(settings: object, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield ``("model.init_args.lr", 0.1)`` for each value of nested dictionaries."""
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from flatten(value, f"{prefix}.{key}")
    else:
        yield prefix, settings


def _newest(files: Iterable[Path]) -> list[Path]:
    there = [file for file in files if file.exists()]  # a link may lead nowhere
    return sorted(there, key=lambda file: file.stat().st_mtime, reverse=True)
