"""Trainings that end early: images, a config with all that has a state, and what ends the training."""

import os
from pathlib import Path

import numpy as np
import yaml
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from fvlightning.models import BackboneModule

STEP, EPOCHS = 8, 4  # where runs are stopped, within the third epoch of three steps


class LogsMeans(BackboneModule):
    """A backbone that logs the mean of the labels that it has seen in an epoch."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        labels = batch[1].float()
        self.log("train/mean", labels.mean(), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(labels))
        return super().training_step(batch, batch_idx)


def write_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        file = Path("photos", "train" if number < 24 else "val", f"class_{number % 2}", f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(image).save(file)


def write_run(name: str, **checkpoint: int) -> None:
    """Write a config that fine-tunes with all that draws random numbers or has a state."""
    transforms = [{"class_path": "torchvision.transforms.v2.RandAugment"}]
    data = {"data_dir": "photos", "batch_size": 8, "crop_area": [0.5, 1.0], "num_workers": 1, "transforms": transforms}
    model = {"model_name": "test_resnet", "weights": None, "input_shape": [3, 32, 32], "model_args": {"drop_rate": 0.5}}
    model |= {"mixup": 0.2, "cutmix": 1.0, "frozen_stages": 1, "thaw_epoch": 1, "scheduler_interval": "step"}
    model |= {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}}
    model |= {"scheduler": {"class_path": "fvlightning.features.CosineWithWarmup"}}
    maximizer = {"class_path": "fvlightning.Maximizer", "init_args": {"steps": 2}}
    shown = {"units": ["conv1:0", "fc:*"], "averaged": True, "maximizer": maximizer, "every_n_epochs": 2}
    shown |= {"before_training": False}
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}},
        {"class_path": "fvlightning.VisualizationCallback", "init_args": shown},
    ]
    config = {
        "model": {"class_path": "fvlightning.BackboneModule", "init_args": model},
        "data": {"class_path": "fvlightning.ImageFolderDataModule", "init_args": data},
        "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu", "enable_progress_bar": False, "callbacks": callbacks},
        "checkpoint": checkpoint,
    }
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return what a run has logged, step by step; what it has logged twice, as it was the last time."""
    logged: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events*")):
        events = EventAccumulator(str(file)).Reload()
        for tag in set(events.Tags()["scalars"]) - {"visualization/seconds"}:
            logged.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return logged


def kill_at_step(name: str, step: int = STEP) -> list[str]:
    callback = "--trainer.callbacks"
    return [f"{callback}+=tiny.KilledAtStep", f"{callback}.name={name}", f"{callback}.step={step}"]


def make_slurm(rank: int = 0, n_ranks: int = 1) -> dict[str, str]:
    """Make a `scontrol` that notes what it is asked for, and return the environment that SLURM gives a rank."""
    program = Path("bin/scontrol")
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/sh\necho "$@" >> asked.txt\n')
    program.chmod(0o755)
    values = {"NTASKS": n_ranks, "NTASKS_PER_NODE": n_ranks, "NNODES": 1, "NODEID": 0, "PROCID": rank, "LOCALID": rank}
    values |= {"JOB_ID": 4321, "JOB_NAME": "train", "NODELIST": "127.0.0.1"}
    path = os.pathsep.join([str(program.parent.absolute()), os.environ["PATH"]])
    return {"PATH": path} | {f"SLURM_{name}": str(value) for name, value in values.items()}
