"""Subcommands, and those of a user's own: one function, and one line in a subclass of `Trainer`."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import yaml
from tiny import CHECKPOINT, TINY

from fvlightning import Maximizer
from fvlightning.cli import VisionCLI, main
from fvlightning.cli._parsing import added_commands
from fvlightning.cli._usage import UsageError
from fvlightning.trainer import COMMANDS, Trainer

MODEL = ["--model", "tiny.TinyModel", "--model.width", "6"]
DATA = ["--data", "tiny.TinyData", "--data.size", "12"]
CPU = ["--trainer.accelerator", "cpu"]
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:.* without --ckpt_path"),
]
calls: list[dict[str, object]] = []


def census(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    depth: int = 2,
    *,
    maximizer: Maximizer | None = None,
    ckpt_path: str | None = None,
) -> None:
    """Count the weights of a model.

        own_program census --model MODEL --data DATA --depth 3

    Every module down to a depth has a row.

    Args:
        trainer: The trainer.
        model: The model.
        datamodule: The data.
        depth: How deep modules are listed.
        maximizer: How pictures are made.
        ckpt_path: Checkpoint with the weights.
    """
    calls.append({"trainer": trainer, "model": model, "datamodule": datamodule, "depth": depth, "maximizer": maximizer})


def greet(trainer: pl.Trainer, name: str) -> None:
    """Print a greeting."""
    print(f"hello {name}")


class UserTrainer(Trainer):
    census = census
    greet = greet


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def run(*args: str) -> VisionCLI:
    return VisionCLI(args, trainer_class=UserTrainer)


def usage_error(*args: str) -> str:
    with pytest.raises(UsageError) as raised:
        run(*args)
    return str(raised.value)


def test_the_commands_of_a_trainer_are_its_public_functions():
    assert tuple(added_commands(Trainer)) == COMMANDS
    assert tuple(added_commands(UserTrainer)) == (*COMMANDS, "census", "greet")
    assert added_commands(pl.Trainer) == {}


def test_a_command_gets_its_options_the_model_the_data_and_the_maximizer():
    run("census", *MODEL, *DATA, *CPU, "--depth", "3", "--maximizer", "Maximizer", "--maximizer.steps", "7")
    (call,) = calls
    assert isinstance(call["trainer"], UserTrainer)
    assert call["model"].net.out_features == 6
    assert call["datamodule"].size == 12
    assert call["datamodule"].trainer is call["trainer"]
    assert call["depth"] == 3
    assert call["maximizer"].settings.steps == 7
    assert list(Path().iterdir()) == [], "no logger by default"


def test_a_command_takes_a_config_and_its_defaults():
    config = {"model": {"class_path": "tiny.TinyModel"}, "data": {"class_path": "tiny.TinyData"}, "depth": 5}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    run("census", "--config", "mine.yaml", *CPU)
    assert (calls[0]["depth"], calls[0]["maximizer"]) == (5, None)


def test_a_command_demands_the_parameters_that_have_no_default():
    assert usage_error("census", *DATA, *CPU) == "census needs --model, or a --config file that has 'model'"
    assert usage_error("census", *MODEL, *CPU) == "census needs --data, or a --config file that has 'data'"
    assert usage_error("greet", *CPU) == "greet needs --name, or a --config file that has 'name'"
    assert calls == []


def test_a_command_takes_the_config_that_fit_saves_and_makes_only_what_it_uses(capsys):
    run("fit", *MODEL, *DATA, *CPU, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false")
    saved = "runs/default/version_0/config.yaml"
    config = yaml.safe_load(Path(saved).read_text())
    # Neither is made: the model would raise an error, and the maximizer's image file does not exist.
    config["model"] = {"class_path": "tiny.RefusedModel"}
    config["maximizer"] = {"class_path": "Maximizer", "init_args": {"initial_picture": "absent.png"}}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    cli = run("greet", "--config", "mine.yaml", "--name", "world")
    assert capsys.readouterr().out == "hello world\n"
    assert (cli.model, cli.datamodule) == (None, None)
    run("census", "--config", saved)
    assert calls[0]["model"].net.out_features == 6


@pytest.mark.parametrize("option", [MODEL, DATA, ["--maximizer.steps=2"], ["--ckpt_path=a.ckpt"]])
def test_options_that_a_command_does_not_use_are_refused(option):
    key = option[0].partition("=")[0].partition(".")[0]
    assert usage_error("greet", "--name", "world", *option, *CPU) == f"greet does not use {key}; leave it out"


def test_a_program_of_ones_own_has_the_errors_and_statuses_of_the_command_line(capsys):
    assert main(["greet", "--name", "world", *CPU], trainer_class=UserTrainer) == 0
    assert "hello world" in capsys.readouterr().out
    assert main(["greet", *CPU], trainer_class=UserTrainer) == 2
    assert capsys.readouterr().err == "error: greet needs --name, or a --config file that has 'name'\n"


def test_a_command_is_misspelt_in_one_line():
    message = usage_error("cenus", *CPU)
    assert f"{', '.join(COMMANDS)}, census, greet. Did you mean 'census'?" in message
    assert usage_error("census", *MODEL, *DATA, "--dept=3") == "no option '--dept'. Did you mean '--depth'?"


def test_the_help_of_a_command_is_its_docstring(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "census              Count the weights of a model." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("census", "--help")
    text = capsys.readouterr().out
    assert (
        "Count the weights of a model.\n\n    own_program census --model MODEL --data DATA --depth 3\n\nEvery " in text
    )
    assert "How deep modules are listed. (type: int, default: 2)" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_a_command_and_explains_every_option(command, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    text = capsys.readouterr().out
    assert f"\n    fvlightning {command} " in text
    for name in added_commands(Trainer)[command].keys() - {"trainer", "model", "datamodule"}:
        described = text.partition(f"\n  --{name} ")[2].split("\n  --")[0]
        assert len(described.split("(type")[0].split()) > 3, name


def test_each_subcommand_takes_the_config_that_fit_saves(refused):
    assert main(["fit", *TINY, "--test_after_fit", "true"]) == 0
    saved = ["--config", "runs/default/version_0/config.yaml", "--trainer.logger", "false"]
    weights = ["--ckpt_path", CHECKPOINT]
    for subcommand in ("fit", "validate", "test", "predict"):
        assert main([subcommand, *saved, *(weights if subcommand != "fit" else [])]) == 0
    options = {"inspect": ["--images", "photo.jpg", "--layers", "net"]}
    # The config is read, but the tiny model takes no pictures, and its data have none.
    for subcommand in ("visualize", "examples", "inspect", "weights", "compare"):
        assert "TestableModel's pictures is not known" in refused(
            [subcommand, *saved, *weights, *options.get(subcommand, [])], 1
        )
    assert "TinyData has images of shape (4,)" in refused(["magnitude", *saved, "--output", "spectrum.pt"], 1)


def test_a_trainer_class_without_commands_has_lightnings():
    options = [*MODEL, *DATA, *CPU, "--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
    VisionCLI(["fit", *options], trainer_class=pl.Trainer)
    with pytest.raises(UsageError, match="no subcommand 'visualize'; subcommands: fit, validate, test, predict"):
        VisionCLI(["visualize", *options], trainer_class=pl.Trainer)
