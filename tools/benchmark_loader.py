"""Say whether the loader or the training step limits a training: images a second of each alone, and of both together.

The options are those of ``fit``; the config is configs/finetune_folder.yaml if none is given:

    python tools/benchmark_loader.py
    python tools/benchmark_loader.py --config configs/imagenet_resnet50.yaml --data.data_dir IMAGENET \
        --trainer.accelerator gpu --trainer.precision bf16-mixed

All three are parts of one run of Lightning's `fit`, in turns, after a warm-up: the loader alone, with its workers; the
step alone, on batches that are in memory; and both, as in training. The step has what the config gives it, with EMA,
mixup, thawed stages and the like, but neither pictures nor checkpoints. Without ``--data.data_dir``, an image folder is
made of JPEG files of 500 x 375 pixels and about 120 KB, as ImageNet's are on average. They are read from the system's
cache, so a slow disk shows only with files of your own. On a machine that others use at the same time,
``--clock process --data.num_workers 0`` counts only the time that this process computes, on one core.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
import yaml
from benchmarks.measure import Clock, Line, Report, wait
from benchmarks.tables import table
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch.utils.data.distributed import DistributedSampler

from fvlightning.callbacks import EpochPictures
from fvlightning.cli import main as run_command
from fvlightning.errors import InputError
from fvlightning.trainer import Trainer

LOADER, STEP, BOTH = "loader alone", "step alone", "both"
SIZE = (500, 375)  # width and height
_WARM_UP = 3  # batches
_IN_MEMORY = 4  # batches
_DISTINCT = 16  # images
_CLASSES = 10


class Turns:
    """A loader for one training, which measures while it gives its batches.

    Args:
        loader: The loader to measure.
        seconds: How long each turn lasts.
        repeats: Number of turns of each.
        early_epochs: Epochs at the start that are cut to one batch.
        device: The device of the training.
        clock: Returns seconds.
    """

    def __init__(
        self,
        loader: Any,
        seconds: float,
        repeats: int,
        *,
        early_epochs: int = 0,
        device: str = "cpu",
        clock: Clock = time.perf_counter,
    ) -> None:
        self.seconds, self.repeats, self.device, self.clock = seconds, repeats, device, clock
        self.lines = {name: Line(name) for name in (LOADER, STEP, BOTH)}
        # The batches that wait in the queue of the workers were loaded before the clock starts.
        self._queued = getattr(loader, "num_workers", 0) * (getattr(loader, "prefetch_factor", None) or 0)
        self._batches = _endless(loader)
        self._early_epochs = early_epochs

    def __iter__(self) -> Iterator[Any]:
        if self._early_epochs > 0:
            self._early_epochs -= 1
            yield next(self._batches)
            return
        yield from islice(self._batches, _WARM_UP)
        in_memory = list(islice(self._batches, _IN_MEMORY))
        for repeat in range(self.repeats):
            for _ in self._turn(LOADER, self._batches):
                pass  # no step
            yield from self._turn(STEP, _endless(in_memory))
            yield from self._turn(BOTH, self._batches)
            shown = ", ".join(f"{name} {line.values[-1]:.4g}" for name, line in self.lines.items())
            print(f"  {repeat + 1}/{self.repeats} {shown}", file=sys.stderr, flush=True)

    def _turn(self, name: str, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches for the time of a turn, and note how many of their images were asked for in a second."""
        for _ in islice(batches, self._queued):
            pass
        wait(self.device)
        images, started = 0, self.clock()
        while self.clock() < started + self.seconds or not images:
            batch = next(batches)
            yield batch
            images += len(batch if isinstance(batch, torch.Tensor) else batch[0])
        wait(self.device)
        self.lines[name].values.append(images / (self.clock() - started))


def _endless(loader: Any) -> Iterator[Any]:
    for epoch in count():
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):  # as Lightning does
            sampler.set_epoch(epoch)
        yield from loader


