"""What every training by the command line has: whole checkpoints with random states, and a watch on the loss."""

import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError
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


class Requeue(pl.Callback):
    """On the signal that SLURM sends before a time limit, keeps a checkpoint after the step and queues the job again.

    Lightning's own handler would write wherever it interrupts the step, and into another folder than that of the run.
    Has to stand behind all other callbacks, so that its checkpoint holds what they make of the step. It waits for the
    end of a validation or an epoch that follows the step: a training that goes on would leave them out.
    """

    def __init__(self) -> None:
        self._last: Path | None = None  # the checkpoint; None if SLURM has no part in the training
        self._is_asked = False

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        environment: Any = trainer._accelerator_connector.cluster_environment
        is_requeued = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
        if is_requeued and isinstance(trainer.checkpoint_callback, ModelCheckpoint):
            self._last = Path(str(trainer.checkpoint_callback.dirpath), "last.ckpt")
            signal.signal(environment.requeue_signal, self._ask)  # Lightning leaves a handler in its place

    def _ask(self, *_: object) -> None:
        self._is_asked = True

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        if self._last is None or loop._should_accumulate() or loop.batch_progress.is_last_batch:
            return
        if fetcher is None or loop._should_check_val_fx(fetcher):
            return
        if not trainer.strategy.reduce_boolean_decision(self._is_asked, all=False):
            return
        self._is_asked = False
        trainer.save_checkpoint(self._last)
        job = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        command = f"scontrol requeue {job}"
        status = subprocess.call(command, shell=True) if trainer.is_global_zero else None
        if trainer.strategy.broadcast(status) == 0:
            rank_zero_info(f"SLURM's signal has come: {self._last} is written, and job {job} is queued again.")
            raise SIGTERMException
        rank_zero_warn(f"SLURM's signal has come, but '{command}' failed: the training goes on")


class Termination(pl.Callback):
    """On SIGTERM, ends all ranks after the same step. Lightning's handler makes them talk within it, and may hang."""

    def __init__(self) -> None:
        self._is_asked = False

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, partial(self._ask, trainer.strategy.launcher))

    def _ask(self, launcher: Any, number: int, _: object) -> None:
        if launcher is not None and not self._is_asked:
            launcher.kill(number)
        self._is_asked = True

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self._is_asked, all=False):
            raise SIGTERMException


class StepWatch(pl.Callback):
    """Says at the start what a step is, and ends the training before a step on a loss that is not finite."""

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

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if loss.isfinite().all():
            return
        epoch, batch = trainer.current_epoch + 1, trainer.fit_loop.batch_idx + 1
        rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
        raise InputError(
            f"the loss is {loss.item()} in epoch {epoch}, batch {batch}, at a learning rate of {rate:g}; no step was "
            "made on it; lower the rate (--model.optimizer.lr), or clip gradients (--trainer.gradient_clip_val 1)"
        )
