"""Find and read checkpoints without running code, with one clear line for each problem."""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from fvlightning.errors import InputError
from fvlightning.io.loading import load_plain

# Words for checkpoints that Lightning finds by itself. 'best' and 'last' work only after a fit in the same process.
_FOUND_BY_LIGHTNING = ("hpc", "registry")
_MOST_NAMED = 5
_SIMILAR = 0.65  # two names that are at least this similar, in [0, 1], may differ by a typing error


def require_checkpoint(ckpt_path: str, subcommand: str, runs: str) -> None:
    """Check that there is a checkpoint.

    Args:
        ckpt_path: A file, a folder (sharded checkpoints), a URL, or a word that Lightning understands.
        subcommand: ``fit`` also takes ``last``, the last checkpoint in ``--checkpoint.dirpath``.
        runs: The folder whose checkpoints the message names if there are none beside `ckpt_path`.

    Raises:
        InputError: There is no such checkpoint.
    """
    path = Path(ckpt_path)
    is_word = ckpt_path.split(":")[0] in _FOUND_BY_LIGHTNING or (ckpt_path == "last" and subcommand == "fit")
    if not (is_word or "://" in ckpt_path or path.exists()):
        names = _name_checkpoints(ckpt_path, runs) or f"none in '{path.parent}', none under '{runs}'"
        raise InputError(f"no checkpoint '{ckpt_path}'; checkpoints: {names}")


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint file, on the CPU.

    Raises:
        InputError: The file is not a Lightning checkpoint, or holds code, which is not run.
    """
    checkpoint = load_plain(
        path,
        refused=f"checkpoint '{path}' holds more than tensors and plain values, and is refused: loading it could run "
        "code; save it again with plain hyperparameters",
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


def _name_checkpoints(missing: str, runs: str) -> str:
    """Return the names of a few checkpoints, the most similar name first, then the newest, for a message.

    They come from the folder of the missing one, else from the working directory, else from the tree `runs`. A folder's
    ``last.ckpt`` stands for all its checkpoints, unless another one has the most similar name.
    """
    folder = Path(missing).parent
    nearby = _newest(folder.glob("*.ckpt")) if folder != Path() else []
    files = nearby or _newest(Path().glob("*.ckpt")) or _newest(Path(runs).glob("**/*.ckpt"))
    folders_with_last = {file.parent for file in files if file.name == "last.ckpt"}
    listed = [file for file in files if file.name == "last.ckpt" or file.parent not in folders_with_last]
    similarity = {file: SequenceMatcher(None, missing, str(file)).ratio() for file in files}
    # Among equally similar names, the newest of the listed ones comes first.
    closest = max([*listed, *files], key=similarity.__getitem__, default=None)
    if closest is not None and similarity[closest] > _SIMILAR:
        # A link to the closest has the same weights.
        listed = [closest, *(file for file in listed if file.resolve() != closest.resolve())]
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(map(str, listed[:_MOST_NAMED])) + more


def _newest(files: Iterable[Path]) -> list[Path]:
    existing = [file for file in files if file.exists()]  # a link may lead nowhere
    return sorted(existing, key=lambda file: file.stat().st_mtime, reverse=True)
