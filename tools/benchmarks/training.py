"""The same training by Lightning and as a loop by hand: equal weights, and the time of both."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning.pytorch as L
import timm
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from benchmarks.measure import Clock
from fvlightning.data import ImageDataModule
from fvlightning.models import BackboneModule, ClassifierModule
from fvlightning.networks import MnistCNN, Normalize
from fvlightning.schedules import CosineWithWarmup

_SMOOTHING, _MIXUP, _RATE, _DECAY = 0.1, 0.2, 1e-3, 0.05
_WARM_UP = 10  # steps


@dataclass(frozen=True)
class Recipe:
    """A training in two ways.

    Args:
        module: Makes the LightningModule.
        network: Makes its plain counterpart for data: normalisation and network.
        optimizer: Makes the optimiser of the plain network.
        modern: Whether it has mixup, label smoothing and a cosine schedule with a warm-up of ten steps.
    """

    module: Callable[[], ClassifierModule]
    network: Callable[[ImageDataModule], nn.Sequential]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    modern: bool = True


@dataclass(frozen=True)
class Trained:
    """What a training has come to: its seconds, normalisation and network, and its accuracy on the test images."""

    seconds: float
    network: nn.Sequential
    accuracy: float

    def difference(self, other: "Trained") -> float:
        """Return the largest difference of a weight."""
        states = zip(self.network[1].state_dict().values(), other.network[1].state_dict().values(), strict=True)
        return float(max((one.double() - another.double()).abs().max() for one, another in states))


def _timm(model_name: str, plain_args: dict[str, Any], **model_args: Any) -> Recipe:
    """Return the recipe of a network for images of 32 pixels in ten classes: AdamW with timm's groups, drop path."""
    model_args |= {"drop_path_rate": 0.1}
    module = partial(
        BackboneModule,
        model_name,
        weights=None,
        num_classes=10,
        input_shape=(3, 32, 32),
        model_args=model_args,
        optimizer=partial(torch.optim.AdamW, lr=_RATE, weight_decay=_DECAY),
        scheduler=CosineWithWarmup,
        scheduler_interval="step",
        label_smoothing=_SMOOTHING,
        mixup=_MIXUP,
    )

    def network(data: ImageDataModule) -> nn.Sequential:
        config = timm.get_pretrained_cfg(model_name)
        assert config is not None
        plain = timm.create_model(model_name, num_classes=10, **plain_args, **model_args)
        return nn.Sequential(Normalize(config.mean, config.std), plain)

    def optimizer(network: nn.Module) -> torch.optim.Optimizer:
        return create_optimizer_v2(network, opt="adamw", lr=_RATE, weight_decay=_DECAY)

    return Recipe(module, network, optimizer)


RECIPES = {
    "mnist": Recipe(
        module=lambda: ClassifierModule(MnistCNN()),
        network=lambda data: nn.Sequential(Normalize(data.mean, data.std), MnistCNN()),
        optimizer=lambda network: torch.optim.Adam(network.parameters()),
        modern=False,
    ),
    "resnet18": _timm("resnet18", {}),
    "vit_tiny": _timm("vit_tiny_patch16_224", {"img_size": 32}, patch_size=4),
}


def by_hand(
    recipe: Recipe, data: ImageDataModule, device: torch.device, epochs: int = 1, clock: Clock = time.perf_counter
) -> Trained:
    """Train by a loop without Lightning, over a tensor of all images."""
    train = data.splits.train
    images, labels = train[torch.arange(len(train))]
    torch.manual_seed(0)
    network = recipe.network(data).to(device)
    optimizer = recipe.optimizer(network[1])
    steps = epochs * -(-len(images) // data.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_cosine, steps=steps)) if recipe.modern else None
    mix = v2.RandomChoice([v2.MixUp(alpha=_MIXUP, num_classes=data.num_classes)])
    seconds = 0.0
    for epoch in range(epochs):
        started = clock()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        torch.manual_seed(epoch)
        for batch in torch.split(order, data.batch_size):
            pictures, targets = images[batch].to(device).float() / 255, labels[batch].to(device)
            if recipe.modern:
                pictures, targets = mix(pictures, targets)
            loss = F.cross_entropy(network(pictures), targets, label_smoothing=_SMOOTHING if recipe.modern else 0.0)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if schedule is not None:
                schedule.step()
        loss.item()  # wait for the device
        seconds += clock() - started
    return Trained(seconds, network, _accuracy(network, data))


def by_lightning(
    recipe: Recipe, data: ImageDataModule, accelerator: str, epochs: int = 1, clock: Clock = time.perf_counter
) -> Trained:
    """Train by `Trainer.fit`, with what a user gets by default, but without what costs once and not at each step."""
    torch.manual_seed(0)
    module = recipe.module()
    timer = _EpochTimer(clock)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=epochs,
            logger=TensorBoardLogger(folder),
            callbacks=[timer],
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    network = nn.Sequential(module.normalize, module.net)
    return Trained(timer.seconds, network, _accuracy(network, data))


class _EpochTimer(L.Callback):
    """Measure the seconds of all epochs, and let each draw the random numbers that the loop by hand draws."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.started = self.clock()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Set the seed of the epoch."""
        if args[1] == 0:
            torch.manual_seed(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock, after the work on the device is done."""
        next(pl_module.parameters()).sum().item()
        self.seconds += self.clock() - self.started


def _cosine(step: int, steps: int) -> float:
    """Return the factor of the learning rate in a step, counted from 0."""
    warm_up = min(_WARM_UP, steps // 4)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1, (step + 1 - warm_up) / (steps - warm_up + 1))))


@torch.no_grad()
def _accuracy(network: nn.Sequential, data: ImageDataModule) -> float:
    test = data.splits.test
    images, labels = test[torch.arange(len(test))]
    device = next(network.parameters()).device
    network.eval()
    predicted: list[Tensor] = [
        network(batch.to(device).float() / 255).argmax(1).cpu() for batch in torch.split(images, data.batch_size)
    ]
    return (torch.cat(predicted) == labels).double().mean().item()
