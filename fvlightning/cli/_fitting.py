"""What trainings by the command line have: whole checkpoints, random states, synchronised batch norms."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn
from typing_extensions import override

from fvlightning.io import write_atomically


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; Lightning's own way copies from another disk into place."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_atomically(Path(path), lambda file: torch.save(checkpoint, file))


class SyncBatchNorms(LayerSync):
    """Lets batch norms use the statistics of all devices; Lightning's own would lose the activations in timm's."""

    @override
    def apply(self, model: nn.Module) -> nn.Module:
        from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]

        return convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]

    @override
    def revert(self, model: nn.Module) -> nn.Module:
        return model  # without training they are like any batch norm


class RandomStates(pl.Callback):
    """Keeps the random states of Python, NumPy, torch and the device in checkpoints, and puts them back.

    So a run that is resumed draws what it would have drawn without the interruption, from the same place of its data.
    All ranks take the states of rank zero, which are theirs, too: they have the same seed, and draw for batches of the
    same size.
    """

    def __init__(self) -> None:
        self._states: dict[str, Any] = {}
        self._device = torch.device("cpu")

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device

    @override
    def state_dict(self) -> dict[str, Any]:
        states = _collect_rng_states(include_cuda=False)
        name, key, *rest = states["numpy"]
        states["numpy"] = (name, key.tolist(), *rest)  # to load an array is to run code
        if self._device.type != "cpu":
            states["device"] = torch.get_device_module(self._device).get_rng_state(self._device)
        return states

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._states = state_dict

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A schedule that asks for the number of steps makes the loader before Lightning knows where the data go on.
        trainer.fit_loop._load_combined_loader_states()
        self._restore()

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # An epoch that goes on has started its loader a second time, for which loaders draw a seed.
        if batch_idx > 0:
            self._restore()
        self._states = {}

    def _restore(self) -> None:
        if self._states:
            _set_rng_states(self._states)
        if self._device.type != "cpu" and "device" in self._states:
            torch.get_device_module(self._device).set_rng_state(self._states["device"], self._device)


class StepReport(pl.Callback):
    """Says at the start what a step is."""

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
        batch_size = batch_size or getattr(trainer.train_dataloader, "batch_size", None)
        rates = [group.get("initial_lr", group["lr"]) for one in trainer.optimizers for group in one.param_groups]
        if not (isinstance(batch_size, int) and rates):
            return
        counts = {"devices": trainer.world_size, "accumulated batches": trainer.accumulate_grad_batches}
        factors = [f" x {count} {name}" for name, count in counts.items() if count > 1]
        total = batch_size * trainer.world_size * trainer.accumulate_grad_batches
        product = f" ({batch_size}{''.join(factors)})" if factors else ""
        rank_zero_info(f"A step takes {total} images{product}; the learning rate is at most {max(rates):g}.")