def measuring(seconds: float, repeats: int, clock: Clock) -> type[Trainer]:
    """Return a trainer whose `fit` measures, and prints what it has found."""

    class MeasuringTrainer(Trainer):
        """Fits for as long as it takes to measure."""

        def fit(self, model: L.LightningModule, *args: Any, datamodule: Any = None, **kwargs: Any) -> None:
            """Measure the training of a model."""
            if datamodule is None:
                raise InputError("there is nothing to load: give --data, or a --config file that has 'data'")
            if self.world_size > 1:
                raise InputError("one process is measured: give --trainer.devices 1 --trainer.num_nodes 1")
            unmeasured = EpochPictures | ModelCheckpoint
            callbacks: list[L.Callback] = self.callbacks  # type: ignore[has-type] # which Lightning sets
            self.callbacks = [one for one in callbacks if not isinstance(one, unmeasured)]
            datamodule.trainer = self
            datamodule.prepare_data()
            datamodule.setup("fit")
            thaw_epoch = getattr(model, "thaw_epoch", None) or 0
            self.fit_loop.max_epochs = thaw_epoch + 1
            loader = datamodule.train_dataloader()
            device, workers = str(self.strategy.root_device), getattr(loader, "num_workers", 0)
            if clock is time.process_time and (workers or device != "cpu"):
                raise InputError("--clock process is for one process: give --data.num_workers 0, or another clock")
            turns = Turns(loader, seconds, repeats, early_epochs=thaw_epoch, device=device, clock=clock)
            datamodule.train_dataloader = lambda: turns
            super().fit(model, datamodule=datamodule)
            shape = tuple(getattr(datamodule, "image_shape", ()))
            batch_size = getattr(datamodule, "batch_size", None) or getattr(loader, "batch_size", None)
            title = f"{_name(model)}, images of shape {shape}, {batch_size} a batch, {workers} workers"
            title += f", {device}, {torch.get_num_threads()} threads, {os.cpu_count()} cores"
            report = Report(title, "images / s", STEP, list(turns.lines.values()))
            print(f"{table(report)}\n\n{verdict(report)}")
            self.loggers = []  # in a folder that goes

    return MeasuringTrainer


def _name(model: L.LightningModule) -> str:
    return getattr(model, "model_name", None) or type(getattr(model, "net", model)).__name__


def verdict(report: Report) -> str:
    """Say in a sentence what the limit is, and by how much."""
    ratios = {line.name: median(report.ratios(line)) for line in report.lines}
    ratio, share = ratios[LOADER], ratios[BOTH]
    reached = f"both together reach {share:.0%} of the step alone"
    if ratio >= 1:
        return f"The step is the limit: the loader alone is {ratio:.2f} times as fast; {reached}."
    fix = "give it workers (--data.num_workers), or prepare smaller files"
    return f"The loader is the limit: alone it is {ratio:.2f} times as fast as the step; {reached}; {fix}."


def write_images(folder: Path, images: int) -> None:
    """Write JPEG files of noise with the frequencies of photographs, ``train/CLASS/*``; most are links to others."""
    generator = np.random.default_rng(0)
    for number in range(images):
        file = folder / "train" / f"class_{number % _CLASSES}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number < _DISTINCT:
            _noise(generator).save(file, quality=95)
        else:
            first = number % _DISTINCT
            os.link(folder / "train" / f"class_{first % _CLASSES}" / f"{first}.jpg", file)


def _noise(generator: np.random.Generator) -> Image.Image:
    """Return a sum of random images of all scales, from coarse to fine and from strong to weak."""
    total = np.full((SIZE[1], SIZE[0], 3), 128.0)
    for scale in range(9):
        small = generator.normal(0, 40 / 1.2**scale, (2 + SIZE[1] * 2**scale // 256, 2 + SIZE[0] * 2**scale // 256, 3))
        for channel in range(3):
            layer = Image.fromarray(small[..., channel].astype(np.float32))
            total[..., channel] += np.asarray(layer.resize(SIZE, Image.Resampling.BICUBIC))
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _wants_folder(args: Sequence[str]) -> bool:
    """Return whether the data are an image folder, of which no place is given."""
    options = dict(zip(args, [*args[1:], ""], strict=True)) | dict(arg.split("=", 1) for arg in args if "=" in arg)
    kind = ""
    for path in (value for option, value in pairwise(args) if option == "--config" and Path(value).is_file()):
        kind = ((yaml.safe_load(Path(path).read_text()) or {}).get("data") or {}).get("class_path", kind)
    kind = options.get("--data", kind)
    named = {"--data.data_dir", "--data.init_args.data_dir"} & options.keys()
    return kind.endswith("ImageFolderDataModule") and not named


def main(args: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is measured, in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1280, help="number of files, if they are made")
    parser.add_argument("--clock", default="wall", choices=["wall", "process"], help="process: see above")
    arguments, options = parser.parse_known_args(args)
    if arguments.repeats < 1 or arguments.images < 100:
        parser.error("--repeats must be at least 1, --images at least 100")
    if not {option.partition("=")[0] for option in options} & {"--config", "--model"}:
        options = ["--config", "configs/finetune_folder.yaml", *options]
    with tempfile.TemporaryDirectory() as folder:
        if _wants_folder(options):
            write_images(Path(folder, "images"), arguments.images)
            options += ["--data.data_dir", f"{folder}/images"]
        options += ["--trainer.default_root_dir", folder, "--trainer.enable_progress_bar", "false"]
        options += ["--trainer.enable_model_summary", "false", "--trainer.limit_val_batches", "0"]
        # A schedule over the training's steps has to know their number, though the time is what ends it.
        options += ["--trainer.limit_train_batches", "1000000", "--test_after_fit", "false"]
        clock = time.process_time if arguments.clock == "process" else time.perf_counter
        return run_command(["fit", *options], measuring(arguments.seconds, arguments.repeats, clock))


if __name__ == "__main__":
    sys.exit(main())
