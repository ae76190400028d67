"""`visualize`: objectives by class_path, on the command line and in a config."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from digits import Classifier
from PIL import Image as PILImage
from torch import Tensor
from typing_extensions import override
from visualizing import COMMON, records

from fvlightning.cli import main
from fvlightning.features import Activations, LayerCall, Objective

pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
]


class Contrast(Objective):
    """A user's own objective: how far two units of the last layer are apart."""

    def __init__(self, high: int, low: int = 0) -> None:
        self.high, self.low = high, low

    @property
    @override
    def layers(self) -> frozenset[LayerCall]:
        return frozenset({LayerCall("fc")})

    @override
    def __call__(self, activations: Activations) -> Tensor:
        logits = activations[LayerCall("fc")].tensor
        return logits[:, self.high] - logits[:, self.low]


UNIT = {"class_path": "fvlightning.features.UnitActivation", "init_args": {"unit": "fc:3"}}
WEIGHTS = [0.0, 1.0, -2.0, 0.0, 0.0, 0.5]
OBJECTIVES: list[Any] = [
    "fc:1",
    {"class_path": "fvlightning.features.Direction", "init_args": {"layer": "conv", "vector": WEIGHTS}},
    {"class_path": "fvlightning.features.Target", "init_args": {"objective": UNIT, "value": 0.25}},
    {"class_path": "fvlightning.features.WeightedSum", "init_args": {"terms": [[1.0, UNIT], [-0.5, UNIT]]}},
    {"class_path": f"{__name__}.Contrast", "init_args": {"high": 4}},
]
NAMES = ["fc:1", "Direction(conv, ", "fc:3 -> 0.25", "fc:3 - 0.5*fc:3", "Contrast(high=4, low=0)"]


def expected_scores(picture: Tensor) -> list[float]:
    pl.seed_everything(0)
    module = Classifier().eval()
    with torch.no_grad():
        maps, logits = module.net.conv(picture)[0].mean((1, 2)), module(picture)[0]
        direction = maps @ torch.tensor(WEIGHTS)
        values = [logits[1], direction, -((logits[3] - 0.25) ** 2), 0.5 * logits[3], logits[4] - logits[0]]
    return [value.item() for value in values]


@pytest.mark.parametrize("in_config", [False, True], ids=["command line", "config"])
def test_objectives_have_pictures_with_the_scores_that_the_network_gives(in_config):
    Path("units.yaml").write_text(yaml.safe_dump({"units": OBJECTIVES}))
    units = ["--config", "units.yaml"] if in_config else ["--units", json.dumps(OBJECTIVES)]
    assert main([*COMMON, *units]) == 0
    assert [record["unit"].startswith(name) for record, name in zip(records(), NAMES, strict=True)] == [True] * 5
    for index, record in enumerate(records()):
        pixels = np.asarray(PILImage.open(Path("out", record["file"])).convert("L"))
        score = expected_scores(torch.tensor(pixels)[None, None] / 255)[index]
        assert record["score"] == pytest.approx(score, abs=1e-4), record["unit"]


def test_a_second_run_keeps_the_pictures_of_objectives(caplog):
    caplog.set_level("INFO")
    for _ in range(2):
        assert main([*COMMON, "--units", json.dumps(OBJECTIVES)]) == 0
    assert "5 of 5 units are in out already, and kept" in caplog.text


def test_an_objective_can_be_the_only_unit_of_a_config():
    Path("units.yaml").write_text(yaml.safe_dump({"units": OBJECTIVES[-1:]}))
    assert main([*COMMON, "--config", "units.yaml"]) == 0
    assert [record["unit"] for record in records()] == [NAMES[-1]]


@pytest.mark.parametrize("in_config", [False, True], ids=["command line", "config"])
@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"class_path": "fvlightning.features.Targett"}, "Did you mean 'Target'?"),
        ({"class_path": f"{__name__}.Contrast", "init_args": {"hihg": 4}}, "Did you mean 'high'?"),
        ({"class_path": "fvlightning.features.PixelImage"}, "PixelImage' is not a subclass of Objective"),
    ],
)
def test_objectives_that_cannot_be_understood_end_in_one_line(objective, message, in_config, refused):
    Path("units.yaml").write_text(yaml.safe_dump({"units": ["fc:0", objective]}))
    units = ["--config", "units.yaml"] if in_config else ["--units", json.dumps(["fc:0", objective])]
    assert message in refused([*COMMON, *units], 2)


def test_an_objective_that_the_network_cannot_score_ends_in_one_line(refused):
    direction = {"class_path": "fvlightning.features.Direction", "init_args": {"layer": "conv", "vector": [1.0, 2.0]}}
    assert "6 units of layer 'conv'" in refused([*COMMON, "--units", json.dumps([direction])], 1)
