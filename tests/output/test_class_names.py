import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from digits import Classifier, Digits
from PIL import Image as PILImage
from torch import Tensor

from fvlightning.callbacks import VisualizationCallback
from fvlightning.features import Maximizer, Unit, UnitActivation
from fvlightning.output import contact_sheet
from fvlightning.output.class_names import class_names
from fvlightning.protocols import read_class_names

SHAPE = (1, 8, 8)
ROWS = ("first", "second", "third", "3", "fifth", "sixth", "seventh", "eighth", "none", "no row")


def names(units: list[str], of_data: Any = None, of_module: Any = None) -> dict[str, str]:
    module = Classifier()
    module.class_names = of_module
    return class_names(module, SimpleNamespace(class_names=of_data), [Unit.parse(unit) for unit in units], SHAPE)


def test_units_of_the_last_layer_have_the_names_of_the_data_or_of_the_module():
    # Also by the paths of the LightningModule, and where they are minimised.
    units = ["fc:0", "-fc:9", "net.fc:3"]
    named = {"fc:0": "first", "-fc:9": "no row", "net.fc:3": "3"}
    others = [f"class {index}" for index in range(10)]
    assert names(units, of_data=ROWS) == named
    assert names(units, of_module=list(ROWS)) == named
    assert names(units, of_data=ROWS, of_module=others) == named
    # Names of as many classes as the network does not have are of something else.
    assert names(units, of_data=["a", "b"], of_module=ROWS) == named
    assert names(units, of_data=ROWS[:9]) == {}
    assert names(units) == {}
    assert class_names(Classifier(), None, [Unit("fc", 0)], SHAPE) == {}


def test_other_units_have_none():
    # Six channels, as many as there are names.
    assert names(["conv:0", "conv:0@1,1", "norm:2"], of_data=ROWS[:6]) == {}
    assert names(["fc"], of_data=ROWS) == {}
    data = SimpleNamespace(class_names=ROWS)
    assert class_names(Classifier(), data, [UnitActivation("fc:0") - UnitActivation("fc:1")], SHAPE) == {}


def test_pictures_of_a_size_that_only_the_first_layers_take_have_none():
    data = SimpleNamespace(class_names=ROWS)
    assert class_names(Classifier(), data, [Unit("conv", 0)], (1, 20, 20)) == {}


class Unready:
    @property
    def class_names(self) -> list[str]:
        raise RuntimeError("call setup first")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (SimpleNamespace(class_names=np.array(["a", "b"])), ("a", "b")),
        (SimpleNamespace(class_names=[0, 1]), ("0", "1")),
        (SimpleNamespace(class_names={"a": 0, "b": 1}), ()),
        (SimpleNamespace(class_names=lambda: ["a"]), ()),
        (SimpleNamespace(class_names="ab"), ()),
        (Unready(), ()),
        (None, ()),
    ],
)
def test_what_is_no_sequence_of_names_is_none(source: object, found: tuple[str, ...]):
    assert read_class_names(source) == found


def test_a_network_that_fails_behind_an_early_layer_has_no_names():
    class Failing(Classifier):
        def forward(self, pictures: Tensor) -> Tensor:
            self.net.conv(pictures)
            raise KeyError("missing")

    module = Failing()
    module.net.forward = module.forward
    assert class_names(module, SimpleNamespace(class_names=ROWS), [Unit("conv", 0)], SHAPE) == {}


class NamedDigits(Digits):
    class_names = ROWS


def test_pictures_of_an_epoch_have_names(tmp_path: Path) -> None:
    callback = VisualizationCallback(["fc:2-4", "-fc:2", "conv:0"], Maximizer(steps=2, repeats=2), animate=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        default_root_dir=tmp_path,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), NamedDigits())
    folder = tmp_path / "features" / "epoch_0001"
    records = json.loads((folder / "features.json").read_text())
    assert [record.get("class") for record in records[::2]] == ["third", "3", "fifth", "third", None]
    pictures = [np.asarray(PILImage.open(folder / record["file"])) for record in records[:8]]
    labels = ["2 third", "2 third #1", "3", "3 #1", "4 fifth", "4 fifth #1", "-2 third", "-2 third #1"]
    expected = np.asarray(contact_sheet(pictures, labels, "fc, epoch 1"))
    np.testing.assert_array_equal(np.asarray(PILImage.open(folder / "fc.png")), expected)
