"""Hides messages of Lightning that no user of the command line can act on."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_noise() -> Iterator[None]:
    """Silence Lightning's advertisements and the warnings that this project's defaults would cause."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(_is_no_advertisement)
    formatting = warnings.formatwarning
    warnings.formatwarning = _one_line
    try:
        with warnings.catch_warnings():
            # Lightning's own use of torch's pytrees: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            # Each run has its own folder, so a resumed run never has that of its checkpoint.
            warnings.filterwarnings("ignore", message="The dirpath has changed from")
            # In memory, worker processes only slow a loader down; else their number is the user's decision.
            warnings.filterwarnings("ignore", message=r"The '\w+_dataloader' does not have many workers")
            # The user's `val_size` or `test_size` is 0.
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
            yield
    finally:
        warnings.formatwarning = formatting
        logger.removeFilter(_is_no_advertisement)


@contextmanager
def without_callback_warning() -> Iterator[None]:
    """Silence the warning that a checkpoint's callbacks are missing: only training that resumes needs them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        yield


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    """Return a warning without the line of code that the user has not written."""
    return f"warning: {message}\n"


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()  # two services of Lightning's maker
