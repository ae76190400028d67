"""A small classifier with dropout and batch norm, data for it, and its training."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fvlightning.data import ShuffledBatchSampler, TensorImages, batch_loader


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(6 * 4 * 4, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.conv(pictures)), inplace=True)
        return self.fc(self.drop(maps).flatten(1))


class Classifier(pl.LightningModule):
    input_shape = (1, 8, 8)

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.net = Net()
        self.lr = lr

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)


class Fixed(Classifier):
    """The classifier with the same weights each time."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__()


class Digits(pl.LightningDataModule):
    """Pictures of 8 x 8 pixels. The brightest row is the class."""

    def __init__(self, size: int = 48, batch_size: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(size) % 8
        images = torch.randint(0, 80, (size, 1, 8, 8), generator=generator, dtype=torch.uint8)
        images[torch.arange(size), 0, labels] = 230
        self.images = TensorImages(images, labels)
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        world_size, rank = self.trainer.world_size, self.trainer.global_rank
        return batch_loader(self.images, ShuffledBatchSampler(self.images, self.batch_size, world_size, rank))

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        return batch[0] / 255, batch[1]


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "enable_checkpointing": False, "logger": False, **options},
    )


def fit(folder: Path, *callbacks: Callback, data: pl.LightningDataModule | None = None, **options: Any) -> Any:
    pl.seed_everything(0)
    module, trainer = Classifier(), make_trainer(folder, *callbacks, **options)
    trainer.fit(module, data or Digits())
    return module, trainer


def training_result(module: pl.LightningModule, trainer: pl.Trainer) -> tuple[Any, ...]:
    """Return what a training leaves: weights, optimiser state, metrics and random state."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return module.state_dict(), trainer.optimizers[0].state_dict(), metrics, torch.get_rng_state()


def assert_same_bits(result: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """Assert that two trainings left the same, bit for bit."""
    (weights, optimizer, metrics, rng), (other_weights, other_optimizer, other_metrics, other_rng) = result, other
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    for place, state in optimizer["state"].items():
        assert all(torch.equal(value, other_optimizer["state"][place][name]) for name, value in state.items())
    assert other_metrics == metrics
    assert torch.equal(rng, other_rng)
