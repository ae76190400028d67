"""``--ckpt_path``: resuming, hyperparameters, and checkpoints that cannot be used."""

import os
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from tiny import CHECKPOINT, TINY, write_config

from fvlightning.cli import main

pytestmark = pytest.mark.usefixtures("in_folder")


def test_fit_resumes_from_a_checkpoint():
    assert main(["fit", *TINY]) == 0
    assert main(["fit", *TINY, "--ckpt_path", CHECKPOINT, "--trainer.max_epochs", "2"]) == 0
    assert torch.load("runs/default/version_1/checkpoints/last.ckpt")["global_step"] == 4


def test_untrained_weights_are_warned_of():
    with pytest.warns(UserWarning, match="test without --ckpt_path uses the weights that the model is made with"):
        assert main(["test", *TINY]) == 0


@pytest.mark.parametrize(
    ("given", "warned"),
    [([], False), (["--model.lr", "0.3"], False), (["--model.lr", "0.1"], True), (["-c", "other.yaml"], True)],
)
def test_a_hyperparameter_that_the_checkpoint_overrides_is_named(given, warned):
    model = {"class_path": "tiny.TestableModel", "init_args": {"lr": 0.1}}  # the default, but given
    write_config("other.yaml", model=model)
    assert main(["fit", *TINY, "--model.lr", "0.3"]) == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["test", *TINY, *given, "--ckpt_path", CHECKPOINT]) == 0
    messages = [str(warning.message) for warning in caught if "has no effect" in str(warning.message)]
    assert len(messages) == warned
    if warned:
        assert messages[0].startswith("--model.lr 0.1 has no effect")
        assert CHECKPOINT in messages[0]
        assert "was made with 0.3" in messages[0]


def test_only_what_changes_the_network_counts_where_nothing_is_trained(mnist_dir, refused):
    model = ["--model", "ClassifierModule", "--model.network", "MnistMLP"]
    data = ["--data", "MNISTDataModule", "--data.data_dir", str(mnist_dir), "--data.download", "false"]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "0"]
    data += ["--data.val_size", "64"]
    short += ["--trainer.limit_test_batches", "1", "--trainer.accelerator", "cpu"]
    optimizer = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr"]
    assert main(["fit", *model, *data, *short, *optimizer, "0.5"]) == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        others = [*optimizer, "0.1", "--model.label_smoothing", "0.1"]
        assert main(["test", *model, *data, *short, *others, "--ckpt_path", CHECKPOINT]) == 0
        visualize = ["visualize", *model, "--units", "fc1:0", "--maximizer", "Maximizer", "--maximizer.steps", "1"]
        assert main([*visualize, *others, "--ckpt_path", CHECKPOINT]) == 0
    assert not [warning for warning in caught if "has no effect" in str(warning.message)]
    for command in ("visualize", "test", "fit"):
        line = refused([command, *model[:-1], "MnistCNN", *data, "--ckpt_path", CHECKPOINT], 1)
        assert f"the checkpoint '{CHECKPOINT}' was made with MnistMLP, and the command or its config has" in line
        assert line.endswith("has MnistCNN; give the config of the checkpoint's run, or another checkpoint")


def test_a_missing_checkpoint_names_those_in_its_folder(refused):
    assert main(["fit", *TINY]) == 0
    line = refused(["test", *TINY, "--ckpt_path", "runs/default/version_0/checkpoints/first.ckpt"], 1)
    assert "no checkpoint 'runs/default/version_0/checkpoints/first.ckpt'" in line
    assert CHECKPOINT in line


def test_a_missing_checkpoint_names_those_under_runs(refused):
    assert "none under 'runs'" in refused(["test", *TINY, "--ckpt_path", "nothing.ckpt"], 1)
    assert main(["fit", *TINY]) == 0
    for missing in ["nothing.ckpt", "elsewhere/nothing.ckpt", "best", "last"]:
        line = refused(["test", *TINY, "--ckpt_path", missing], 1)
        assert f"no checkpoint '{missing}'" in line
        assert CHECKPOINT in line


def test_a_missing_checkpoint_names_one_for_each_run_the_closest_first(refused):
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
def test_a_file_of_another_kind_is_refused(content, refused):
    Path("other.ckpt").write_bytes(content)
    assert "'other.ckpt' is not a checkpoint" in refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)


def test_weights_alone_are_refused(refused):
    torch.save({"weight": torch.zeros(2)}, "other.ckpt")
    line = refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)
    assert "'other.ckpt' is not a Lightning checkpoint: it has no 'state_dict'" in line


def test_a_checkpoint_that_holds_code_is_refused(refused):
    torch.save({"state_dict": {}, "code": shutil.rmtree}, "code.ckpt")
    line = refused(["test", *TINY, "--ckpt_path", "code.ckpt"], 1)
    assert "'code.ckpt' holds more than tensors and plain values (shutil.rmtree), and is refused" in line


def test_a_checkpoint_of_another_model_is_refused(refused):
    assert main(["fit", *TINY]) == 0
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["state_dict"] = {"other.weight": torch.zeros(2)}
    torch.save(checkpoint, "other.ckpt")
    assert "'other.ckpt' does not fit TestableModel" in refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"lr": "fast"}, "the model does not take the hyperparameters of 'other.ckpt': .*lr: expected float, got fast"),
        ({"depth": 3}, "--model TestableModel: TypeError: .* unexpected keyword argument 'depth'"),
    ],
)
def test_hyperparameters_that_the_model_does_not_take_are_named(hyperparameters, message, refused):
    assert main(["fit", *TINY]) == 0
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["hyper_parameters"] |= hyperparameters
    torch.save(checkpoint, "other.ckpt")
    assert re.search(message, refused(["test", *TINY, "--ckpt_path", "other.ckpt"], 1))
