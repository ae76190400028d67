"""`microscope` of a training run: its epochs, births, `fit --microscope_after_fit`, and a run without checkpoints."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from digits import Digits
from microscope_page import data_of, tiles_of

from fvlightning.cli import main
from fvlightning.output import read_pixels

pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:microscope without --ckpt_path")]


class Data(Digits):
    """It gives its loaders without a trainer."""

    class_names = tuple("abcdefghij")

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.images, batch_size=self.batch_size)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a training run of two epochs, with pictures of each."""
    callback = {
        "class_path": "fvlightning.VisualizationCallback",
        "init_args": {
            "units": ["conv:0-2", "fc:*"],
            "animate": False,
            "maximizer": {"class_path": "fvlightning.Maximizer", "init_args": {"steps": 4, "pooling": "rms"}},
        },
    }
    examples = {
        "class_path": "fvlightning.ExamplesCallback",
        "init_args": {"units": ["fc:*"], "animate": False, "k": 1},
    }
    config = {
        "model": {"class_path": "digits.Classifier"},
        "data": {"class_path": f"{__name__}.Data"},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "callbacks": [callback, examples],
        },
    }
    Path("digits.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "digits.yaml"]) == 0
    return Path("runs/digits/version_0")


def test_a_run_shows_its_epochs_and_all_units_of_its_layers(run: Path):
    assert main(["microscope", "--run", str(run)]) == 0
    network = data_of("network")
    assert network["epochs"] == [0, 1, 2]
    assert [(layer["name"], len(layer["units"])) for layer in network["layers"]] == [("conv", 6), ("fc", 10)]
    assert network["facts"]["pooling"] == "rms"
    last = json.loads((run / "features/epoch_0002/features.json").read_text())
    assert network["facts"]["weights"] == last[0]["weights"]
    for number, layer in enumerate(network["layers"]):
        epochs = data_of(f"layer_{number}")["epochs"]
        for epoch in range(3):
            tiles = tiles_of(layer["sprites"][f"epoch {epoch}"])
            folder = run / f"features/epoch_{epoch:04d}"
            records = {one["unit"]: one for one in json.loads((folder / "features.json").read_text())}
            for unit, tile, score in zip(layer["units"], tiles, epochs[str(epoch)]["scores"], strict=True):
                record = records.get(f"{layer['name']}:{unit[0]}")
                assert (record is None) == (score is None) == (number == 0 and int(unit[0]) > 2)
                if record is not None:
                    assert score == pytest.approx(record["score"], rel=1e-3)
                    assert np.array_equal(tile, read_pixels(folder / record["file"]))
    for unit in data_of("layer_1")["units"]:
        scores = [data_of("layer_1")["epochs"][str(epoch)]["scores"][int(unit["id"])] for epoch in range(3)]
        expected = (
            next((epoch for epoch in range(3) if scores[epoch] >= scores[2] / 2), None) if scores[2] > 0 else None
        )
        assert unit["numbers"].get("birth") == expected
    epochs = data_of("layer_1")["epochs"]
    figures = json.loads((run / "examples/epoch_0001/examples.json").read_text())["units"]
    assert [found["histogram"] for found in epochs["1"]["images"]] == [unit["histogram"] for unit in figures]
    assert data_of("layer_0")["epochs"]["1"]["images"] == [None] * 6


def test_fit_makes_the_page_in_the_folder_of_the_run(run: Path):
    args = ["fit", "--config", "digits.yaml", "--trainer.max_epochs", "1", "--microscope_after_fit", "true"]
    assert main(args) == 0
    folder = run.with_name("version_1") / "microscope"
    network = data_of("network", str(folder))
    assert network["epochs"] == [0, 1]
    records = json.loads((run.with_name("version_1") / "features/epoch_0001/features.json").read_text())
    assert network["facts"]["weights"] == records[0]["weights"]
    assert len(tiles_of(network["images"]["sprites"], str(folder))) == len(network["images"]["names"])
    with pytest.warns(UserWarning, match="--microscope_after_fit has no effect without a logger and checkpoints"):
        assert main([*args, "--trainer.logger", "false", "--trainer.max_epochs", "0"]) == 0


def test_a_run_without_checkpoints_shows_what_is_there(run: Path, refused: Any, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(run / "checkpoints")
    with pytest.warns(UserWarning, match="has no checkpoint: the page shows its pictures of epochs up to 2; new pict"):
        assert main(["microscope", f"--run={run}"]) == 0
    network = data_of("network")
    assert network["epochs"] == [0, 1, 2]
    assert [(layer["name"], len(layer["units"])) for layer in network["layers"]] == [("conv", 3), ("fc", 10)]
    shutil.rmtree(run / "features")
    assert "has neither checkpoints nor pictures of epochs" in refused(["microscope", "--run", str(run)], 1)
