"""How pictures of units become a prediction: the units as data, the maximizer as the module."""

import signal
import threading
import time
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
from fvlightning.output.progress import picture_progress

_POLL_SECONDS = 0.05


class _Places(Dataset[list[int]]):
    """Places of units, which Lightning moves to the device as they are; indexed by batches of them."""

    def __init__(self, n_units: int) -> None:
        self._n_units = n_units

    def __len__(self) -> int:
        return self._n_units

    def __getitem__(self, places: list[int]) -> list[int]:
        return places


class UnitSampler(DistributedSampler[list[int]]):
    """One rank's part of the units, all of them that need the same layers together.

    A forward pass ends at the last layer that is needed, and the maximizer makes batches of what needs the same ones.
    A `DistributedSampler`, so that Lightning does not put one of its own in its place, which would repeat units.

    Args:
        units: All units.
        maximizer: How the pictures are made. If it couples units, all units are together.
        num_replicas: How many ranks there are.
        rank: The rank.
    """

    def __init__(self, units: Sequence[Unit | Objective], maximizer: Maximizer, num_replicas: int, rank: int) -> None:
        super().__init__(_Places(len(units)), num_replicas, rank, shuffle=False)
        self._batches: list[list[int]] = []
        if couples_units(maximizer):
            self._batches = [list(range(len(units)))] if rank == 0 else []
            return
        by_layers: dict[frozenset[LayerCall], list[int]] = {}
        for place, unit in enumerate(units):
            layers = unit.layers if isinstance(unit, Objective) else frozenset({unit.layer_call})
            by_layers.setdefault(layers, []).append(place)
        n_dealt = 0
        for places in by_layers.values():
            # Each layer goes on with the rank after the last one's, or the first rank would get all single units.
            if mine := places[(rank - n_dealt) % num_replicas :: num_replicas]:
                self._batches.append(mine)
            n_dealt += len(places)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches


def couples_units(maximizer: Maximizer) -> bool:
    """Return whether the pictures of different units depend on each other, so that all have to be made together."""
    return any(coupling.across == "units" for coupling in maximizer.joint_objectives)


class Visualizer(pl.LightningModule):
    """Makes the pictures of units, and hands out each as it is done; the prediction is only how many there are.

    Args:
        model: The model whose units are looked at.
        units: Of which units there are to be pictures.
        maximizer: How they are made.
        shape: ``(C, H, W)`` of the pictures.
        write: Gets each feature when it is done.
        bar: The trainer's progress bar, in whose way the progress is shown, or None.
    """

    def __init__(
        self,
        model: pl.LightningModule,
        units: Sequence[Unit | Objective],
        maximizer: Maximizer,
        shape: tuple[int, ...],
        write: Callable[[Feature], object],
        bar: ProgressBar | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.units = units
        self.maximizer = maximizer
        self.shape = shape
        self.write = write
        self.bar = bar
        # With more ranks than units some have nothing to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._stack = ExitStack()

    @override
    def predict_dataloader(self) -> DataLoader[list[int]]:
        # Asked for when the ranks are there; before that there is one.
        sampler = UnitSampler(self.units, self.maximizer, self.trainer.world_size, self.trainer.global_rank)
        return DataLoader(_Places(len(self.units)), sampler=sampler, batch_size=None)

    @override
    def on_predict_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler only takes note of the signal, for fit; it puts back the one before in the end.
            signal.signal(signal.SIGTERM, _stop)
        loader: DataLoader[list[int]] = self.trainer.predict_dataloaders  # type: ignore[assignment]
        sampler: UnitSampler = loader.sampler  # type: ignore[assignment]
        n_pictures = sum(map(len, sampler)) * self.maximizer.repeats
        world_size = self.trainer.world_size
        description = "Pictures" if world_size == 1 else f"Pictures of the first of {world_size} devices"
        n_steps = n_pictures * self.maximizer.steps
        progress = picture_progress(self.trainer, self.bar, description, n_pictures, n_steps)
        self._progress = self._stack.enter_context(progress)

    @override
    def on_predict_end(self) -> None:
        self.close()
        _wait_for_all_ranks()  # rank zero reads all files then

    @override
    def predict_step(self, batch: list[int], batch_idx: int) -> int:
        units = [self.units[place] for place in batch]
        n_done = 0
        for _, feature in self.maximizer.stream(self.model, units, self.shape, on_step=self._progress.step):
            self.write(feature)
            self._progress.done()
            n_done += 1
        return n_done

    def close(self) -> None:
        """Take the progress bar off the screen."""
        self._stack.close()


def _stop(signum: int, frame: object) -> NoReturn:
    raise SIGTERMException


def _wait_for_all_ranks() -> None:
    """Wait in Python, not inside of torch, where signals would not be answered until the slowest rank is done."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        work = torch.distributed.barrier(async_op=True)
        while work is not None and not work.is_completed():
            time.sleep(_POLL_SECONDS)
        if work is not None:
            work.wait()
