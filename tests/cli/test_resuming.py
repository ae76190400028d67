"""A training that is killed and goes on by ``--ckpt_path last``, one on two devices, and what each training watches."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from finetuning import EPOCHS, kill_at_step, make_slurm, scalars, write_images, write_run
from tiny import CHECKPOINT, TINY, TRAINER

from fvlightning.cli import main
from fvlightning.cli._fitting import WholeCheckpoints
from fvlightning.errors import InputError

pytestmark = pytest.mark.usefixtures("in_folder")


def assert_same(value: object, other: object) -> None:
    """Assert that nested values of two checkpoints are equal, bit for bit."""
    assert type(value) is type(other)
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, other)
    elif isinstance(value, dict):
        assert value.keys() == other.keys()
        for key in value:
            assert_same(value[key], other[key])
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for pair in zip(value, other, strict=True):
            assert_same(*pair)
    else:
        assert value == other


def final(name: str) -> dict[str, object]:
    """Return what the only run of a config has left: weights, averages, optimiser, random states, scalars, pictures."""
    (folder,) = Path("runs", name).iterdir()
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3 * EPOCHS
    assert {"train/accuracy", "train/mean", "val/accuracy"} <= scalars(folder).keys()
    kept = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    pictures = [path.read_bytes() for path in sorted(folder.glob("features/epoch_0004/*/*.png"))]
    assert len(pictures) == 3
    return {key: checkpoint[key] for key in kept} | {
        "rng": checkpoint["callbacks"]["RandomStates"],
        "pictures": pictures,
        "scalars": scalars(folder),
    }


def fit(name: str, *args: str) -> int:
    return main(["fit", "--config", f"{name}.yaml", *args])


def start(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "fvlightning", "fit", "--config", f"{name}.yaml", *args]
    path = os.pathsep.join(map(str, Path(__file__).parents[1:3]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run(command, env=environment, timeout=100, capture_output=True, text=True)


def test_a_run_that_is_stopped_killed_or_queued_again_goes_on_to_the_same_weights(caplog, monkeypatch):
    caplog.set_level("INFO")
    write_images()
    write_run("whole")
    write_run("terminated")
    write_run("killed", every_n_train_steps=2)  # checkpoints within epochs
    write_run("interrupted", every_n_train_steps=3)  # after the last step of an epoch
    write_run("queued")
    for config in Path().glob("*.yaml"):
        config.write_text(config.read_text().replace("fvlightning.BackboneModule", "finetuning.LogsMeans"))
    assert fit("whole", "--ckpt_path", "last") == 0
    assert "There is no checkpoint in runs/whole yet: the training begins." in caplog.text
    assert fit("terminated", *kill_at_step("SIGTERM")) == 143
    assert fit("interrupted", "--trainer.callbacks+=tiny.InterruptsAfterEpoch", "--trainer.callbacks.epoch=2") == 130

    assert start("killed", *kill_at_step("SIGKILL")).returncode == -signal.SIGKILL
    unfinished = Path("runs/killed/version_0/features/.conv1.webp.1.tmp")
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))

    with monkeypatch.context() as slurm:
        for name, value in make_slurm().items():
            slurm.setenv(name, value)
        handler = signal.getsignal(signal.SIGUSR1)
        assert fit("queued", *kill_at_step("SIGUSR1")) == 143
        signal.signal(signal.SIGUSR1, handler)
    assert Path("asked.txt").read_text() == "requeue 4321\n"
    assert f"{CHECKPOINT.replace('default', 'queued')} is written, and job 4321 is queued again" in caplog.text

    for name in ("terminated", "interrupted", "killed", "queued"):
        assert fit(name, "--ckpt_path", "last") == 0
        assert f"The training goes on from runs/{name}/version_0/checkpoints/last.ckpt." in caplog.text
        assert_same(final(name), final("whole"))
    assert not unfinished.exists()


@pytest.mark.parametrize("checkpoint", [[], ["every_n_train_steps=2"], ["every_n_train_steps=2", "monitor=val/loss"]])
def test_a_run_that_is_stopped_between_validations_of_an_epoch_goes_on_with_each_of_them(checkpoint):
    data = {"train_size": 100, "val_size": 20, "test_size": 10, "batch_size": 20}  # four batches
    args = ["fit", "--model", "ClassifierModule", "--model.network", "CifarCNN", "--data", "ShapesDataModule"]
    args += [*TRAINER, *(f"--data.{name}={size}" for name, size in data.items())]
    args += ["--trainer.val_check_interval", "2", "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"]
    args += [f"--checkpoint.{setting}" for setting in checkpoint]
    assert main(args) == 0
    assert main([*args, *kill_at_step("SIGTERM", 6)]) == 143
    assert main([*args, "--ckpt_path", "last"]) == 0
    whole, stopped = (Path("runs/default/version_0"), Path("runs/default/version_1"))
    assert [*scalars(whole)["val/loss"]] == [1, 3, 5, 7]
    assert scalars(stopped) == scalars(whole)
    weights = (torch.load(folder / "checkpoints/last.ckpt")["state_dict"] for folder in (whole, stopped))
    assert_same(*weights)


def test_two_processes_train_to_the_weights_of_one_with_the_same_images_in_a_step():
    write_images()
    changes = {"model_name": "test_vit", "model_args": None, "mixup": 0.0, "cutmix": 0.0}
    changes["optimizer"] = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}
    strategy = "--trainer.strategy=ddp_find_unused_parameters_true"
    for name, batch_size in (("one", 8), ("two", 4)):
        write_run(name)
        config = yaml.safe_load(Path(f"{name}.yaml").read_text())
        config["model"]["init_args"] |= changes
        config["data"]["init_args"] |= {"batch_size": batch_size, "num_workers": 0}
        config["trainer"]["callbacks"] = config["trainer"]["callbacks"][:1]
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert fit("one") == 0
    assert start("two", "--trainer.devices=2", strategy).returncode == 0
    one, two = (torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt") for name in ("one", "two"))
    for key in ("state_dict", "current_model_state"):  # the averaged weights, and those of the last step
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


def test_stages_that_thaw_need_a_strategy_that_allows_it():
    write_images()
    write_run("two")
    # A process of its own: the strategy sets the port of later runs in the environment, and keeps it open.
    process = start("two", "--trainer.strategy", "ddp")
    assert process.returncode == 1
    line = process.stderr.splitlines()[-1]
    assert "BackboneModule(thaw_epoch=1): needs --trainer.strategy ddp_find_unused_parameters_true" in line


def test_a_checkpoint_counts_that_a_kill_has_left_without_its_link(capsys):
    assert main(["fit", *TINY]) == 0
    Path(CHECKPOINT).unlink()
    unfinished = Path(CHECKPOINT).with_name(".last.ckpt.1.tmp")
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))
    assert main(["fit", *TINY, "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0
    assert torch.load(CHECKPOINT)["epoch"] == 1
    assert not unfinished.exists()
    assert [path.name for path in Path("runs/default").iterdir()] == ["version_0"]
    assert "Checkpoint directory" not in capsys.readouterr().err


def test_last_is_looked_for_where_checkpoints_go(refused):
    args = ["fit", *TINY, "--checkpoint.dirpath", "kept", "--trainer.logger", "false", "--ckpt_path", "last"]
    assert main(args) == 0
    assert main([*args, "--trainer.max_epochs", "2"]) == 0
    assert torch.load("kept/last.ckpt")["epoch"] == 1
    message = "--ckpt_path last needs a logger with a folder, or --checkpoint.dirpath; or name a file"
    assert message in refused(["fit", *TINY, "--trainer.logger", "false", "--ckpt_path", "last"], 1)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    io, path = WholeCheckpoints(), tmp_path / "folder" / "last.ckpt"
    io.save_checkpoint({"state": torch.ones(2)}, path)

    class Full:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"no space left in .*folder"):
        io.save_checkpoint({"state": torch.zeros(2), "more": Full()}, path)
    assert torch.equal(torch.load(path)["state"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_loss_that_is_not_finite_ends_the_run_before_the_step(refused):
    args = ["--model", "tiny.LosesAtStep", *TINY[2:], "--data.size", "16", "--checkpoint.every_n_train_steps", "1"]
    line = refused(["fit", *args], 1)
    assert "the loss is nan in epoch 1, batch 3, at a learning rate of 0.1; no step was made on it; lower" in line
    checkpoint = torch.load(CHECKPOINT)
    assert checkpoint["global_step"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_the_start_says_what_a_step_takes(caplog):
    caplog.set_level("INFO")
    assert main(["fit", *TINY, "--trainer.accumulate_grad_batches", "2", "--model.lr", "0.25"]) == 0
    line = "A step takes 8 images (4 x 2 accumulated batches); the learning rate is at most 0.25."
    assert line in caplog.text
