"""Progress bars that count epochs and pictures."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

_REFRESH_SECONDS = 0.1
_SECONDS_BETWEEN_LINES = 30.0  # the log of a run of hours stays short
# Takes the number of finished pictures and the fraction of steps completed, in [0, 1].
Show = Callable[[int, float], object]


class EpochProgressBar(RichProgressBar):
    """Lightning's bar with epochs counted from 1, so that a training of two ends with ``Epoch 2/2``."""

    def _get_train_description(self, current_epoch: int) -> str:
        max_epochs = self.trainer.max_epochs
        total = f"/{max_epochs}" if max_epochs is not None and max_epochs > 0 else ""
        # As long as the bar of the validation, or the two would flicker.
        return f"Epoch {current_epoch + 1}{total}".ljust(len(self.validation_description))

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands behind the bar: the metrics, without the number of the run, which is no metric."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class PictureProgress:
    """Counts finished pictures and completed steps, and shows both."""

    def __init__(self, n_steps: int, show: Show) -> None:
        self._n_steps, self._show = n_steps, show
        self._steps = self._done = 0

    def step(self, n_steps: int) -> None:
        """Count completed steps: the `on_step` of `fvlightning.Maximizer.stream`."""
        self._steps += n_steps
        self._show(self._done, min(1.0, self._steps / self._n_steps))

    def done(self, n_pictures: int = 1) -> None:
        """Count finished pictures."""
        self._done += n_pictures
        self.step(0)


@contextmanager
def picture_progress(
    trainer: pl.Trainer, bar: ProgressBar | None, description: str, n_pictures: int, n_steps: int
) -> Iterator[PictureProgress]:
    """Show the number of finished pictures and the time left, in the style of the trainer's progress bar, on rank zero.

    Nothing is shown without a `bar`. Without a terminal, a line is logged now and then. `n_steps` is the number of
    steps of all pictures together.
    """
    console = Console(stderr=True)
    shown: AbstractContextManager[Show]
    if bar is None or getattr(bar, "is_disabled", False) or not trainer.is_global_zero or not n_pictures:
        shown = nullcontext(lambda done, fraction: None)
    elif isinstance(bar, RichProgressBar) and bar.progress is not None and bar.progress.live.is_started:
        shown = _in_rich_bar(bar.progress, description, n_pictures)
    elif not (console.is_terminal or console.is_jupyter):
        shown = _in_lines(description, n_pictures)
    elif isinstance(bar, RichProgressBar):
        shown = _in_new_rich_bar(description, n_pictures, console)
    else:
        shown = _in_tqdm_bar(description, n_pictures)
    with shown as show:
        yield PictureProgress(n_steps, show)


@contextmanager
def _in_rich_bar(progress: Progress, description: str, n_pictures: int) -> Iterator[Show]:
    """Add a line to Lightning's own bar, which shows the completed part of a task as ``12/40``."""
    task = progress.add_task(description, total=n_pictures)
    refreshed = 0.0

    def show(done: int, fraction: float) -> None:
        nonlocal refreshed
        progress.update(task, completed=fraction * n_pictures)
        if time.monotonic() - refreshed > _REFRESH_SECONDS:
            progress.refresh()
            refreshed = time.monotonic()

    try:
        yield show
    finally:
        progress.remove_task(task)


@contextmanager
def _in_new_rich_bar(description: str, n_pictures: int, console: Console) -> Iterator[Show]:
    counter = "{task.fields[done]}/{task.fields[total_pictures]} done"
    columns = "{task.description}", BarColumn(), counter, TimeElapsedColumn(), "left", TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        task = progress.add_task(description, total=1.0, done=0, total_pictures=n_pictures)
        yield lambda done, fraction: progress.update(task, completed=fraction, done=done)


@contextmanager
def _in_tqdm_bar(description: str, n_pictures: int) -> Iterator[Show]:
    from tqdm.auto import tqdm  # in a notebook without its widgets, the import warns

    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, left {remaining}{postfix}"
    with tqdm(total=1.0, desc=description, leave=False, dynamic_ncols=True, bar_format=layout) as bar:

        def show(done: int, fraction: float) -> None:
            bar.set_postfix_str(f"{done}/{n_pictures} done", refresh=False)
            bar.update(fraction - bar.n)

        show(0, 0.0)
        yield show


@contextmanager
def _in_lines(description: str, n_pictures: int) -> Iterator[Show]:
    started = shown = time.monotonic()
    last = 0

    def show(done: int, fraction: float) -> None:
        nonlocal shown, last
        now = time.monotonic()
        if done > last and now - shown > _SECONDS_BETWEEN_LINES:
            left = (now - started) * (1 - fraction) / fraction if fraction else 0
            ending = f", about {left / 60:.0f} min left" if done < n_pictures else ""
            rank_zero_info(f"{description}: {done}/{n_pictures} done{ending}")
            shown, last = now, done

    yield show
