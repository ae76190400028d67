"""Bad input ends in one line that names the mistake, and in an exit status; signals have theirs."""

import inspect
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningCLI
from tiny import TINY, TRAINER, write_config

from fvlightning.cli import main
from fvlightning.cli._subcommands import SUBCOMMANDS
from fvlightning.trainer import COMMANDS, Trainer

MNIST = ["--model", "ClassifierModule", "--model.network", "MnistMLP", "--data", "MNISTDataModule"]
pytestmark = pytest.mark.usefixtures("in_folder")


def test_help_of_the_program_lists_its_subcommands_without_a_heavy_import(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: fvlightning SUBCOMMAND ")
    assert list(SUBCOMMANDS) == [*LightningCLI.subcommands(), *COMMANDS]
    for name, purpose in SUBCOMMANDS.items():
        assert f"\n  {name} " in text
        if name in COMMANDS:
            assert inspect.getdoc(getattr(Trainer, name)).startswith(purpose.rstrip("."))
    code = (
        "import sys; from fvlightning.cli import main as f; f(['--help']); f(['fti']); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("subcommand", "groups"),
    [
        ("fit", ["options", "model", "data", "command", "trainer", "checkpoint", "lr_monitor"]),
        ("visualize", ["command", "options", "model", "data", "trainer", "checkpoint", "lr_monitor"]),
    ],
)
def test_help_of_a_subcommand_begins_with_an_example_and_its_own_options(subcommand, groups, capsys):
    assert main([subcommand, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fvlightning {subcommand} [--config FILE] [--OPTION VALUE] ...\n")
    assert f"\n    fvlightning {subcommand} --config configs/quickstart.yaml" in text
    assert re.findall(r"^(?:options of the )?(\w+):$", text, re.MULTILINE) == groups


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no subcommand given; subcommands: fit, validate, test, predict"),
        (
            ["fti"],
            "no subcommand 'fti'; subcommands: fit, validate, test, predict, visualize, examples, inspect, weights, ",
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
        (["fit", "--model", ""], "'' is not a class path"),
        (["fit", "--model.lr", "3"], "'lr' is a parameter of the model, whose class is missing"),
        (["fit", "--model", "ClassifierModule"], "fvlightning.ClassifierModule needs 'network'"),
        (
            ["fit", "--model", "ClassifierModule", "--model.network", "torch.nn.Linear"],
            "torch.nn.Linear needs 'in_feat",
        ),
        (["fit", *TINY, "--config="], "no config file ''"),
        (["fit", *TINY, "--trainer", "3"], "--trainer 3: no such file; give a config file, or the settings one by one"),
        (["fit", *TINY, "--seed_everything", "x"], "seed_everything: expected bool or int, got x"),
        (["fit", *TINY, "--lr_monitor.logging_interval", "x"], "expected one of 'step', 'epoch', got x"),
        (["fit", *MNIST, "--model.optimizer", "torch.optim.Adem"], "no 'Adem' in 'torch.optim'. Did you mean 'Adam'"),
        (["fit", *MNIST, "--model.optimizer", "torch.nn.Linear"], "'torch.nn.Linear' is not a subclass of Optimizer"),
        (["fit", *MNIST, "--model.optimizer.lr", "fast"], "optimizer: lr: expected float, got fast"),
        (["fit", *MNIST, "--model.scheduler.gamma", "1"], "'gamma' is a parameter of the scheduler, whose class is"),
        (["fit", *MNIST, "--model.scheduler", "torch.optim.lr_scheduler.StepLR"], "StepLR needs 'step_size'"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model:\n  class_path: [", "Problems parsing config 'mine.yaml': "),
        (bytes(range(256)), "cannot read config 'mine.yaml': it is not text"),
        (b"# model:", "config 'mine.yaml' is empty; give a YAML file with keys such as model, data and trainer"),
        (b"[model, data]", "config 'mine.yaml' has no keys"),
        (b"trainer: 5", "config 'mine.yaml': trainer is 5; it must have settings, by name"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(content, message, refused):
    Path("mine.yaml").write_bytes(content)
    assert message in refused(["fit", *TINY, "--config", "mine.yaml"], 2)


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
        (["--trainer.devices", "x"], "--trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
        (["--trainer.devices", "0"], "--trainer.devices 0: must be at least 1; leave it out for all devices"),
        (["--trainer.devices", "999"], "--trainer.devices 999: must be at most "),
        (["--trainer.accumulate_grad_batches", "0"], "--trainer.accumulate_grad_batches 0: must be at least 1"),
        (["--trainer.val_check_interval", "99"], "`val_check_interval` (99) must be less than or equal to"),
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=x"], "conditioned on metric `x`"),
        (["--trainer.strategy", "ddp_spawn"], "--trainer.strategy ddp_spawn: cannot pass the model to a process"),
        (["--trainer.strategy", "fsdp3"], "fsdp3: is none of auto, ddp, fsdp2, and Lightning's others. Did you mean "),
        (["--trainer.devices", "2", "--trainer.sync_batchnorm", "true"], "--trainer.sync_batchnorm true: is for GPUs"),
        (["--model", "tiny.TooLargeModel"], "error: out of memory: lower --data.batch_size, with "),
        (["--seed_everything", "-1"], "--seed_everything: -1 is not in bounds"),
        (["--model", "tiny.BrokenModel"], "--model BrokenModel: KeyError: 'width' ("),
    ],
)
def test_errors_of_constructors_and_hooks_end_in_one_line(args, message, refused):
    assert message in refused(["fit", *TINY, *args], 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.network", "torch.nn.Linear", "--model.network.in_features=-1", "--model.network.out_features=1"],
            "--model.network Linear: RuntimeError: Trying to create tensor with negative dimension -1"),
        (["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "-1"],
            "--model.optimizer SGD: Invalid learning rate: -1.0"),
        (["--model.scheduler", "torch.optim.lr_scheduler.OneCycleLR", "--model.scheduler.max_lr", "1"],
            "--model.scheduler OneCycleLR: You must define either total_steps OR"),
        (["--model.scheduler", "torch.optim.lr_scheduler.StepLR", "--model.scheduler.step_size", "0"],
            "the optimizer or scheduler of the model cannot make a step: ZeroDivisionError: "),
        (["--model.network", "timm.create_model", "--model.network.model_name", "none"],
            "--model.network create_model: RuntimeError: Unknown model (none)"),
    ],
)  # fmt: skip
def test_what_a_constructor_of_torch_refuses_names_the_option(args, message, mnist_dir, refused):
    data = ["--data.data_dir", str(mnist_dir), "--data.download", "false", "--data.val_size", "64"]
    assert message in refused(["fit", *MNIST, *data, *TRAINER, *args], 1)


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--maximizer.optimizer=torch.optim.Adam", "--maximizer.optimizer.lr=-1"],
            "error: --maximizer.optimizer Adam: Invalid learning rate: -1.0"),
        (["--maximizer.steps=100000000000000000000"], "steps=100000000000000000000): must be at most 1,000,000"),
    ],
)  # fmt: skip
def test_what_a_maximizer_refuses_names_the_option(args, message, refused):
    model = ["--model.num_classes", "10", "--model.input_shape", "[1, 28, 28]"]
    assert message in refused(["visualize", *MNIST[:4], *model, "--units=fc2:0", "--maximizer=Maximizer", *args], 1)


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


def test_the_installed_command_finds_a_model_in_the_working_directory(monkeypatch):
    Path("own_model.py").write_text("from tiny import TestableModel as Model")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd()))])
    monkeypatch.setattr(sys, "argv", ["/bin/fvlightning", "fit", *TINY, "--model=own_model.Model"])
    assert main() == 0


def test_the_module_is_the_command_line():
    command = [sys.executable, "-m", "fvlightning", "fit", "--config", "absent.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: no config file '.*absent\.yaml'\n", done.stderr)
