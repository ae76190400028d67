"""The key ``maximizer`` of a model's config, in each subcommand."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from tiny import TRAINER

from fvlightning import Maximizer, VisualizationCallback
from fvlightning.cli import main
from fvlightning.errors import InputError
from fvlightning.features import Alignment
from fvlightning.trainer import COMMANDS

CALLBACK = ["--trainer.callbacks", "VisualizationCallback", "--trainer.callbacks.units", '["fc:0-1"]']
FIT = ["fit", "--config", "model.yaml", "--data", "digits.Digits", *TRAINER]


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """Write a config that says how pictures of its model are made."""
    monkeypatch.chdir(tmp_path)
    maximizer = {"class_path": "fvlightning.Maximizer", "init_args": {"steps": 3, "log_odds": 0.5}}
    Path("model.yaml").write_text(
        yaml.safe_dump({"model": {"class_path": "digits.Classifier"}, "maximizer": maximizer})
    )


def steps_and_log_odds() -> set[tuple[int, float]]:
    (file,) = Path("runs").rglob("epoch_0000/features.json")
    settings = [record["settings"] for record in json.loads(file.read_text())]
    return {(one["steps"], one["log_odds"]) for one in settings}


def test_the_pictures_of_fit_are_made_as_the_config_says():
    assert main([*FIT, *CALLBACK]) == 0
    assert steps_and_log_odds() == {(3, 0.5)}


def test_the_maximizer_of_a_callback_is_a_class_path(refused):
    call = ["--trainer.callbacks.maximizer", "Maximizer(steps=2)"]
    assert "'Maximizer(steps=2)' is not a class path" in refused([*FIT, *CALLBACK, *call], 2)


def test_a_callback_keeps_its_own_maximizer():
    own = ["--trainer.callbacks.maximizer", "Maximizer", "--trainer.callbacks.maximizer.steps", "2"]
    assert main([*FIT, *CALLBACK, *own]) == 0
    assert steps_and_log_odds() == {(2, 0.0)}


@pytest.mark.parametrize(("option", "warned"), [(["--maximizer.steps", "2"], True), ([], False)])
def test_an_option_that_no_callback_takes_is_warned_of(option, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main([*FIT, *option]) == 0, "a config may be for several subcommands"
    assert any("--maximizer has no effect" in str(warning.message) for warning in caught) == warned


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict", *COMMANDS])
def test_each_subcommand_takes_the_config(subcommand, capsys):
    options = {
        "compare": ["--data", "digits.Digits"],
        "cross_evaluate": ["--models.own", "digits.Classifier"],
        "inspect": ["--images", "photo.jpg", "--layers", "conv"],
        "magnitude": ["--output", "spectrum.pt"],
    }
    assert main([subcommand, "--config", "model.yaml", *options.get(subcommand, []), "--print_config"]) == 0
    if subcommand in ("fit", "visualize", "inspect", "weights", "unit_sheet", "compare", "cross_evaluate"):
        assert yaml.safe_load(capsys.readouterr().out)["maximizer"]["init_args"]["steps"] == 3


@pytest.mark.filterwarnings("ignore:.*without --ckpt_path")
def test_only_subcommands_that_make_pictures_need_the_files_that_the_config_names(refused):
    config = yaml.safe_load(Path("model.yaml").read_text())
    config["maximizer"]["init_args"]["initial_picture"] = "absent.jpg"
    Path("model.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", "model.yaml", "--data", "digits.Digits"]
    assert main(["validate", *arguments, *TRAINER]) == 0
    visualize = ["visualize", *arguments, "--units", '["fc:0"]', "--trainer.accelerator", "cpu"]
    assert "'absent.jpg'" in refused(visualize, 1)


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict", "examples", "magnitude"])
def test_subcommands_that_make_no_pictures_refuse_the_option(subcommand, refused):
    options = ["--output", "spectrum.pt"] if subcommand == "magnitude" else []
    command = [subcommand, "--config", "model.yaml", "--data", "digits.Digits", *options, "--maximizer.steps=2"]
    assert refused(command, 2) == f"error: {subcommand} does not use --maximizer; leave it out"


def test_a_callback_without_a_maximizer_takes_the_one_it_is_offered():
    callback = VisualizationCallback(["fc:0"])
    maximizer = Maximizer(steps=40)
    assert callback.offer_maximizer(maximizer)
    assert callback.maximizer is maximizer
    assert callback.warm_steps == 10
    assert not VisualizationCallback(["fc:0"], maximizer=Maximizer(steps=2)).offer_maximizer(maximizer)
    chosen = VisualizationCallback(["fc:0"], warm_steps=7)
    assert chosen.offer_maximizer(maximizer)
    assert chosen.warm_steps == 7
    with pytest.raises(InputError, match="Alignment"):
        callback.offer_maximizer(Maximizer(steps=2, joint_objectives=[Alignment()]))


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
def test_options_override_single_settings_of_the_config():
    arguments = ["--units", '["fc:0"]', "--maximizer.transforms", "[]", "--trainer.accelerator", "cpu"]
    assert main(["visualize", "--config", "model.yaml", *arguments]) == 0
    (record,) = json.loads(Path("out/features.json").read_text())
    assert record["settings"]["transforms"] == []
    assert record["settings"]["log_odds"] == 0.5
    assert torch.tensor(record["score"]).isfinite()
