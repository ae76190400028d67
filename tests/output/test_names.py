from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from digits import Classifier
from torch import Tensor

from fvlightning.features import Direction, Objective, Unit, UnitActivation
from fvlightning.output import class_names, layer_name, unit_file, with_class

SHAPE = (1, 8, 8)
ROWS = ("first", "second", "third", "3", "fifth", "sixth", "seventh", "eighth", "none", "no row")


@pytest.mark.parametrize(
    ("unit", "repeat", "file"),
    [
        ("conv2:3", 0, "conv2/3.png"),
        ("-layer1.0.conv1:3@4,5", 2, "layer1.0.conv1/-3@4,5_2.png"),
        ("relu#1:7", 0, "relu#1/7.png"),
        ("conv2", 0, "conv2/layer.png"),
    ],
)
def test_a_unit_has_a_file_in_the_folder_of_its_layer(unit: str, repeat: int, file: str) -> None:
    assert unit_file(Unit.parse(unit), repeat).as_posix() == file


@pytest.mark.parametrize("character", ["a", "é", "層"])
def test_a_long_name_of_a_layer_is_cut_and_stays_unique(character: str, tmp_path: Path) -> None:
    layers = [character * 300 + end for end in ("1", "2")]
    files = [tmp_path / unit_file(Unit(layer, 0)) for layer in layers]
    assert files[0] != files[1]
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b"")
        file.parent.with_suffix(".png").write_bytes(b"")
    assert layer_name("block." * 20) == "block." * 20


@pytest.mark.parametrize(
    ("objective", "file"),
    [
        (UnitActivation("fc:7") - 0.5 * UnitActivation("conv2:3@1,2"), "sums/fc=7-0.5xconv2=3@1,2"),
        (UnitActivation("blocks.2.0.relu#1:7") + UnitActivation("fc:1"), "sums/blocks.2.0.relu#1=7+fc=1"),
    ],
)
def test_a_sum_has_a_file_in_the_folder_sums(objective: Objective, file: str) -> None:
    assert unit_file(objective).as_posix() == f"{file}.png"
    assert unit_file(objective, 2).as_posix() == f"{file}_2.png"


def test_file_of_a_long_or_strange_text_is_unique_and_can_be_written(tmp_path: Path) -> None:
    long = sum(UnitActivation(f"blocks.{index}.conv_pw:{index}") for index in range(30))
    objectives = [long + UnitActivation("fc:1"), long + UnitActivation("fc:2"), Direction("fc", [1.0, 2.0], 1.0)]
    objectives += [UnitActivation(f"{layer}:0") + UnitActivation("c:0") for layer in ("a/b\\", "a<b>")]
    names = [unit_file(objective).name for objective in objectives]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) < 100
        assert not set(name) & set('<>:"/\\|?* ')
        (tmp_path / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("unit", "name", "label"),
    [
        ("207", "golden retriever", "207 golden retriever"),
        ("-classifier:207", "golden retriever", "-classifier:207 golden retriever"),
        ("fc:17", "7", "fc:17 7"),
        ("-7", "7", "-7"),
        ("fc:7", "7", "fc:7"),
        ("fc:7", None, "fc:7"),
    ],
)
def test_a_label_has_the_name_of_the_class_unless_it_is_the_index(unit: str, name: str | None, label: str) -> None:
    assert with_class(unit, name) == label


def names(units: list[str], of_data: Any = None, of_module: Any = None) -> dict[str, str]:
    module = Classifier()
    module.class_names = of_module
    return class_names(module, SimpleNamespace(class_names=of_data), [Unit.parse(unit) for unit in units], SHAPE)


def test_units_of_the_output_have_the_names_of_the_data_or_else_of_the_module():
    # Also if the path is that of the LightningModule, and if the unit is minimised.
    units = ["fc:0", "-fc:9", "net.fc:3"]
    named = {"fc:0": "first", "-fc:9": "no row", "net.fc:3": "3"}
    others = [f"class {index}" for index in range(10)]
    assert names(units, of_data=ROWS) == named
    assert names(units, of_module=list(ROWS)) == named
    assert names(units, of_data=ROWS, of_module=others) == named
    # Names whose number is not that of the network's outputs do not belong to it.
    assert names(units, of_data=["a", "b"], of_module=ROWS) == named
    assert names(units, of_data=ROWS[:9]) == {}
    assert names(units) == {}
    assert class_names(Classifier(), None, [Unit("fc", 0)], SHAPE) == {}


def test_other_units_have_no_names():
    # There are six channels and six names, but the channels are not the output.
    assert names(["conv:0", "conv:0@1,1", "norm:2"], of_data=ROWS[:6]) == {}
    assert names(["fc"], of_data=ROWS) == {}
    data = SimpleNamespace(class_names=ROWS)
    difference = UnitActivation("fc:0") - UnitActivation("fc:1")
    assert class_names(Classifier(), data, [difference], SHAPE) == {}


def test_pictures_of_a_size_that_only_early_layers_take_have_no_names():
    data = SimpleNamespace(class_names=ROWS)
    assert class_names(Classifier(), data, [Unit("conv", 0)], (1, 20, 20)) == {}


def test_a_network_that_fails_after_an_early_layer_has_no_names():
    class Failing(Classifier):
        def forward(self, pictures: Tensor) -> Tensor:
            self.net.conv(pictures)
            raise KeyError("missing")

    module = Failing()
    module.net.forward = module.forward
    assert class_names(module, SimpleNamespace(class_names=ROWS), [Unit("conv", 0)], SHAPE) == {}
