"""`fit` by the command line: where its results are, and its defaults."""

import logging
import os
import re
from pathlib import Path

import pytest
import timm
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CHECKPOINT, TINY, write_config
from torch import nn

from fvlightning.cli import main
from fvlightning.cli._fitting import SyncBatchNorms

pytestmark = pytest.mark.usefixtures("in_folder")


def test_fit_prints_where_the_results_are(capsys):
    assert main(["fit", *TINY]) == 0
    out = capsys.readouterr().out
    assert "Results:     runs/default/version_0\n" in out
    assert f"Checkpoint:  {CHECKPOINT}\n" in out
    assert "tensorboard --logdir runs --samples_per_plugin images=1000\n" in out
    assert Path(CHECKPOINT).exists()
    assert Path("runs/default/version_0/config.yaml").exists()
    assert [path.name for path in Path().iterdir()] == ["runs"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there_is_named(refused):
    line = refused(["fit", *TINY, "--trainer.accelerator", "cuda", "--trainer.devices", "4"], 1)
    assert line == "error: --trainer.accelerator cuda: torch finds no GPU here; leave it out, or give cpu"


def test_synchronised_batch_norms_keep_the_activations_of_timms():
    network = timm.create_model("test_efficientnet").eval()
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected, keys = network(pictures), list(network.state_dict())
    sync = SyncBatchNorms()
    network = sync.revert(sync.apply(network))
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert torch.equal(network(pictures), expected)
    assert list(network.state_dict()) == keys


def test_lr_is_logged():
    assert main(["fit", *TINY, "--trainer.log_every_n_steps", "1"]) == 0
    events = EventAccumulator("runs/default/version_0").Reload()
    assert {"lr-SGD", "val/loss"} <= set(events.Tags()["scalars"])


def test_run_is_named_after_its_config():
    assert main(["fit", "--config", write_config("mine.yaml")]) == 0
    assert main(["fit", f"--config={write_config('mine.yaml')}"]) == 0
    assert sorted(path.name for path in Path("runs/mine").iterdir()) == ["version_0", "version_1"]


def test_logger_and_checkpoint_are_set_from_yaml():
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "there", "name": "it"}}
    checkpoint = {"filename": "weights", "save_last": False}
    assert main(["fit", "-c", write_config("mine.yaml", trainer={"logger": logger}, checkpoint=checkpoint)]) == 0
    assert Path("there/it/version_0/checkpoints/weights.ckpt").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("logger", [[], ["--trainer.logger", "true"]])
def test_runs_go_to_the_default_root_dir(logger, capsys):
    assert main(["fit", *TINY, "--trainer.default_root_dir", "there", *logger]) == 0
    assert [path.name for path in Path().iterdir()] == ["there"]
    assert Path("there/default/version_0/checkpoints/last.ckpt").exists()
    assert "tensorboard --logdir there " in capsys.readouterr().out


def test_a_folder_of_the_logger_comes_before_the_default_root_dir():
    folders = ["--trainer.default_root_dir", "there", "--trainer.logger.save_dir", "here"]
    assert main(["fit", *TINY, *folders]) == 0
    assert [path.name for path in Path().iterdir()] == ["here"]


@pytest.mark.parametrize("logger", ["true", "null"])
def test_true_and_null_are_the_default_logger(logger):
    assert main(["fit", *TINY, "--trainer.logger", logger]) == 0
    assert Path(CHECKPOINT).exists()
    assert [path.name for path in Path().iterdir()] == ["runs"]


@pytest.mark.parametrize("settings", [["--trainer.logger", "false"], ["--trainer.fast_dev_run", "true"]])
def test_without_logger_nothing_is_written(settings):
    assert main(["fit", *TINY, *settings]) == 0
    assert list(Path().iterdir()) == []


