"""Find and read checkpoints without running code, with one clear line for each problem."""

import sys
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fvlightning.errors import InputError
from fvlightning.io.loading import NamedClass, load_plain

# Subcommands whose checkpoints Lightning reads.
_OF_LIGHTNING = ("fit", "validate", "test", "predict")
# Words for checkpoints that Lightning finds by itself. 'best' and 'last' work only after a fit in the same process.
_FOUND_BY_LIGHTNING = ("hpc", "registry")
# What the folder of a sharded checkpoint holds: that of FSDP, and that of DeepSpeed.
_IN_SHARDED = (".metadata", "checkpoint")
_MOST_NAMED = 5
# What a hyperparameter may be besides a plain value.
_CLASSES = (nn.Module, Optimizer, LRScheduler)
_SIMILAR = 0.65  # two names that are at least this similar, in [0, 1], may differ by a typing error


def require_checkpoint(ckpt_path: str, subcommand: str, runs: str) -> None:
    """Check that there is a checkpoint.

    Args:
        ckpt_path: A file, a folder (sharded checkpoints), or, for Lightning's subcommands, a URL or a word that
            Lightning understands.
        subcommand: ``fit`` also takes ``last``, the last checkpoint in ``--checkpoint.dirpath``.
        runs: The folder whose checkpoints the message names if there are none beside `ckpt_path`.

    Raises:
        InputError: There is no such checkpoint.
    """
    path = Path(ckpt_path)
    if subcommand not in _OF_LIGHTNING and "://" in ckpt_path:
        raise InputError(f"{subcommand} takes a checkpoint from a file; download '{ckpt_path}', and give the file")
    is_word = subcommand in _OF_LIGHTNING and ckpt_path.split(":")[0] in _FOUND_BY_LIGHTNING
    is_word |= subcommand == "fit" and ckpt_path == "last"
    if path.is_dir() and not (is_word or any((path / name).exists() for name in _IN_SHARDED)):
        names = _name_checkpoints(ckpt_path, runs) or f"none in it, none under '{runs}'"
        raise InputError(f"'{ckpt_path}' is a folder, not a checkpoint; checkpoints: {names}")
    if not (is_word or "://" in ckpt_path or path.exists()):
        names = _name_checkpoints(ckpt_path, runs) or f"none in '{path.parent}', none under '{runs}'"
        raise InputError(f"no checkpoint '{ckpt_path}'; checkpoints: {names}")


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint file, on the CPU.

    Hyperparameters may be classes of layers, optimisers and schedules (``torch.nn.ReLU``) that are imported already:
    nothing that the file names is imported or called.

    Raises:
        InputError: The file is not a Lightning checkpoint, or holds code, which is not run.
    """
    names = _names_in(path)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    listed = f" ({', '.join(sorted(names)[:3])}{more})" if names else ""
    refused = (
        f"checkpoint '{path}' holds more than tensors and plain values{listed}, and is refused: loading it could run "
        "code; save it again with plain hyperparameters, as by self.save_hyperparameters(ignore=['net'])"
    )
    damaged = f"'{path}' is not a checkpoint, or it is damaged"
    checkpoint = load_plain(path, refused=refused, damaged=damaged, names=names)
    content: dict[str, Any] = checkpoint if isinstance(checkpoint, dict) else {}
    hyperparameters = content.get("hyper_parameters", {})
    if not isinstance(hyperparameters, dict):
        raise InputError(damaged)
    named = {key: value.path for key, value in hyperparameters.items() if isinstance(value, NamedClass)}
    if set(names) - set(named.values()):
        raise InputError(refused)
    for key in ("state_dict", "pytorch-lightning_version"):
        if key not in content:
            raise InputError(f"'{path}' is not a Lightning checkpoint: it has no '{key}'")
    for key, name in named.items():
        hyperparameters[key] = imported_class(name)
        if hyperparameters[key] is None:
            raise InputError(
                f"the hyperparameter '{key}' of the checkpoint '{path}' is {name}, which is not a class of layers, "
                "optimisers or schedules that the model's file imports, and is refused; save it again without, as by "
                f"self.save_hyperparameters(ignore=['{key}'])"
            )
    return content


def _names_in(path: str) -> list[str]:
    """Return the paths of classes and functions that a checkpoint names and torch does not know as harmless."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it may be any file; `load_plain` says what is wrong with it
        return []


def imported_class(path: str) -> type | None:
    """Return a class of layers, optimisers or schedules by its path, if its module is imported already."""
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if (found := sys.modules.get(".".join(parts[:length]))) is not None:
            named: Any = found
            for name in parts[length:]:
                # `getattr` might run code: that of a module which imports on demand.
                named = vars(named).get(name) if hasattr(named, "__dict__") else None
            return named if isinstance(named, type) and issubclass(named, _CLASSES) else None
    return None


def flatten(settings: object, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield ``("model.init_args.lr", 0.1)`` for each value of nested dictionaries."""
    if isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from flatten(value, f"{prefix}.{key}")
    else:
        yield prefix, settings


def _name_checkpoints(missing: str, runs: str) -> str:
    """Return the names of a few checkpoints, the most similar name first, then the newest, for a message.

    They come from below a folder given in its place, else from the folder of the missing one, else from the working
    directory, else from the tree `runs`. A folder's ``last.ckpt`` stands for all its checkpoints, unless another one
    has the most similar name.
    """
    path = Path(missing)
    places = (path.glob("**/*.ckpt"), path.parent.glob("*.ckpt"), Path().glob("*.ckpt"), Path(runs).glob("**/*.ckpt"))
    files = next(filter(None, map(_newest, places)), [])
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
