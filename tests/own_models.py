"""A user's own LightningModules and data, trained in a script: their hyperparameters differ in kind."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

IMAGE_SHAPE = (3, 10, 12)


class Own(pl.LightningModule):
    def make(self, width: int, activation: Callable[[], nn.Module]) -> None:
        self.stem = nn.Conv2d(3, width, 3)
        self.activation = activation()
        self.head = nn.Linear(width, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.activation(self.stem(pictures)).mean((2, 3)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Plain(Own):
    def __init__(self, width=8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(width, nn.ReLU)


class Required(Own):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(width, nn.ReLU)


class Missing(Own):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.make(width, nn.ReLU)


class HoldsClass(Own):
    def __init__(self, width=8, activation=nn.ReLU) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(width, activation)


class HoldsTypedClass(Own):
    def __init__(self, activation: type[nn.Module], width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(width, activation)


class Dictionary(Own):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters(config)
        self.make(config["width"], nn.ReLU)


class Keywords(Own):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(kwargs["width"], nn.ReLU)


class HoldsModule(Own):
    def __init__(self, width: int = 8, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.make(width, lambda: activation or nn.ReLU())


class OwnData(pl.LightningDataModule):
    image_shape = IMAGE_SHAPE

    def train_dataloader(self) -> DataLoader:
        pictures = torch.rand(8, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(pictures, torch.arange(8) % 4), batch_size=4)

    test_dataloader = train_dataloader