def test_a_barebones_trainer_writes_nothing():
    args = [arg for arg in TINY if arg not in ("--trainer.enable_progress_bar", "false")]
    with pytest.warns(UserWarning, match="barebones"):
        assert main(["fit", *args, "--trainer.barebones", "true"]) == 0
    assert list(Path().iterdir()) == []


def test_without_logger_checkpoints_go_to_a_given_folder():
    assert main(["fit", *TINY, "--trainer.logger", "false", "--checkpoint.dirpath", "kept"]) == 0
    assert [path.name for path in Path().iterdir()] == ["kept"]
    assert Path("kept/last.ckpt").exists()


def test_checkpointing_can_be_switched_off(capsys):
    assert main(["fit", *TINY, "--trainer.enable_checkpointing", "false"]) == 0
    assert not list(Path().rglob("*.ckpt"))
    assert "Checkpoint:" not in capsys.readouterr().out


def test_a_second_run_into_the_same_folder_replaces_its_config():
    args = ["fit", *TINY, "--trainer.logger.init_args.version", "0"]
    assert main(args) == 0
    with pytest.warns(UserWarning, match="exists and is not empty"):
        assert main([*args, "--model.lr", "0.3"]) == 0
    config = yaml.safe_load(Path("runs/default/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 0.3


def test_test_after_fit_prints_the_accuracy(capsys):
    assert main(["fit", *TINY, "--test_after_fit", "true"]) == 0
    assert re.search(r"test/accuracy\W+0\.75", capsys.readouterr().out)


def test_test_after_fit_is_refused_before_training(refused):
    args = [*TINY, "--model", "tiny.TinyModel", "--test_after_fit", "true"]
    assert "TinyModel has none" in refused(["fit", *args], 1)
    assert not list(Path().rglob("*.ckpt"))


def test_runs_have_the_same_seed_by_default():
    for _ in range(2):
        assert main(["fit", *TINY]) == 0
    first, second = (torch.load(path)["state_dict"] for path in sorted(Path().rglob("last.ckpt")))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_printed_config_is_the_default_run(capsys):
    assert main(["fit", *TINY, "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["weights_only"] is True
    assert config["test_after_fit"] is False
    assert config["seed_everything"] == 0
    assert config["trainer"]["logger"]["init_args"]["save_dir"] == "runs"
    assert config["checkpoint"]["save_last"] == "link"
    assert "logging_interval" in config["lr_monitor"]
    Path("again.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "again.yaml"]) == 0


@pytest.mark.parametrize("prefix", ["", "fvlightning."])
def test_public_classes_have_short_names(prefix, capsys):
    args = ["--model", f"{prefix}ClassifierModule", "--model.network", f"{prefix}MnistCNN"]
    args += ["--data", f"{prefix}MNISTDataModule"]
    assert main(["fit", *args, "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["class_path"] == "fvlightning.ClassifierModule"
    assert config["model"]["init_args"]["network"]["class_path"] == "fvlightning.MnistCNN"
    assert config["data"]["class_path"] == "fvlightning.MNISTDataModule"


def test_lines_that_no_user_needs_are_silenced():
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    loggers = [
        logging.getLogger(f"lightning.{name}") for name in ("pytorch.utilities.rank_zero", "fabric.utilities.seed")
    ]
    filters = [list(logger.filters) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    assert main(["fit", *TINY]) == 0
    for logger in loggers:
        logger.removeHandler(handler)
    step = "A step takes 4 images; the learning rate is at most 0.1."
    assert records == [step, "`Trainer.fit` stopped: `max_epochs=1` reached."]
    assert [logger.filters for logger in loggers] == filters


def test_a_log_file_has_whole_lines_and_epochs_from_one(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    bar = ["--trainer.enable_progress_bar", "true", "--trainer.max_epochs", "2"]
    assert main(["fit", *TINY, *bar, "--model", "tiny.LongNamesModel", "--test_after_fit", "true"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^Epoch 2/2 .* 2/2 .*it/s *$", out, re.MULTILINE)
    assert 60 * "n" in out
    assert "COLUMNS" not in os.environ
