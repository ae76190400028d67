"""Work on pictures as `Trainer.predict`, which starts the ranks and places the model on their devices."""

import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NoReturn

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from fvlightning.features import Feature, LayerCall, Maximizer, Objective, Unit
from fvlightning.output import picture_progress

_POLL_SECONDS = 0.05


class _UnitDataset(Dataset[list[int]]):
    """Indices of units, which Lightning moves to the device as they are. It is indexed by batches of them."""

    def __init__(self, n_units: int) -> None:
        self._n_units = n_units

    def __len__(self) -> int:
        return self._n_units

    def __getitem__(self, indices: list[int]) -> list[int]:
        return indices


class UnitSampler(DistributedSampler[list[int]]):
    """Deals units out to ranks, in batches that need the same layers.

    A forward pass ends at the last layer that is needed, and the maximizer splits a batch by its own batch size. It is
    a `DistributedSampler` so that Lightning does not replace it by its own, which would repeat units.

    Args:
        units: All units.
        num_replicas: Number of ranks.
        rank: The rank.
        joined: Whether all units have to be in one batch, of the first rank.
    """

    def __init__(
        self, units: Sequence[Unit | Objective], num_replicas: int, rank: int, *, joined: bool = False
    ) -> None:
        super().__init__(_UnitDataset(len(units)), num_replicas, rank, shuffle=False)
        self._batches: list[list[int]] = []
        if joined:
            self._batches = [list(range(len(units)))] if rank == 0 else []
            return
        indices_by_layers: dict[frozenset[LayerCall], list[int]] = {}
        for index, unit in enumerate(units):
            layers = unit.layers if isinstance(unit, Objective) else frozenset({unit.layer_call})
            indices_by_layers.setdefault(layers, []).append(index)
        n_dealt = 0
        for indices in indices_by_layers.values():
            # Each layer continues with the next rank, or the first rank would get all single units.
            if batch := indices[(rank - n_dealt) % num_replicas :: num_replicas]:
                self._batches.append(batch)
            n_dealt += len(indices)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches


class PictureWork(pl.LightningModule):
    """Work on pictures that `run_on_ranks` does on each rank, with a bar that counts pictures.

    Args:
        model: The model, which Lightning moves to each rank's device.
    """

    def __init__(self, model: pl.LightningModule) -> None:
        super().__init__()
        self.model = model
        self.bar: ProgressBar | None = None
        # With more ranks than units some ranks have nothing to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._stack = ExitStack()

    @abstractmethod
    def count_pictures(self) -> tuple[str, int, int]:
        """Return what this rank's pictures are called, their number, and the number of their steps together."""

    @override
    def on_predict_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler only takes note of the signal, for fit; it restores the previous one at the end.
            signal.signal(signal.SIGTERM, _stop)
        name, n_pictures, n_steps = self.count_pictures()
        world_size = self.trainer.world_size
        description = name if world_size == 1 else f"{name} of the first of {world_size} devices"
        self.progress = self._stack.enter_context(
            picture_progress(self.trainer, self.bar, description, n_pictures, n_steps)
        )

    @override
    def on_predict_end(self) -> None:
        self.close()
        _wait_for_all_ranks()  # then rank zero reads all files

    def close(self) -> None:
        """Take the progress bar off the screen."""
        self._stack.close()


def run_on_ranks(trainer: pl.Trainer, work: PictureWork) -> None:
    """Do some work as the prediction of a trainer; an exception ends all ranks."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
    before = list(callbacks)
    # Lightning's own bar counts batches.
    work.bar = trainer.progress_bar_callback
    callbacks[:] = [callback for callback in callbacks if callback is not work.bar]
    try:
        trainer.predict(work, return_predictions=False)
    except BaseException:
        # Lightning ends the processes of the other ranks only after SIGINT.
        if (launcher := trainer.strategy.launcher) is not None and hasattr(launcher, "kill"):
            launcher.kill(signal.SIGTERM)
        raise
    finally:
        work.close()
        callbacks[:] = before


class MaximizerModule(PictureWork):
    """A maximizer as a module: predicting a batch of units makes their pictures.

    Each picture is handed out when it is finished; the prediction itself is only the number of pictures.

    Args:
        maximizer: How the pictures are made.
        model: The model with the units.
        units: All units.
        image_shape: ``(C, H, W)`` of the pictures.
        write: Called with each finished feature.
    """

    def __init__(
        self,
        maximizer: Maximizer,
        model: pl.LightningModule,
        units: Sequence[Unit | Objective],
        image_shape: tuple[int, ...],
        *,
        write: Callable[[Feature], object],
    ) -> None:
        super().__init__(model)
        self.maximizer = maximizer
        self.units = units
        self.image_shape = image_shape
        self.write = write

    @override
    def predict_dataloader(self) -> DataLoader[list[int]]:
        # Lightning calls this once the ranks exist; before that there is only one.
        world_size, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = UnitSampler(self.units, world_size, rank, joined=self.maximizer.settings.joins_units)
        return DataLoader(_UnitDataset(len(self.units)), sampler=sampler, batch_size=None)

    @override
    def count_pictures(self) -> tuple[str, int, int]:
        loader: DataLoader[list[int]] = self.trainer.predict_dataloaders  # type: ignore[assignment]
        sampler: UnitSampler = loader.sampler  # type: ignore[assignment]
        n_pictures = sum(map(len, sampler)) * self.maximizer.settings.repeats
        return "Pictures", n_pictures, n_pictures * self.maximizer.settings.steps

    @override
    def predict_step(self, batch: list[int], batch_idx: int) -> int:
        units = [self.units[index] for index in batch]
        n_done = 0
        for _, feature in self.maximizer.stream(self.model, units, self.image_shape, on_step=self.progress.step):
            self.write(feature)
            self.progress.done()
            n_done += 1
        return n_done


def _stop(signum: int, frame: object) -> NoReturn:
    raise SIGTERMException


def _wait_for_all_ranks() -> None:
    """Wait in Python. A wait inside torch would not answer signals until the slowest rank is done."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        work = torch.distributed.barrier(async_op=True)
        while work is not None and not work.is_completed():
            time.sleep(_POLL_SECONDS)
        if work is not None:
            work.wait()
