"""FSDP2 on two processes: weights, pictures and checkpoints are those of one process; what it cannot split."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from finetuning import make_slurm, scalars, write_images, write_run
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tiny import TINY, TinyModel, write_config
from torch import nn

from fvlightning.cli import main
from fvlightning.errors import InputError
from fvlightning.output import read_pixels
from fvlightning.sharding import FSDP2Strategy, whole_network

# Trains until the second rank alone has a loss that is not finite. Then, each time by the same command, until it is
# ended, until SLURM's signal, and to the end.
PROGRAM = """
import sys
from finetuning import kill_at_step
from fvlightning.cli import main
assert main(["fit", "--config", "lost.yaml"]) == 1
for name, step in (("SIGTERM", 4), ("SIGUSR1", 10)):
    assert main([*sys.argv[1:], *kill_at_step(name, step)]) == 143
sys.exit(main(sys.argv[1:]))
"""


def write_runs() -> None:
    """Write configs of the same training on one and on two devices: without batch norm, and without random numbers."""
    write_images()
    for name, batch_size in (("one", 8), ("two", 4)):
        write_run(name)
        config = yaml.safe_load(Path(f"{name}.yaml").read_text())
        config["model"]["class_path"] = "finetuning.LogsMeans"
        config["model"]["init_args"] |= {"model_name": "test_vit", "model_args": None, "mixup": 0.0, "cutmix": 0.0}
        sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
        config["model"]["init_args"]["optimizer"] = sgd
        config["data"]["init_args"] |= {"batch_size": batch_size, "num_workers": 0, "transforms": None}
        config["trainer"] |= {"gradient_clip_val": 1.0, "devices": 8 // batch_size}
        if name == "two":
            config["trainer"]["strategy"] = "fsdp2"
        config["trainer"]["callbacks"][1]["init_args"]["units"] = ["blocks.0.mlp.fc1:0-1", "head:*"]
        for callback, setting in (("Examples", "units"), ("Inspection", "layers"), ("WeightImages", "layer")):
            layer = {"layer": "patch_embed.proj", "layers": ["patch_embed.proj"], "units": ["head:0"]}[setting]
            settings = {setting: layer, "every_n_epochs": 4, "before_training": False, "animate": False}
            shown = {"class_path": f"fvlightning.{callback}Callback", "init_args": settings}
            config["trainer"]["callbacks"].append(shown)
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))


def write_lost_run() -> None:
    trainer = {"devices": 2, "strategy": "fsdp2", "limit_val_batches": 0}
    data = {"class_path": "tiny.TinyData", "init_args": {"size": 32}}
    checkpoint = {"every_n_train_steps": 1}
    write_config(
        "lost.yaml", model={"class_path": "tiny.LosesAtStep"}, data=data, trainer=trainer, checkpoint=checkpoint
    )


def pictures(name: str) -> dict[str, np.ndarray]:
    folder = Path("runs", name, "version_0")
    return {str(path.relative_to(folder)): read_pixels(path) for path in sorted(folder.rglob("epoch_*/**/*.png"))}


@pytest.mark.usefixtures("in_folder")
def test_two_processes_train_to_weights_and_pictures_of_one_and_go_on_after_signals():
    write_runs()
    write_lost_run()
    command = ["fit", "--config", "two.yaml", "--ckpt_path", "last"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command],
            env={**os.environ, **make_slurm(rank, 2), "MASTER_PORT": port, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert main(["fit", "--config", "one.yaml"]) == 0
    for rank, process in enumerate(processes):
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        line = "error: the loss is nan in epoch 1, batch 3, at a learning rate of 0.1; no step was made on it"
        assert errors.count(line) == (rank == 0)
    assert torch.load("runs/lost/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert Path("asked.txt").read_text() == "requeue 4321\n"

    last = "runs/{}/version_0/checkpoints/last.ckpt"
    one, two = (torch.load(last.format(name), weights_only=True) for name in ("one", "two"))
    for key in ("state_dict", "current_model_state"):  # the averaged weights, and those of the last step
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)
    assert two["global_step"] == 12

    one, two = (scalars(Path("runs", name, "version_0")) for name in ("one", "two"))
    for scalar in ("train/accuracy", "train/mean", "val/accuracy", "val/loss"):  # of all images of an epoch
        assert two[scalar] == pytest.approx(one[scalar], rel=1e-4), scalar

    whole, split = pictures("one"), pictures("two")
    assert whole.keys() == split.keys()
    assert {"features/epoch_0004/head/1.png", "weights/epoch_0004/patch_embed.proj.png"} <= whole.keys()
    assert {name.partition("/")[0] for name in whole} == {"features", "examples", "inspection", "weights"}
    for name, picture in whole.items():
        assert np.abs(split[name].astype(int) - picture).mean() < 0.1, name

    shown = ["--units", '["head:0"]', "--output_dir", "shown", "--maximizer.steps", "2"]
    saved = ["--config", "runs/two/version_0/config.yaml", "--ckpt_path", last.format("two")]
    assert main(["visualize", *saved, *shown, "--trainer.devices", "1"]) == 0
    assert Path("shown/head/0.png").exists()


class WithoutNet(pl.LightningModule):
    pass


class WithMore(TinyModel):
    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("module", "message"), [(WithoutNet(), "and WithoutNet has no net; use ddp"), (WithMore(), "WithMore has others")]
)
def test_weights_that_are_not_in_net_are_refused(module, message):
    strategy, trainer = FSDP2Strategy(), pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    strategy.connect(module)
    trainer.state.fn = TrainerFn.FITTING
    with pytest.raises(InputError, match=message):
        strategy.setup(trainer)


def test_other_strategies_that_split_weights_show_no_pictures(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # Lightning may set the port of later runs
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy=ModelParallelStrategy(), logger=False, enable_checkpointing=False
    )
    message = "no pictures can be made under ModelParallelStrategy, .* use the strategy 'fsdp2' or 'ddp'"
    with pytest.raises(MisconfigurationException, match=message), whole_network(trainer, TinyModel()):
        pass


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.usefixtures("in_folder")
def test_a_training_goes_on_with_and_without_a_state_of_its_optimizer(momentum, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # Lightning sets the port of later runs
    fit = ["fit", *TINY, "--model", "tiny.TwoRates", "--model.momentum", str(momentum)]
    fit += ["--trainer.limit_val_batches", "0", "--data.size", "4"]  # in one batch, which has no order
    split = [*fit, "--trainer.strategy", "fsdp2", "--trainer.devices", "1"]
    two_epochs = ["--trainer.max_epochs", "2"]
    last = "runs/default/version_{}/checkpoints/last.ckpt"
    assert main([*fit, *two_epochs]) == 0
    assert main(split) == 0
    assert main([*split, *two_epochs, "--ckpt_path", last.format(1)]) == 0
    assert main(fit) == 0
    assert main([*split, *two_epochs, "--ckpt_path", last.format(3)]) == 0
    whole, *split_again = (torch.load(last.format(version)) for version in (0, 2, 4))
    for checkpoint in split_again:
        assert checkpoint["global_step"] == whole["global_step"] == 2
        torch.testing.assert_close(checkpoint["state_dict"], whole["state_dict"])
