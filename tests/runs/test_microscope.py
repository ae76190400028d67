"""`microscope` by the command line: tiles and figures of the page, odd names, bad input."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from digits import Classifier, Digits, Fixed
from microscope_page import data_of, tiles_of
from torch import Tensor, nn

from fvlightning.cli import main
from fvlightning.output import Pixels, read_pixels, read_record, rounded

MAXIMIZER = ["--maximizer", "Maximizer", "--maximizer.steps", "4"]
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
BASE = ["microscope", "--model", f"{__name__}.Fixed", *TRAINER, *MAXIMIZER]
DATA = ["--data", f"{__name__}.Data"]
ODD_LAYER = "a<b>&'\"%é"
ODD_CLASS = "</script><script>alert(1)</script>"
pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:microscope without --ckpt_path")]


class Data(Digits):
    """It gives its loaders without a trainer."""

    class_names = (ODD_CLASS, *"bcdefghij")

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.images, batch_size=self.batch_size)


class OddNames(Classifier):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten())
        self.net.add_module(ODD_LAYER, nn.Linear(64, 10))


class Wide(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 5000))


def pictures(unit: str) -> list[Pixels]:
    records = json.loads(Path("microscope/pictures/features.json").read_text())
    return [read_pixels(Path("microscope/pictures", one["file"])) for one in records if one["unit"] == unit]


class Page(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(Path("microscope/index.html").read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_tiles_are_the_pictures_and_figures_those_that_the_network_gives():
    # A place at the front of a layer is not the index of its unit.
    assert main([*BASE, *DATA, "--units", '["fc:3", "conv:*", "fc:1"]', "--k", "3"]) == 0
    network = data_of("network")
    assert [(layer["name"], layer["n_units"]) for layer in network["layers"]] == [("conv", 6), ("fc", 10)]
    assert network["map"] == [0, [["norm", "BatchNorm2d", [6, 4, 4]], ["drop", "Dropout", [6, 4, 4]]], 1]
    assert network["flow"] == [[0, 1, "conv"], [1, 2, "drop"]]
    for number, layer in enumerate(network["layers"]):
        units = data_of(f"layer_{number}")["units"]
        assert [unit["id"] for unit in units] == (["3", "1"] if number else list("012345"))
        for kind, sign in {"picture": "", "negative": "-"}.items():
            tiles = tiles_of(layer["sprites"][kind])
            assert len(tiles) == len(units)
            for tile, unit in zip(tiles, units, strict=True):
                assert np.array_equal(tile, *pictures(sign + unit["name"]))
                (facts,) = unit["negatives" if sign else "pictures"]
                record = read_record(Path("microscope", facts["file"]))  # only if its digest fits the pixels
                assert record is not None
                assert (record.unit, rounded(record.score)) == (sign + unit["name"], facts["score"])
    images = Digits().images.images
    module = Fixed().eval()
    with torch.no_grad():
        scores = module.net.conv(images / 255).mean((2, 3))
        logits = module.net(images / 255)
        made = module.net(torch.from_numpy(pictures("fc:3")[0][None, None, ..., 0] / 255).float())[0, 3]
    unit = data_of("layer_1")["units"][0]
    assert unit["numbers"]["score"] == pytest.approx(made.item(), abs=1e-3)
    assert unit["numbers"]["largest"] == pytest.approx(logits[:, 3].max().item(), rel=1e-3)
    numbers = [one["numbers"] for number in (0, 1) for one in data_of(f"layer_{number}")["units"]]
    assert {min(one["score"], one["largest"]) > 0 for one in numbers if "ratio" in one} == {True}
    assert {min(one["score"], one["largest"]) > 0 for one in numbers if "ratio" not in one} == {False}
    assert all(
        one["ratio"] == pytest.approx(one["score"] / one["largest"], rel=1e-3) for one in numbers if "ratio" in one
    )
    assert sum(unit["images"]["histogram"]) == 48
    for layer, responses in ((0, scores), (1, logits[:, [3, 1]])):
        active = module.net.conv(images / 255).amax((2, 3)) > 0 if layer == 0 else responses > 0
        for one, largest, is_active in zip(
            data_of(f"layer_{layer}")["units"], responses.amax(0).tolist(), active.any(0).tolist(), strict=True
        ):
            compared = "above" if one["numbers"]["score"] >= largest else "below"
            assert one["verdict"] == (compared if is_active else "silent")
    # The images of the examples are those of the data, by the numbers that their names give.
    shown = tiles_of(network["images"]["sprites"])
    names = network["images"]["names"]
    places = [int(name.removeprefix("#")) for _, name in names]
    for (label, _), place, tile in zip(names, places, shown, strict=True):
        assert np.array_equal(tile[..., 0], images[place, 0])
        assert label == Data.class_names[place % 8]
    order = logits[:, 3].argsort(descending=True).tolist()
    assert [places[index] for index, _, _ in unit["images"]["strongest"]] == order[:3]
    assert [places[index] for index, _, _ in unit["images"]["weakest"]] == order[:-4:-1]
    check_excited(data_of("layer_0")["excited"], scores, places)
    check_ties(data_of("layer_0")["units"], data_of("layer_1")["units"], module.net.fc.weight.detach())


def check_excited(excited: list[list[tuple[int, float]]], scores: Tensor, places: list[int]) -> None:
    for pairs, place in zip(excited, places, strict=True):
        shares = {unit: scores[place, unit] / scores[:, unit].max() for unit in range(6) if scores[:, unit].max() > 0}
        expected = sorted((unit for unit in shares if shares[unit] > 0), key=lambda unit: -shares[unit])
        assert [unit for unit, _ in pairs] == expected
        assert [score for _, score in pairs] == pytest.approx(
            [scores[place, unit].item() for unit in expected], rel=1e-3
        )


def check_ties(convs: list[Any], outputs: list[Any], weights: Tensor) -> None:
    """Assert the norms of the 16 weights from each of the six channels to units 3 and 1, with the sign of their sum."""
    kernels = weights.reshape(10, 6, 16)
    expected = kernels.norm(dim=2) * torch.where(kernels.sum(2) < 0, -1, 1)
    for unit, row in zip(outputs, expected[[3, 1]], strict=True):
        order = row.abs().argsort(descending=True).tolist()
        assert [tie[:2] for tie in unit["before"]] == [[0, channel] for channel in order]
        assert [tie[2] for tie in unit["before"]] == pytest.approx(row[order].tolist(), rel=1e-3)
        assert unit["after"] == []
    for channel, unit in enumerate(convs):
        assert sorted(unit["after"]) == [
            [1, at, pytest.approx(expected[number, channel].item(), rel=1e-3)] for at, number in enumerate((3, 1))
        ]


def test_weights_of_a_first_layer_have_tiles():
    assert main([*BASE, *DATA, "--layers", '["conv"]', "--negatives", "false"]) == 0
    (layer,) = data_of("network")["layers"]
    assert "negative" not in layer["sprites"]
    tiles = tiles_of(layer["sprites"]["weights"])
    kernels = Fixed().net.conv.weight.detach()[:, 0]
    for tile, kernel in zip(tiles, kernels, strict=True):
        # Blue is negative, red positive.
        signs = np.sign(tile[..., 0].astype(int) - tile[..., 2])
        visible = kernel.abs() > 0.05 * kernel.abs().max()
        assert np.array_equal(signs[visible], np.sign(kernel.numpy())[visible])
        assert tile[divmod(int(kernel.abs().argmax()), 5)].min() < 50


def test_names_of_layers_and_classes_are_text():
    args = [*BASE, *DATA]
    args[2] = f"{__name__}.OddNames"
    assert main(args) == 0
    (layer,) = data_of("network")["layers"]
    assert layer["name"] == ODD_LAYER
    assert data_of("layer_0")["units"][0]["class"] == ODD_CLASS
    page = Page()
    assert ODD_LAYER in page.text
    assert all(Path("microscope", str(attributes["src"])).exists() for tag, attributes in page.tags if tag == "script")
    (sheet,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert ODD_LAYER in str(sheet["alt"])
    assert Path("microscope", unquote(str(sheet["src"]))).exists()


def test_without_images_the_page_has_pictures_alone(capsys: pytest.CaptureFixture[str]):
    assert main([*BASE, "--units", "fc:0"]) == 0
    assert data_of("network")["images"] is None
    (unit,) = data_of("layer_0")["units"]
    assert unit["images"] is None
    assert set(unit["numbers"]) == {"score", "step"}
    assert len(unit["curve"]["scores"]) == 4
    assert unit["verdict"] == "unchecked"


def test_bad_input_ends_in_one_line(refused: Any):
    Path("folder/other").mkdir(parents=True)
    Path("folder/other/config.yaml").write_text("model:\n")
    wide = ["microscope", "--model", f"{__name__}.Wide", *TRAINER]
    for args, status, message in (
        (["microscope", "--run", "folder"], 2, "'folder' is not the folder of a training run, with config.yaml and"),
        (["microscope", "--run", "folder/none"], 2, "runs: folder/other"),
        ([*wide], 1, "the layer 1 has 5,000 units, which would take about 129 MB; choose some, for example --units"),
        ([*BASE, *DATA, "--k", "0"], 1, "microscope(k=0): must be at least 1"),
        ([*BASE, "--units", "conf:0"], 1, "no layer 'conf' in Net"),
        ([*BASE, "--layers", '["conf"]'], 1, "no layer 'conf' in Net"),
        ([*BASE, "--output_dir", "/proc/x"], 1, "cannot write to the folder /proc/x"),
    ):
        assert message in refused(args, status)
    assert not list(Path().rglob("index.html"))
