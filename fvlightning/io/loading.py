"""Files that `torch.save` wrote, read without running code."""

import pickle
import warnings
from pathlib import Path

import torch

from fvlightning.errors import InputError


def load_plain(path: str | Path, refused: str, damaged: str) -> object:
    """Return the content of a file that holds tensors and plain values only, on the CPU.

    Args:
        path: The file.
        refused: What the user is told if it holds more, which could run code.
        damaged: What the user is told if it is no such file, or damaged.

    Raises:
        InputError: It is one of the two.
    """
    try:
        with warnings.catch_warnings():
            # Of a plain pickle torch warns before it refuses it.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content: object = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise InputError(refused if _is_refused(path, str(error)) else damaged) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise InputError(damaged) from error
    return content


def _is_refused(path: str | Path, reason: str) -> bool:
    """Return whether torch's restricted unpickler met code, or a pickle that torch did not write, and no damage."""
    if "Unsupported operand" in reason:
        with open(path, "rb") as file:
            return file.read(1) == pickle.PROTO
    return any(words in reason for words in ("GLOBAL", "Can only create", "Can only build", "Trying to"))
