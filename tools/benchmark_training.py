"""Compare training through Lightning with the same loop written by hand over a tensor.

Both train `MnistCNN` on the training images of MNIST for one epoch: batch size 64, the same optimiser, the same number
of steps, normalisation and the conversion of bytes included; neither validates. They take turns, and the medians are
compared:

    python tools/benchmark_training.py --data_dir data

Lightning's loop is what a user gets by default, with progress bar and TensorBoard; only the sanity check, the
checkpoint and the summary, which cost once and not for each epoch's steps, are off.
"""

import argparse
import logging
import statistics
import tempfile
import time

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn import functional as F

from fvlightning.data import MNISTDataModule
from fvlightning.models import ClassifierModule
from fvlightning.networks import MnistCNN, Normalize


def by_hand(data: MNISTDataModule, device: torch.device) -> float:
    """Return the seconds of one epoch of a loop without Lightning."""
    torch.manual_seed(0)
    train = data.splits.train
    images, labels = train[torch.arange(len(train))]
    model = torch.nn.Sequential(Normalize(data.mean, data.std), MnistCNN()).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    started = time.perf_counter()
    order = torch.randperm(len(images))
    for start in range(0, len(order), data.batch_size):
        batch = order[start : start + data.batch_size]
        pictures, targets = images[batch].to(device).float() / 255, labels[batch].to(device)
        loss = F.cross_entropy(model(pictures), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    loss.item()  # wait for the device
    return time.perf_counter() - started


class EpochTimer(L.Callback):
    """Measure the seconds of an epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop it, after the work on the device is done."""
        next(pl_module.parameters()).sum().item()
        self.seconds = time.perf_counter() - self.started


def by_lightning(data: MNISTDataModule, accelerator: str) -> float:
    """Return the seconds of one epoch of `Trainer.fit`."""
    torch.manual_seed(0)
    timer = EpochTimer()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            logger=TensorBoardLogger(folder),
            callbacks=[timer],
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(ClassifierModule(MnistCNN()), datamodule=data)
    return timer.seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data", help="folder that has MNIST/raw, or gets it by a download")
    parser.add_argument("--source", default="mnist", choices=["mnist", "sample"], help="sample: a rough figure only")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each loop")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    data = MNISTDataModule(arguments.data_dir, source=arguments.source)
    data.prepare_data()
    data.setup()
    device = torch.device("cuda" if arguments.accelerator == "gpu" else "cpu")
    seconds: dict[str, list[float]] = {"by hand": [], "Lightning": []}
    for _ in range(arguments.repeats):
        seconds["by hand"].append(by_hand(data, device))
        seconds["Lightning"].append(by_lightning(data, arguments.accelerator))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    steps = -(-len(data.splits.train) // data.batch_size)
    for name, median in medians.items():
        listed = ", ".join(f"{value:.2f}" for value in seconds[name])
        print(f"{name:>9}: median {median:.2f} s an epoch, {median / steps * 1000:.2f} ms a step  ({listed})")
    print(f"    ratio: {medians['Lightning'] / medians['by hand']:.3f}")


if __name__ == "__main__":
    main()
