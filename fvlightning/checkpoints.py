"""Reads checkpoints for the command line: without running code, and with one clear line for whatever is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fvlightning.errors import InputError
from fvlightning.pickles import load_plain

# Lightning's words for a checkpoint that it finds by itself. 'best' and 'last' are of the same process's fit.
_FOUND_BY_LIGHTNING = ("hpc", "registry")
_MOST_NAMED = 5


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
    nearby = _newest(path.parent) if path.parent != Path() else []
    found = nearby or _newest(Path()) or _newest(Path(runs), recursive=True)
    there = ", ".join(map(str, found)) if found else f"none in '{path.parent}', none under '{runs}'"
    raise InputError(f"no checkpoint '{ckpt_path}'; checkpoints: {there}")


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


def _newest(folder: Path, recursive: bool = False) -> list[Path]:
    files = folder.glob("**/*.ckpt" if recursive else "*.ckpt")
    return sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:_MOST_NAMED]
