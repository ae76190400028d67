"""Bad input ends in one line that names the mistake, and in an exit status; signals have theirs."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY, write_config

from fvlightning.cli import main

pytestmark = pytest.mark.usefixtures("in_folder")


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"]])
def test_help_starts_with_the_usage(args, capsys):
    assert main(args) == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no subcommand given; subcommands: fit, validate, test, predict"),
        (
            ["fti"],
            "no subcommand 'fti'; subcommands: fit, validate, test, predict, visualize, compare, magnitude. ",
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
def test_a_mistake_on_the_command_line_ends_in_one_line(args, message, refused):
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
def test_a_mistake_in_a_config_ends_in_one_line(settings, message, refused):
    assert message in refused(["fit", "--config", write_config("mine.yaml", **settings)], 2)


def test_a_config_that_is_not_yaml_ends_in_one_line(refused):
    Path("mine.yaml").write_text("model:\n  class_path: [")
    assert "Problems parsing config" in refused(["fit", "--config", "mine.yaml"], 2)


def test_a_missing_config_names_the_closest(refused):
    write_config("quickstart.yaml")
    assert "Did you mean 'quickstart.yaml'?" in refused(["fit", "--config", "quikstart.yaml"], 2)


def test_a_config_before_the_subcommand_ends_in_one_line(refused):
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
def test_errors_of_constructors_and_hooks_end_in_one_line(args, message, refused):
    assert message in refused(["fit", *TINY, *args], 1)


def test_a_folder_that_cannot_be_written_ends_in_one_line(refused):
    Path("runs").touch()
    line = refused(["fit", *TINY], 1)
    assert re.search(r"cannot use '.*runs/default", line)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError, match="a defect"):
        main(["fit", *TINY, "--model", "tiny.BuggyModel"])


@pytest.mark.parametrize(("callback", "status"), [("tiny.PressesCtrlC", 130), ("tiny.Terminates", 143)])
def test_a_signal_gives_the_status_and_prints_the_results(callback, status, capsys):
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert main(["fit", *TINY, f"--trainer.callbacks+={callback}"]) == status
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert "Results:     runs/default/version_0" in capsys.readouterr().out


def test_the_module_is_the_command_line():
    command = [sys.executable, "-m", "fvlightning", "fit", "--config", "absent.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: no config file '.*absent\.yaml'\n", done.stderr)
