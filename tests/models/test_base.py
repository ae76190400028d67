"""The optimiser, its schedule, and the help of the command line, which all LightningModules share."""

import inspect

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.errors import InputError
from fvlightning.models import BackboneModule, ClassifierModule, VAEModule
from fvlightning.networks import MnistMLP
from fvlightning.schedules import CosineWithWarmup


class Rates(Callback):
    """Record the learning rate of each step."""

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


def test_a_given_number_of_steps_is_kept():
    assert rates("step", steps=2, max_epochs=1) == pytest.approx([1, 0.5, 0, 0], abs=1e-6)


def test_a_cosine_without_steps_is_refused_in_a_training_without_an_end():
    with pytest.raises(InputError, match=r"steps=None\): must be a number in a training without max_epochs"):
        rates("epoch", max_epochs=-1, max_steps=3)


def test_the_rate_of_a_schedule_is_logged_beside_the_training_loss(tmp_path):
    module = ClassifierModule(MnistMLP(), scheduler=CosineWithWarmup)
    loader = DataLoader(TensorDataset(torch.rand(8, 1, 28, 28), torch.arange(8)), batch_size=8)
    logger = TensorBoardLogger(tmp_path, name="", version="")
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    monitor = LearningRateMonitor()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=logger, log_every_n_steps=1, callbacks=[monitor], **quiet
    )
    trainer.fit(module, loader, loader)
    scalars = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]

    assert {"train/lr", "train/loss"} <= set(scalars)
    assert not [tag for tag in scalars if tag.startswith("lr")]


@pytest.mark.parametrize("module", [BackboneModule, ClassifierModule, VAEModule])
def test_the_command_line_explains_every_argument(module):
    parser = ArgumentParser()
    parser.add_class_arguments(module, "model")
    explanations = {action.dest: action.help for action in parser._actions}

    assert all(explanations[f"model.{name}"] for name in inspect.signature(module).parameters)
    assert explanations["model.scheduler_interval"].startswith("Whether the schedule advances")


def test_the_command_line_explains_arguments_and_not_attributes_of_the_same_name():
    parser = ArgumentParser()
    parser.add_class_arguments(ClassifierModule, "model")
    explanations = {action.dest: action.help for action in parser._actions}

    assert explanations["model.normalize"].startswith("Whether training starts by setting the normalisation layer")
    assert "Default: the network's" in explanations["model.num_classes"]
