"""A user's own models and data with a fault each."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn


class Flat(pl.LightningModule):
    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)


class TwoInputs(Flat):
    def forward(self, pictures: Tensor, masks: Tensor) -> Tensor:
        return self.net(pictures * masks)


class NoForward(Flat):
    forward = pl.LightningModule.forward

    def __init__(self) -> None:
        super().__init__()
        self.layer = self.net
        del self.net


class NoGradient(Flat):
    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)


class Meta(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.net.to("meta")


class Lazy(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


class RaisesInForward(Flat):
    def forward(self, pictures: Tensor) -> Tensor:
        raise RuntimeError("this never\nworks")


class MissesAKey(Flat):
    def forward(self, pictures: Tensor) -> Tensor:
        return self.net({"pictures": pictures}["picture"])


class RaisesInInit(Flat):
    def __init__(self) -> None:
        raise OSError("no camera")


class ForgetsSuper(Flat):
    def __init__(self) -> None:
        self.net = nn.Linear(4, 2)


class Trained(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.net(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class TrainedOnMeta(Trained):
    def __init__(self) -> None:
        super().__init__()
        self.net.to("meta")


class Frozen(Trained):
    def __init__(self) -> None:
        super().__init__()
        self.net.requires_grad_(False)


class NoOptimizer(Trained):
    configure_optimizers = pl.LightningModule.configure_optimizers


class ThreeForOptimizer(Trained):
    def configure_optimizers(self) -> int:
        return 3


class NoLoaders(pl.LightningDataModule):
    pass


class NoneForLoader(pl.LightningDataModule):
    def train_dataloader(self) -> None:
        return None


class MissesAFile(NoneForLoader):
    def setup(self, stage: str) -> None:
        Path("absent.csv").read_text()
