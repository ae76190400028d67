"""A progress bar of pictures."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_info

_REFRESH_SECONDS = 0.1
# Where there is no terminal: a log of hours is to stay short.
_SECONDS_BETWEEN_LINES = 30.0


class PictureProgress:
    """Counts pictures, and the part of the way that those in the making have gone, and shows both.

    Args:
        n_pictures: How many pictures there are in all.
        n_steps: How many steps they take in all; one of a batch of b pictures counts as b.
        show: Called with the number of pictures that are done and the part of all steps that is made, in [0, 1].
    """

    def __init__(self, n_pictures: int, n_steps: int, show: Callable[[int, float], object]) -> None:
        self.n_pictures = n_pictures
        self._n_steps = n_steps
        self._show = show
        self._steps = 0
        self._done = 0

    def step(self, n_steps: int) -> None:
        """Note steps that were made, as `fvlightning.Maximizer.stream` tells them."""
        self._steps += n_steps
        self._show(self._done, min(1.0, self._steps / self._n_steps))

    def done(self, n_pictures: int = 1) -> None:
        """Note pictures that are done."""
        self._done += n_pictures
        self._show(self._done, min(1.0, self._steps / self._n_steps))


@contextmanager
def picture_progress(
    trainer: pl.Trainer, bar: ProgressBar | None, description: str, n_pictures: int, n_steps: int
) -> Iterator[PictureProgress]:
    """Show how many pictures are done and the time left, in the way of the trainer's progress bar.

    Args:
        trainer: The trainer; only its rank zero shows anything.
        bar: Its progress bar. None, or one that is disabled: nothing is shown. Without a terminal there is a line in
            the log at times.
        description: Stands before the bar.
        n_pictures: How many pictures there are in all.
        n_steps: How many steps they take in all; one of a batch of b pictures counts as b.

    Yields:
        What is told of the pictures and the steps.
    """
    if bar is None or getattr(bar, "is_disabled", False) or not trainer.is_global_zero or not n_pictures:
        yield PictureProgress(n_pictures, n_steps, lambda done, part: None)
        return
    if isinstance(bar, RichProgressBar) and bar.progress is not None and bar.progress.live.is_started:
        shown = _in_rich_bar(bar, description, n_pictures)
    elif not _is_interactive():
        shown = _in_lines(description, n_pictures)
    elif isinstance(bar, RichProgressBar):
        shown = _in_own_rich_bar(description, n_pictures)
    else:
        shown = _in_tqdm_bar(description, n_pictures)
    with shown as show:
        yield PictureProgress(n_pictures, n_steps, show)


Show = Callable[[int, float], object]


@contextmanager
def _in_rich_bar(bar: RichProgressBar, description: str, n_pictures: int) -> Iterator[Show]:
    """Add a line to Lightning's own bar, which shows the number of a task's steps as ``12/40``."""
    assert bar.progress is not None
    progress = bar.progress
    task = progress.add_task(description, total=n_pictures)
    refreshed = 0.0

    def show(done: int, part: float) -> None:
        nonlocal refreshed
        progress.update(task, completed=part * n_pictures)
        if time.monotonic() - refreshed > _REFRESH_SECONDS:
            progress.refresh()
            refreshed = time.monotonic()

    try:
        yield show
    finally:
        progress.remove_task(task)


@contextmanager
def _in_own_rich_bar(description: str, n_pictures: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}/{task.fields[total_pictures]} done"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(description, total=1.0, done=0, total_pictures=n_pictures)
        yield lambda done, part: progress.update(task, completed=part, done=done)


@contextmanager
def _in_tqdm_bar(description: str, n_pictures: int) -> Iterator[Show]:
    from tqdm.auto import tqdm

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, left {remaining}{postfix}"
    with tqdm(total=1.0, desc=description, leave=False, dynamic_ncols=True, bar_format=layout) as bar:

        def show(done: int, part: float) -> None:
            bar.set_postfix_str(f"{done}/{n_pictures} done", refresh=False)
            bar.update(part - bar.n)

        show(0, 0.0)
        yield show


@contextmanager
def _in_lines(description: str, n_pictures: int) -> Iterator[Show]:
    started = shown = time.monotonic()
    last = 0

    def show(done: int, part: float) -> None:
        nonlocal shown, last
        now = time.monotonic()
        if done > last and now - shown > _SECONDS_BETWEEN_LINES:
            left = (now - started) * (1 - part) / part if part else 0
            ending = f", about {left / 60:.0f} min left" if done < n_pictures else ""
            rank_zero_info(f"{description}: {done}/{n_pictures} done{ending}")
            shown, last = now, done

    yield show


def _is_interactive() -> bool:
    from rich.console import Console

    console = Console(stderr=True)
    return console.is_terminal or console.is_jupyter
