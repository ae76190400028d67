"""What ends a training early: SIGTERM, the signal that SLURM sends before a time limit, a loss that is not finite."""

import math
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from fvlightning.cli._epochs import is_validated_next
from fvlightning.errors import InputError


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
        loop = trainer.fit_loop.epoch_loop
        if self._last is None or loop._should_accumulate() or trainer.is_last_batch or is_validated_next(trainer):
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


class Ending(pl.Callback):
    """Ends a training on all ranks at once: on a loss that is not finite before its step, on SIGTERM after a step.

    Lightning's own handler of SIGTERM makes the ranks talk within a step, and may hang.
    """

    def __init__(self) -> None:
        self._is_asked = False  # this rank
        self._is_agreed: bool | None = None  # None: not asked in this step

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, partial(self._ask, trainer.strategy.launcher))

    def _ask(self, launcher: Any, number: int, _: object) -> None:
        if launcher is not None and not self._is_asked:
            launcher.kill(number)
        self._is_asked = True

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        own = loss.detach().float().sum()
        both = torch.stack([own, torch.full_like(own, self._is_asked)])
        total, n_asked = trainer.strategy.reduce(both, reduce_op="sum").tolist()  # in one exchange of all ranks
        self._is_agreed = n_asked > 0
        if math.isfinite(total):
            return
        if not trainer.is_global_zero:
            raise SystemExit(1)  # one rank says why
        epoch, batch = trainer.current_epoch + 1, trainer.fit_loop.batch_idx + 1
        rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
        raise InputError(
            f"the loss is {total} in epoch {epoch}, batch {batch}, at a learning rate of {rate:g}; no step was made on "
            "it; lower the rate (--model.optimizer.lr), or clip gradients (--trainer.gradient_clip_val 1)"
        )

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if self._is_agreed is None and trainer.world_size > 1:  # without a loss, or without Lightning's backward pass
            self._is_agreed = trainer.strategy.reduce_boolean_decision(self._is_asked, all=False)
        if self._is_agreed:
            raise SIGTERMException
        self._is_agreed = None
