import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fvlightning.cli import main
from fvlightning.cli.vision_cli import VisionCLI
from fvlightning.trainer import Trainer

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
TINY = ["--model", "tiny.TestableModel", "--data", "tiny.TinyData", *TRAINER]
CHECKPOINT = "runs/default/version_0/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    """Each test has a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Return the one line that `args` end in, after checking the status and that it is one line."""

    def run(args: list[str], status: int) -> str:
        assert main(args) == status
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return run


def write_config(path: str, **settings: object) -> str:
    trainer = {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False, **settings.pop("trainer", {})}
    config = {
        "model": {"class_path": "tiny.TestableModel"},
        "data": {"class_path": "tiny.TinyData"},
        "trainer": trainer,
        **settings,
    }
    Path(path).write_text(yaml.safe_dump(config))
    return path


def test_fit_says_where_the_results_lie(capsys):
    assert main(["fit", *TINY]) == 0
    out = capsys.readouterr().out
    assert "Results:     runs/default/version_0\n" in out
    assert f"Checkpoint:  {CHECKPOINT}\n" in out
    assert "tensorboard --logdir runs --samples_per_plugin images=1000\n" in out
    assert Path(CHECKPOINT).exists()
    assert Path("runs/default/version_0/config.yaml").exists()
    assert [path.name for path in Path().iterdir()] == ["runs"]


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


@pytest.mark.parametrize("logger", ["true", "null"])
def test_logger_true_is_the_default_logger(logger):
    assert main(["fit", *TINY, "--trainer.logger", logger]) == 0
    assert Path(CHECKPOINT).exists()
    assert [path.name for path in Path().iterdir()] == ["runs"]


@pytest.mark.parametrize("settings", [["--trainer.logger", "false"], ["--trainer.fast_dev_run", "true"]])
def test_without_logger_nothing_is_written(settings):
    assert main(["fit", *TINY, *settings]) == 0
    assert list(Path().iterdir()) == []


def test_barebones_trainer():
    args = [arg for arg in TINY if arg not in ("--trainer.enable_progress_bar", "false")]
    with pytest.warns(UserWarning, match="barebones"):
        assert main(["fit", *args, "--trainer.barebones", "true"]) == 0
    assert list(Path().iterdir()) == []


def test_without_logger_checkpoints_go_where_they_are_sent():
    assert main(["fit", *TINY, "--trainer.logger", "false", "--checkpoint.dirpath", "kept"]) == 0
    assert [path.name for path in Path().iterdir()] == ["kept"]
    assert Path("kept/last.ckpt").exists()


def test_checkpointing_can_be_switched_off(capsys):
    assert main(["fit", *TINY, "--trainer.enable_checkpointing", "false"]) == 0
    assert not list(Path().rglob("*.ckpt"))
    assert "Checkpoint:" not in capsys.readouterr().out


def test_rerun_into_the_same_folder():
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


def test_each_subcommand_takes_the_config_that_fit_saves():
    assert main(["fit", *TINY, "--test_after_fit", "true"]) == 0
    saved = ["--config", "runs/default/version_0/config.yaml", "--trainer.logger", "false"]
    weights = ["--ckpt_path", "runs/default/version_0/checkpoints/last.ckpt"]
    options = {"fit": [], "magnitude": ["--output", "spectrum.pt"]}
    for subcommand in VisionCLI.subcommands():
        # The config is read, but the tiny model takes no pictures, and its data has none.
        expected = 1 if subcommand in ("visualize", "compare", "magnitude") else 0
        assert main([subcommand, *saved, *options.get(subcommand, weights)]) == expected


def test_weights_that_nobody_trained_are_warned_of():
    with pytest.warns(UserWarning, match="test without --ckpt_path uses the weights that the model is made with"):
        assert main(["test", *TINY]) == 0


def test_same_seed_by_default():
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
def test_public_classes_by_their_short_names(prefix, capsys):
    args = ["--model", f"{prefix}ClassifierModule", "--model.network", f"{prefix}MnistCNN"]
    args += ["--data", f"{prefix}MNISTDataModule"]
    assert main(["fit", *args, "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["class_path"] == "fvlightning.ClassifierModule"
    assert config["model"]["init_args"]["network"]["class_path"] == "fvlightning.MnistCNN"
    assert config["data"]["class_path"] == "fvlightning.MNISTDataModule"


def test_trainer_class_can_be_replaced():
    class OwnTrainer(Trainer):
        pass

    assert isinstance(VisionCLI(["fit", *TINY], trainer_class=OwnTrainer).trainer, OwnTrainer)


def test_no_advertisements():
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(handler)
    filters = list(logger.filters)
    assert main(["fit", *TINY]) == 0
    logger.removeHandler(handler)
    assert records
    assert not [message for message in records if "Tip" in message]
    assert logger.filters == filters


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"]])
def test_help(args, capsys):
    assert main(args) == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_resume_goes_on_from_the_checkpoint():
    assert main(["fit", *TINY]) == 0
    assert main(["fit", *TINY, "--ckpt_path", CHECKPOINT, "--trainer.max_epochs", "2"]) == 0
    assert torch.load("runs/default/version_1/checkpoints/last.ckpt")["global_step"] == 4


@pytest.mark.parametrize(
    ("given", "warned"),
    [([], False), (["--model.lr", "0.3"], False), (["--model.lr", "0.1"], True), (["-c", "other.yaml"], True)],
)
def test_hyperparameter_that_the_checkpoint_overrides_is_named(given, warned):
    model = {"class_path": "tiny.TestableModel", "init_args": {"lr": 0.1}}  # the default, but given
    write_config("other.yaml", model=model)
    assert main(["fit", *TINY, "--model.lr", "0.3"]) == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["test", *TINY, *given, "--ckpt_path", CHECKPOINT]) == 0
    messages = [str(warning.message) for warning in caught if "has no effect" in str(warning.message)]
    assert len(messages) == warned
    if warned:
        assert messages[0].startswith("--model.init_args.lr 0.1 has no effect")
        assert CHECKPOINT in messages[0]
        assert "was made with 0.3" in messages[0]


def test_optimizer_of_the_checkpoint_is_no_news_where_nothing_is_trained(mnist_dir):
    model = ["--model", "ClassifierModule", "--model.network", "MnistMLP"]
    data = ["--data", "MNISTDataModule", "--data.data_dir", str(mnist_dir), "--data.download", "false"]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0"]
    data += ["--data.val_size", "64"]
    short += ["--trainer.limit_test_batches", "1", "--trainer.accelerator", "cpu"]
    optimizer = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr"]
    assert main(["fit", *model, *data, *short, *optimizer, "0.5"]) == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["test", *model, *data, *short, *optimizer, "0.1", "--ckpt_path", CHECKPOINT]) == 0
    assert not [warning for warning in caught if "has no effect" in str(warning.message)]


def test_missing_checkpoint_names_those_in_its_folder(refused):
    assert main(["fit", *TINY]) == 0
    line = refused(["test", *TINY, "--ckpt_path", "runs/default/version_0/checkpoints/first.ckpt"], 1)
    assert "no checkpoint 'runs/default/version_0/checkpoints/first.ckpt'" in line
    assert CHECKPOINT in line


def test_missing_checkpoint_names_those_under_runs(refused):
    assert "none under 'runs'" in refused(["test", *TINY, "--ckpt_path", "nothing.ckpt"], 1)
    assert main(["fit", *TINY]) == 0
    for missing in ["nothing.ckpt", "elsewhere/nothing.ckpt", "best", "last"]:
        line = refused(["test", *TINY, "--ckpt_path", missing], 1)
        assert f"no checkpoint '{missing}'" in line
        assert CHECKPOINT in line


def test_missing_checkpoint_names_one_a_run_the_closest_first(refused):
    assert main(["fit", *TINY, "--checkpoint.dirpath", "runs/tiny/version_0/checkpoints"]) == 0
    for run in range(1, 7):
        shutil.copytree("runs/tiny/version_0", f"runs/tiny/version_{run}", symlinks=True)
    for run in range(7):
        os.utime(f"runs/tiny/version_{run}/checkpoints/last.ckpt", (run, run))
    line = refused(["test", *TINY, "--ckpt_path", "nothing.ckpt"], 1)
    folders = [f"runs/tiny/version_{run}/checkpoints" for run in (6, 5, 4, 3, 2)]
    named = ", ".join(f"{folder}/last.ckpt" for folder in folders)
    assert line.endswith(f"no checkpoint 'nothing.ckpt'; checkpoints: {named} and 2 more")

    line = refused(["test", *TINY, "--ckpt_path", "runs/tinny/version_1/checkpoints/last.ckpt"], 1)
    assert "checkpoints: runs/tiny/version_1/checkpoints/last.ckpt, runs/tiny/version_6/checkpoints/last.ckpt," in line
    # `last.ckpt` is a link to it: the same weights are not named twice.
    line = refused(["test", *TINY, "--ckpt_path", "runs/tiny/version_1/checkpoints/epoch=0-step=3.ckpt"], 1)
    assert line.endswith("; checkpoints: runs/tiny/version_1/checkpoints/epoch=0-step=2.ckpt")


@pytest.mark.parametrize("content", [b"", b"model: 3", bytes(range(256)), b"PK\x03\x04" + bytes(100)])
def test_file_that_is_no_checkpoint(content, refused):
    Path("other.ckpt").write_bytes(content)
    assert "'other.ckpt' is not a checkpoint" in refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)


def test_weights_without_the_rest_are_no_lightning_checkpoint(refused):
    torch.save({"weight": torch.zeros(2)}, "other.ckpt")
    line = refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)
    assert "'other.ckpt' is not a Lightning checkpoint: it has no 'state_dict'" in line


def test_checkpoint_that_holds_code_is_refused(refused):
    torch.save({"state_dict": {}, "code": subprocess.run}, "code.ckpt")
    line = refused(["test", *TINY, "--ckpt_path", "code.ckpt"], 1)
    assert "'code.ckpt' holds more than tensors and plain values, and is refused" in line


def test_checkpoint_of_another_model(refused):
    assert main(["fit", *TINY]) == 0
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["state_dict"] = {"other.weight": torch.zeros(2)}
    torch.save(checkpoint, "other.ckpt")
    assert "'other.ckpt' does not fit TestableModel" in refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"lr": "fast"}, "the model does not take the hyperparameters of 'other.ckpt': .*lr: expected float, got fast"),
        ({"depth": 3}, "the model cannot be made with these parameters: .* unexpected keyword argument 'depth'"),
    ],
)
def test_checkpoint_with_other_hyperparameters(hyperparameters, message, refused):
    assert main(["fit", *TINY]) == 0
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["hyper_parameters"] |= hyperparameters
    torch.save(checkpoint, "other.ckpt")
    assert re.search(message, refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no subcommand given; subcommands: fit, validate, test, predict"),
        (
            ["fti"],
            "no subcommand 'fti'; first comes one of: fit, validate, test, predict, visualize, compare, magnitude. ",
        ),
        (["fit"], "fit needs --model, or a --config file that has 'model'"),
        (["fit", *TINY, "--trainer.max_epohcs", "3"], "no option '--trainer.max_epohcs'. Did you mean '--trainer.max_"),
        (
            ["fit", *TINY, "--trainer.max_epoch=3"],
            "no option '--trainer.max_epoch'. Did you mean '--trainer.max_epochs'",
        ),
        (["fit", *TINY, "stray"], "unexpected argument 'stray'"),
        (["fit", *TINY, "--trainer.max_epochs", "many"], "trainer.max_epochs: expected int, got many"),
        (["fit", *TINY, "--model.lr", "fast"], "model: tiny.TestableModel: lr: expected float, got fast"),
        (["fit", *TINY, "--model.widht", "3"], "no parameter 'widht'; parameters: lr, width. Did you mean 'width'?"),
        (["fit", "--config", "absent.yaml"], "absent.yaml'"),
        (["fit", "--model", "tiny.TinyModell"], "no 'TinyModell' in 'tiny'. Did you mean 'TinyModel'"),
        (["fit", "--model", "tinny.TinyModel"], "no module 'tinny'. Did you mean 'tiny'"),
        (["fit", "--model", "fvlightning.ClasifierModule"], "Did you mean 'ClassifierModule'?"),
        (["fit", "--model", "fvlightning.model.X"], "no 'model' in 'fvlightning'. Did you mean 'models'?"),
        (["fit", "--model", "ClasifierModule"], "no class 'ClasifierModule'; give its full path"),
        (["fit", "--model", "torch.nn.Linear"], "'torch.nn.Linear' is not a subclass of LightningModule"),
    ],
)
def test_command_line_that_cannot_be_understood(args, message, refused):
    assert message in refused(args, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modell": {"class_path": "tiny.TinyModel"}}, "no config key 'modell.class_path'. Did you mean 'model'?"),
        ({"trainer": {"max_epoch": 3}}, "no config key 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'"),
        ({"checkpoint": {"save_lst": True}}, "Did you mean 'checkpoint.save_last'"),
        ({"model": {"class_path": "tiny.TinyModel", "init_args": {"lrr": 1}}}, "no parameter 'lrr'"),
        ({"model": {"class_path": "tiny.TinyModel", "init_arg": {"lr": 1}}}, "Did you mean 'init_args'?"),
        ({"data": {"class_path": "tiny.TinyDatta"}}, "no 'TinyDatta' in 'tiny'. Did you mean 'TinyData'"),
        (
            {"trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.Timr"}]}},
            "cannot import 'lightning.pytorch.callbacks.Timr': no 'Timr' in 'lightning.pytorch.callbacks'. "
            "Did you mean 'Timer'?",
        ),
    ],
)
def test_config_that_cannot_be_understood(settings, message, refused):
    assert message in refused(["fit", "--config", write_config("mine.yaml", **settings)], 2)


def test_config_that_is_no_yaml(refused):
    Path("mine.yaml").write_text("model:\n  class_path: [")
    assert "Problems parsing config" in refused(["fit", "--config", "mine.yaml"], 2)


def test_missing_config_names_the_closest(refused):
    write_config("quickstart.yaml")
    assert "Did you mean 'quickstart.yaml'?" in refused(["fit", "--config", "quikstart.yaml"], 2)


def test_config_before_the_subcommand(refused):
    assert "after the subcommand" in refused(["--config", write_config("mine.yaml"), "fit"], 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "tiny.RefusedModel"], "error: the constructor refuses this"),
        (["--model", "tiny.RefusedLater"], "error: the hook refuses this"),
        (["--trainer.callbacks+=tiny.RefusedCallback"], "error: the callback refuses this"),
        (["--trainer.accelerator", "abacus"], "invalid accelerator name"),
        (["--trainer.limit_val_batches", "-1"], "limit_val_batches"),
    ],
)
def test_setting_that_cannot_be_used(args, message, refused):
    assert message in refused(["fit", *TINY, *args], 1)


def test_unwritable_runs(refused):
    Path("runs").touch()
    line = refused(["fit", *TINY], 1)
    assert re.search(r"cannot use '.*runs/default", line)


def test_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["fit", *TINY, "--model", "tiny.BuggyModel"])


@pytest.mark.parametrize(("callback", "status"), [("tiny.PressesCtrlC", 130), ("tiny.Terminates", 143)])
def test_status_after_a_signal(callback, status, capsys):
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert main(["fit", *TINY, f"--trainer.callbacks+={callback}"]) == status
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert "Results:     runs/default/version_0" in capsys.readouterr().out


def test_module_is_the_command_line():
    command = [sys.executable, "-m", "fvlightning", "fit", "--config", "absent.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: no config file '.*absent\.yaml'\.\n", done.stderr)


def shorten(settings: object) -> object:
    """Return `settings` with every number of steps cut to 2."""
    if isinstance(settings, dict):
        return {key: 2 if key == "steps" else shorten(value) for key, value in settings.items()}
    return [shorten(value) for value in settings] if isinstance(settings, list) else settings


@pytest.mark.parametrize(
    "config", [path for path in CONFIGS if "data:" in path.read_text()], ids=lambda path: path.stem
)
def test_config_trains(config, mnist_dir):
    settings = yaml.safe_load(config.read_text())
    callbacks = shorten(settings["trainer"].get("callbacks", []))
    short: dict[str, object] = {"trainer": {"callbacks": callbacks}}
    if "CIFAR10" in settings["data"]["class_path"]:  # generated pictures of the same size, in as many classes
        sizes = {"train_size": 192, "test_size": 32, "val_size": 32}
        short["data"] = {"class_path": "fvlightning.data.ShapesDataModule", "init_args": sizes}
    Path("short.yaml").write_text(yaml.safe_dump(short))
    args = ["--config", str(config), "--config", "short.yaml", *TRAINER, "--trainer.logger.init_args.save_dir", "out"]
    if "MNIST" in settings["data"]["class_path"]:
        args += ["--data.source", "mnist", "--data.data_dir", str(mnist_dir), "--data.val_size", "64"]
    assert main(["fit", *args]) == 0
    assert list(Path("out").rglob("last.ckpt"))


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize("config", [path for path in CONFIGS if "imagenet_" in path.stem], ids=lambda path: path.stem)
def test_config_of_a_backbone_makes_pictures(config):
    unit = re.search(r"--units '\[\"(.+?)\"\]'", config.read_text())[1]
    small = ["--model.weights", "null", "--model.input_shape", "[3, 64, 64]", "--trainer.accelerator", "cpu"]
    maximizer = ["--maximizer", "fvlightning.Maximizer", "--maximizer.steps", "2"]
    assert main(["visualize", "--config", str(config), *small, *maximizer, "--units", f'["{unit}"]']) == 0
    assert list(Path("out").glob("*/*.png"))


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize("config", [path for path in CONFIGS if "maximizer_" in path.stem], ids=lambda path: path.stem)
def test_config_of_pictures_makes_some(config):
    quickstart = next(path for path in CONFIGS if path.stem == "quickstart")
    args = ["--config", str(quickstart), "--config", str(config), "--maximizer.steps=2", "--units", '["conv2:0"]']
    assert main(["visualize", *args, "--trainer.accelerator", "cpu"]) == 0
    assert Path("out/conv2/0.png").exists()


@pytest.mark.filterwarnings("ignore:compare without --ckpt_path")
def test_config_of_spaces_compares_them():
    cnn, vae, spaces = (str(CONFIGS[0].with_name(f"cifar10_{name}.yaml")) for name in ("cnn", "vae", "spaces"))
    sizes = {"train_size": 64, "test_size": 16, "val_size": 16}
    data = {"class_path": "fvlightning.data.ShapesDataModule", "init_args": sizes}
    Path("short.yaml").write_text(yaml.safe_dump({"data": data}))
    small = ["--config", "short.yaml", "--trainer.accelerator", "cpu"]
    vae_args = ["--model.latent_size", "8", "--model.widths", "[4, 8]", "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", vae, *small, *vae_args, "--trainer.enable_progress_bar", "false"]) == 0
    Path("runs/short").rename("runs/cifar10_vae")  # a run is named after the last config
    args = ["--config", cnn, "--config", spaces, *small, "--maximizer.steps", "2", "--units", '["fc2:0-1"]']
    assert main(["compare", *args]) == 0
    names = yaml.safe_load(Path(spaces).read_text())["spaces"]
    assert sorted(path.name for path in Path("comparison").iterdir() if path.is_dir()) == sorted(names)
    assert Path("comparison/comparison.md").exists()
