"""`weights` by the command line: first layers beside the pictures of their units."""

import json
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

from fvlightning.analysis import FirstLayer
from fvlightning.cli import main
from fvlightning.runs._weight_files import weight_tile

SHORT = ["--trainer.accelerator", "cpu", "--maximizer=fvlightning.Maximizer", "--maximizer.steps=4"]
CONV = ["weights", *SHORT, "--model", "digits.Classifier"]
HIDDEN = ["weights", *SHORT, "--model", f"{__name__}.Hidden"]
pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:weights without --ckpt_path")]


class Hidden(Classifier):
    """A hidden layer of 70 units, one without weights, for pictures with three channels."""

    input_shape = (3, 4, 5)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(60, 70), nn.ReLU(), nn.Linear(70, 10))
        with torch.no_grad():
            self.net[1].weight[2] = 0
            self.net[1].bias[2] = 0


class Grouped(Classifier):
    input_shape = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2))


def content() -> dict[str, Any]:
    return json.loads(Path("out/weights.json").read_text())


def test_kernels_are_compared_with_the_strongest_patches_of_the_saved_pictures(caplog: pytest.LogCaptureFixture):
    model = Classifier()
    trainer = pl.Trainer(accelerator="cpu", logger=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint("mine.ckpt")
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "logs"]
    with caplog.at_level(logging.INFO):
        assert main([*CONV, *logger, "--ckpt_path", "mine.ckpt"]) == 0
    result = content()
    assert (result["model"], result["layer"]) == ("Net", "conv")
    assert [row["unit"] for row in result["units"]] == [f"conv:{index}" for index in range(6)]
    scores = {record["unit"]: record["score"] for record in json.loads(Path("out/features.json").read_text())}
    for index, row in enumerate(result["units"]):
        picture = torch.from_numpy(np.array(PILImage.open(f"out/{row['file']}").convert("L"))) / 255
        activations = model.net.conv(picture[None])[index]
        assert row["activation"] == pytest.approx(activations.max().item(), abs=1e-5)
        assert row["score"] == scores[row["unit"]] == pytest.approx(activations.mean().item(), abs=1e-5)
        top, left, bottom, right = row["box"]
        kernel, patch = model.net.conv.weight[index].flatten(), picture[top:bottom, left:right].flatten()
        assert row["cosine"] == pytest.approx(F.cosine_similarity(kernel, patch, dim=0).item(), abs=1e-5)
        assert row["norm"] == pytest.approx(kernel.norm().item())
    for name, median in result["medians"].items():
        assert median == pytest.approx(np.median([row[name] for row in result["units"]]))
    assert "conv: median cosine of weights and pictures " in caplog.text
    with PILImage.open("out/conv_weights.png") as sheet:
        assert sheet.width > 3 * 112  # kernel, patch and picture
    tags = EventAccumulator("logs/lightning_logs/version_0").Reload().Tags()["images"]
    assert sorted(tags) == ["visualization/conv", "weights/conv"]


def test_a_linear_layer_shows_its_first_64_units_and_keeps_their_pictures(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert main([*HIDDEN, "--seed_everything", "0"]) == 0
    assert "1 has 70 units: the first 64 are shown" in caplog.text
    assert "1 unit does not respond to any step: 1:2" in caplog.text
    rows = content()["units"]
    assert len(rows) == 64
    silent = rows.pop(2)
    assert (silent["status"], silent["norm"]) == ("dead", 0)
    assert [silent[name] for name in ("cosine", "centred_cosine", "largest_cosine")] == [None] * 3
    assert all(-1 <= row["cosine"] <= row["largest_cosine"] for row in rows)
    files = {path: path.stat().st_mtime_ns for path in Path("out/1").glob("*.png")}
    assert main([*HIDDEN, "--seed_everything", "0", "--units", '["1:2-3"]']) == 0
    assert [row["unit"] for row in content()["units"]] == ["1:2", "1:3"]
    assert content()["units"][1] == rows[2]
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_tile_has_the_kernel_the_patch_and_the_picture_with_a_frame():
    network = nn.Sequential(nn.Conv2d(1, 1, 4, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 1.0, 0.0, -1.0])[:, None])
    picture = torch.zeros(1, 28, 28)
    picture[:, 8:10] = 1
    (match,) = FirstLayer(network, "0", (1, 28, 28)).match([0], picture[None])
    tile = weight_tile(match, picture).astype(int)
    assert tile.shape == (112, 4 + 3 * (112 + 4), 3)
    kernel, patch, framed = (tile[:, start : start + 112] for start in (4, 120, 236))
    assert ((kernel[14::28, 0, 0] - kernel[14::28, 0, 2]) / 100).round().tolist() == [1, 1, 0, -1]  # red or blue
    assert patch[14::28, 0, 0].tolist() == [255, 255, 0, 0]
    rows = np.flatnonzero((framed == (230, 60, 30)).all(2).any(1))
    assert (rows.min(), rows.max()) == (30, 49)  # two pixels around rows 8 to 11, of 4 pixels each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*HIDDEN, "--layer", "3"], "layer '3' takes 70 inputs, which are not the pixels of a picture"),
        ([*CONV, "--units", '["conv:6"]'], "no unit 6 in layer 'conv', which has 6 units: 0 to 5"),
        ([*CONV, "--units", '["conv:0", "fc:1"]'], "units of several layers, conv, fc; give those of the first layer"),
        ([*CONV, "--layer", "conv", "--units", '["fc:1"]'], "'fc:1' has no weights of its own in layer 'conv'"),
        (
            [*CONV, "--units", '["conv:0@1,1"]'],
            "'conv:0@1,1' has no weights of its own in layer 'conv'; give LAYER:INDEX",
        ),
        (["weights", *SHORT, "--model", f"{__name__}.Grouped"], "layer '0' is a grouped convolution, groups=2"),
        ([*CONV, "--maximizer.image", "RawInput"], "weights shows pictures in [0, 1], and RawInput makes others"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: list[str], message: str, refused: Any):
    assert message in refused(arguments, 1)
    assert not Path("out").exists()
