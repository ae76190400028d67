"""A progress bar beside the trainer's own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

_REFRESH_SECONDS = 0.1


@contextmanager
def step_progress(trainer: pl.Trainer, description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far the steps are, in the way of the trainer's progress bar, and nothing where that is off.

    Args:
        trainer: The trainer; only its rank zero shows anything.
        description: Stands before the bar.
        total: The number of steps in all.

    Yields:
        A function that is called with the number of steps that were just made.
    """
    bar = trainer.progress_bar_callback
    if bar is None or getattr(bar, "is_disabled", False) or not trainer.is_global_zero:
        yield lambda _: None
    elif isinstance(bar, RichProgressBar) and bar.progress is not None and bar.progress.live.is_started:
        progress = bar.progress
        task = progress.add_task(description, total=total)
        shown = 0.0

        def advance(steps: int) -> None:
            nonlocal shown
            progress.advance(task, steps)
            if time.monotonic() - shown > _REFRESH_SECONDS:
                progress.refresh()
                shown = time.monotonic()

        try:
            yield advance
        finally:
            progress.remove_task(task)
    else:
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=description, unit="step", leave=False, disable=None) as tqdm_bar:
            yield lambda steps: tqdm_bar.update(steps) and None
