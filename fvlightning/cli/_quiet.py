"""Hides messages of Lightning that no user of the command line can act on, and keeps the others whole."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_OF_NO_INTEREST = (
    "Tip: For seamless",  # two services of Lightning's maker
    "Seed set to",  # it stands in the config
    "GPU available:",  # a warning says so if one is not used
    "TPU available:",
    "Loading `train_dataloader` to estimate",  # by a schedule that takes the number of steps
    "Restoring states from",  # a second line follows when that is done
    "Found current_model_state in the checkpoint",  # averaged weights go on, too
)
_WIDTH = 240  # columns: the bar of a VAE, with its six metrics, needs 190


@contextmanager
def without_noise() -> Iterator[None]:
    """Silence Lightning's advertisements, and the lines and warnings that every run would cause."""
    loggers = [
        logging.getLogger(f"lightning.{name}") for name in ("pytorch.utilities.rank_zero", "fabric.utilities.seed")
    ]
    for logger in loggers:
        logger.addFilter(_is_of_interest)
    formatting = warnings.formatwarning
    warnings.formatwarning = _one_line
    try:
        with warnings.catch_warnings():
            # Lightning's own use of torch's pytrees: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            # It calls what jsonargparse has renamed: https://github.com/Lightning-AI/pytorch-lightning/issues/21900
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning.pytorch.cli")
            # Each run has its own folder, so a resumed run never has that of its checkpoint.
            warnings.filterwarnings("ignore", message="The dirpath has changed from")
            # In memory, worker processes only slow a loader down; else their number is the user's decision.
            warnings.filterwarnings("ignore", message=r"The '\w+_dataloader' does not have many workers")
            # The user's `val_size` or `test_size` is 0.
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
            yield
    finally:
        warnings.formatwarning = formatting
        for logger in loggers:
            logger.removeFilter(_is_of_interest)


@contextmanager
def without_callback_warning() -> Iterator[None]:
    """Silence the warning that a checkpoint's callbacks are missing: only training that resumes needs them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        # Nor the state of an average: the weights in the checkpoint are the averaged ones.
        warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback, but loading a checkpoint")
        yield


@contextmanager
def whole_lines() -> Iterator[None]:
    """Let tables and bars in a log file, which has no width, keep long names and lines whole."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        yield
        return
    os.environ["COLUMNS"] = str(_WIDTH)  # Lightning and rich look it up
    try:
        yield
    finally:
        del os.environ["COLUMNS"]


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    """Return a warning without the line of code that the user has not written."""
    return f"warning: {message}\n"


def _is_of_interest(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in _OF_NO_INTEREST)
