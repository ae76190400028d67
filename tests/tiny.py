"""The smallest model and data that train, which are imported by name like a user's own, and the command for it."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.errors import InputError

TRAINER = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
TINY = ["--model", "tiny.TestableModel", "--data", "tiny.TinyData", *TRAINER]
CHECKPOINT = "runs/default/version_0/checkpoints/last.ckpt"


def write_config(path: str, **settings: Any) -> str:
    """Write a config that trains the tiny model, with some keys replaced, and return its path."""
    trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, **settings.pop("trainer", {})}
    config = {
        "model": {"class_path": "tiny.TestableModel"},
        "data": {"class_path": "tiny.TinyData"},
        "trainer": trainer,
        **settings,
    }
    Path(path).write_text(yaml.safe_dump(config))
    return path


class TinyModel(pl.LightningModule):
    def __init__(self, lr: float = 0.1, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(4, width)
        self.lr = lr

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.net(batch[0]).square().mean())

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)


class TestableModel(TinyModel):
    __test__ = False  # pytest would take it for a test

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/accuracy", 0.75)


class TwoRates(TestableModel):
    """A model whose optimiser has groups, not in the order of the parameters."""

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": [self.net.bias]}, {"params": [self.net.weight], "lr": self.lr / 10}]
        return torch.optim.SGD(groups, self.lr, self.momentum)


class LongNamesModel(TinyModel):
    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/" + 60 * "n", 0.75)


class TinyData(pl.LightningDataModule):
    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.size = size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.linspace(0, 1, 4 * self.size).reshape(self.size, 4)), batch_size=4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class RefusedModel(TinyModel):
    def __init__(self) -> None:
        raise InputError("the constructor\nrefuses this")


class BrokenModel(TinyModel):
    def __init__(self) -> None:
        super().__init__({}["width"])


class RefusedLater(TinyModel):
    def on_fit_start(self) -> None:
        raise InputError("the hook refuses this")


class BuggyModel(TinyModel):
    def on_fit_start(self) -> None:
        raise ZeroDivisionError("a defect")


class PressesCtrlC(pl.Callback):
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        raise KeyboardInterrupt


class Terminates(pl.Callback):
    def on_train_batch_start(self, *args: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class KilledAtStep(pl.Callback):
    """Sends the process a signal as soon as it has made a number of steps."""

    def __init__(self, name: str, step: int) -> None:
        self.name, self.step = name, step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), getattr(signal, self.name))


class InterruptsAfterEpoch(pl.Callback):
    """Interrupts the process when an epoch, counted from 1, is over."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epoch:
            raise KeyboardInterrupt


class LosesAtStep(TestableModel):
    """A model whose third loss is not a number; on several devices, on the last alone."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        is_lost = self.global_step == 2 and self.global_rank == self.trainer.world_size - 1
        return super().training_step(batch, batch_idx) * (float("nan") if is_lost else 1)


class TooLargeModel(TestableModel):
    """A model whose step takes a petabyte."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + torch.empty(2**50, dtype=torch.uint8)[0]


class RefusedCallback(pl.Callback):
    def __init__(self) -> None:
        raise InputError("the callback refuses this")
