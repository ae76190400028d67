"""Schedules that know where the training ends."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.errors import InputError
from fvlightning.features import CosineWithWarmup
from fvlightning.models import ClassifierModule, MnistMLP


class Rates(Callback):
    """Keeps the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates(interval: str, steps: int | None = None, **settings: object) -> list[float]:
    seen = Rates()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[seen],
        **settings,
    )
    module = ClassifierModule(
        MnistMLP(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 1.0),
        scheduler=lambda optimizer: CosineWithWarmup(optimizer, warmup=1, steps=steps),
        scheduler_interval=interval,
    )
    loader = DataLoader(TensorDataset(torch.rand(32, 1, 28, 28), torch.arange(32) % 10), batch_size=8)
    trainer.fit(module, loader, loader)
    return seen.seen


def test_a_cosine_ends_with_the_training():
    # One step up, then (1 + cos(π t / n)) / 2 with n = steps; the next rate would be 0.
    assert rates("step", max_epochs=1) == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)
    accumulated = rates("step", max_epochs=2, accumulate_grad_batches=2)
    assert accumulated == pytest.approx([1, 1, 0.8536, 0.8536, 0.5, 0.5, 0.1464, 0.1464], abs=1e-4)


def test_an_epochs_schedule_ends_with_the_last_epoch():
    assert rates("epoch", max_epochs=2) == pytest.approx([1] * 4 + [0.5] * 4)


def test_a_number_of_steps_that_is_given_stays():
    assert rates("step", steps=2, max_epochs=1) == pytest.approx([1, 0.5, 0, 0], abs=1e-6)


def test_a_training_without_an_end():
    with pytest.raises(InputError, match="falls to 0 at the end of the training: give max_epochs"):
        rates("epoch", max_epochs=-1, max_steps=3)
