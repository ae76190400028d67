"""Keeps from the screen what Lightning says on every run and no user of the command line can act on."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_noise() -> Iterator[None]:
    """Silence Lightning's advertisements and the warnings that this project's own defaults would cause."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(_is_no_advertisement)
    formatting = warnings.formatwarning
    warnings.formatwarning = _one_line
    try:
        with warnings.catch_warnings():
            # Lightning's own use of torch's pytrees: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            # Every run has a folder of its own, so a resumed run always has another one than its checkpoint.
            warnings.filterwarnings("ignore", message="The dirpath has changed from")
            yield
    finally:
        warnings.formatwarning = formatting
        logger.removeFilter(_is_no_advertisement)


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    """Return what is warned of, without the line of code that the user has not written."""
    return f"warning: {message}\n"


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()  # two services of Lightning's maker
