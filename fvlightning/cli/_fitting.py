"""What every training by the command line has: checkpoints that lose nothing, and a watch on the loss."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.seed import _collect_rng_states, _set_rng_states
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torchmetrics import Metric
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


class EpochCheckpoint(ModelCheckpoint):
    """Writes the checkpoint of an epoch's last step when the epoch is over, also where steps or minutes are counted.

    A run that goes on from an earlier moment, just after the last step or its validation, would begin with the next
    epoch, without the validation, the pictures and the metrics of this one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_validated = False

    @property
    @override
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__name__, ModelCheckpoint.__name__)  # so that either goes on

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_validated = not trainer.sanity_checking and trainer.is_last_batch
        if not self._is_validated:
            super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_validated:
            super().on_validation_end(trainer, pl_module)
            self._is_validated = False
        super().on_train_epoch_end(trainer, pl_module)
        counts_steps = self._every_n_train_steps > 0 or self._train_time_interval is not None
        candidates = self._monitor_candidates(trainer)
        is_known = self.monitor is None or self.monitor in candidates
        if counts_steps and is_known and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)


class EpochMetrics(pl.Callback):
    """Keeps what an epoch's metrics and means have seen of it, for a run that goes on within the epoch.

    On several devices, what the first has seen stands for all of them.
    """

    def __init__(self) -> None:
        self._running: tuple[pl.Trainer, pl.LightningModule] | None = None  # within an epoch
        self._metrics: dict[str, Any] = {}
        self._means: dict[str, Any] = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._running is None:
            return {}
        trainer, pl_module = self._running
        metrics = {
            name: {"count": metric.update_count, "values": metric.metric_state}
            for name, metric in _metrics(pl_module).items()
            if metric.update_called
        }
        results = trainer.fit_loop.epoch_loop._results.items()
        means = {
            key: {"value": result.value, "cumulated_batch_size": result.cumulated_batch_size}
            for key, result in results
            if result.is_tensor and result.meta.on_epoch and result.meta.is_mean_reduction
        }
        return {"metrics": metrics, "means": means}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._metrics, self._means = state_dict.get("metrics", {}), state_dict.get("means", {})

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, metric in _metrics(pl_module).items():
            if (state := self._metrics.pop(name, None)) is not None:
                metric._update_count = state["count"]
                for attribute, value in move_data_to_device(state["values"], metric.device).items():
                    setattr(metric, attribute, value)

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._running = None if trainer.is_last_batch else (trainer, pl_module)
        for key, result in trainer.fit_loop.epoch_loop._results.items() if self._means else ():
            for attribute, part in self._means.pop(key, {}).items():
                setattr(result, attribute, getattr(result, attribute) + part.to(result.device))

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._running = None


def _metrics(module: pl.LightningModule) -> dict[str, Metric]:
    return {name: metric for name, metric in module.named_modules() if isinstance(metric, Metric)}


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
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A schedule that asks for the number of steps makes the loader before Lightning knows where the data go on.
        trainer.fit_loop._load_combined_loader_states()

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
