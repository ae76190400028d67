"""Epochs of which nothing is lost when a run is killed and goes on: their checkpoints, and what metrics have seen."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torchmetrics import Metric
from typing_extensions import override


class EpochCheckpoint(ModelCheckpoint):
    """Writes the checkpoint of a step only after the validation and the end of the epoch that follow the step.

    A run that goes on from an earlier moment, just after the step, would skip them, with their pictures and metrics.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_validated = False
        self._postponed: tuple[Any, ...] | None = None  # a step that is validated

    @property
    @override
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__name__, ModelCheckpoint.__name__)  # so that either goes on

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._postponed = args if is_validated_next(trainer) else None
        if self._postponed is None and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_validated = not trainer.sanity_checking and trainer.is_last_batch
        if self._is_validated:
            return
        if self._postponed is not None:
            super().on_train_batch_end(trainer, *self._postponed)
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
    """Keeps what each rank's metrics and means have seen of an epoch, for a run that goes on within the epoch."""

    def __init__(self) -> None:
        self._running: tuple[pl.Trainer, pl.LightningModule] | None = None  # within an epoch
        self._ranks: list[dict[str, Any]] = []
        self._means: dict[str, Any] = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the states of all ranks. Called on every rank."""
        if self._running is None:
            return {}
        trainer, pl_module = self._running
        loop = trainer.fit_loop.epoch_loop
        validated = [result.value for result in loop.val_loop._results.values()]  # they are reset after its end
        metrics = {
            name: {"count": metric.update_count, "values": metric.metric_state}
            for name, metric in _metrics(pl_module).items()
            if metric.update_called and not any(metric is one for one in validated)
        }
        means = {
            key: {"value": result.value, "cumulated_batch_size": result.cumulated_batch_size}
            for key, result in loop._results.items()
            if result.is_tensor and result.meta.on_epoch and result.meta.is_mean_reduction
        }
        ranks = [move_data_to_device({"metrics": metrics, "means": means}, "cpu")]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks *= trainer.world_size
            torch.distributed.all_gather_object(ranks, ranks[0])
        return {"ranks": ranks}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._ranks = state_dict.get("ranks", [])

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if len(self._ranks) != trainer.world_size:
            if self._ranks:
                rank_zero_warn(f"metrics of this epoch leave out what {len(self._ranks)} devices have seen of it")
            return
        state = self._ranks[trainer.global_rank]
        self._ranks, self._means = [], state["means"]
        for name, metric in _metrics(pl_module).items():
            if name in state["metrics"]:
                metric._update_count = state["metrics"][name]["count"]
                for attribute, value in move_data_to_device(state["metrics"][name]["values"], metric.device).items():
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


def is_validated_next(trainer: pl.Trainer) -> bool:
    """Return whether a validation follows the step that has just been made."""
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    is_empty = loop.val_loop.max_batches and loop.val_loop.skip  # without numbers, the loader is not made yet
    return fetcher is not None and loop._should_check_val_fx(fetcher) and not is_empty


def _metrics(module: pl.LightningModule) -> dict[str, Metric]:
    return {name: metric for name, metric in module.named_modules() if isinstance(metric, Metric)}
