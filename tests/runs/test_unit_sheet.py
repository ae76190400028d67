"""`unit_sheet` by the command line: the figures of sheets, text in PDFs, resuming, bad input."""

import json
import os
import re
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits import Digits, Fixed
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fvlightning.analysis import RunningExamples
from fvlightning.cli import main
from fvlightning.data import ShuffledBatchSampler, batch_loader
from fvlightning.output import Example, Record, UnitExamples, read_pixels
from fvlightning.runs import unit_sheet as command
from fvlightning.runs._unit_figure import UnitSheet, draw_sheet

MAXIMIZER = ["--maximizer", "Maximizer", "--maximizer.steps", "4"]
TRAINER = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
BASE = ["unit_sheet", "--model", f"{__name__}.Fixed", *TRAINER, *MAXIMIZER, "--trainer.logger", "false"]
DATA = ["--data", f"{__name__}.Data"]
pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:unit_sheet without --ckpt_path")]


class Broken(Fixed):
    def __init__(self) -> None:
        super().__init__()
        self.net.conv.bias.data[1] = torch.nan


class Data(Digits):
    """It gives its loaders without a trainer."""

    class_names = tuple("abcdefghi$")

    def train_dataloader(self) -> DataLoader[Any]:
        return batch_loader(self.images, ShuffledBatchSampler(self.images, self.batch_size))


def read_json(file: str) -> Any:
    return json.loads(Path(file).read_text())


def records(folder: str = "sheets") -> dict[str, dict[str, Any]]:
    return {record["unit"]: record for record in read_json(f"{folder}/pictures/features.json")}


def texts(path: str) -> list[str]:
    """Return the texts of a PDF, as matplotlib writes them: two bytes a character, between BT and ET."""
    shown: list[str] = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", Path(path).read_bytes(), re.DOTALL):
        with suppress(zlib.error):
            for text in re.findall(rb"BT\n/F\d(.+?)\nET\n", zlib.decompress(stream), re.DOTALL):
                parts = re.findall(rb"\(((?:\\.|[^()\\])*)\)", text, re.DOTALL)
                shown.append(re.sub(rb"\\(.)", rb"\1", b"".join(parts)).decode("utf-16-be"))
    return shown


def saved_picture(unit: str) -> Tensor:
    return torch.from_numpy(read_pixels(Path("sheets/pictures", records()[unit]["file"]))[..., 0] / 255).float()


def test_a_sheet_shows_the_figures_of_the_records_and_those_that_the_network_gives(tmp_path: Path):
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "logs"]
    units = ["--units", '["conv:1", "fc:9", "fc:0 - fc:1"]']
    assert main([*BASE[:-2], *DATA, *units, *logger, "--k", "3"]) == 0
    network, images = Fixed().eval().net, Digits().images.images / 255
    with torch.no_grad():
        natural = network.conv(images).mean((2, 3))[:, 1]
        made, opposite = (network.conv(saved_picture(unit)[None])[1] for unit in ("conv:1", "-conv:1"))
    assert records()["conv:1"]["score"] == pytest.approx(made.mean().item(), abs=1e-5)
    shown = texts("sheets/conv/1.pdf")
    for text in (
        "conv:1",
        "Net, 48 images",
        f"picture: {made.mean():.3g}",
        f"negative picture: {opposite.mean():.3g}",
        f"{natural.max():.3g}",
        "weights, strongest patch, picture",
    ):
        assert text in shown
    order = natural.argsort(descending=True).tolist()
    labels = [f"{Data.class_names[place % 8]}: {natural[place]:.3g}" for place in order]
    assert [text for text in shown if re.fullmatch(r"[a-j]: \S+", text)] == [*labels[:3], *labels[:-4:-1]]
    row, column = divmod(int(made.argmax()), made.shape[1])
    patch, kernel = saved_picture("conv:1")[row : row + 5, column : column + 5], network.conv.weight[1, 0]
    cosine = F.cosine_similarity(patch.flatten(), kernel.flatten(), dim=0).item()
    assert any(text.startswith(f"cosine {cosine:.2f}, without means ") for text in shown)
    shown = texts("sheets/fc/9.pdf")
    assert "fc:9 $" in shown
    assert not any(text.startswith(("weights", "cosine")) for text in shown)
    difference = network(images)[:, 0] - network(images)[:, 1]
    assert f"{difference.max().item():.3g}" in texts("sheets/sums/fc=0-fc=1.pdf")
    with PILImage.open("sheets/conv/1.png") as sheet:
        assert sheet.width == 1100
    events = EventAccumulator(str(next(Path("logs").rglob("events.out*")).parent)).Reload()
    assert {"unit_sheet/conv:1", "unit_sheet/fc:9", "pictures/conv"} <= set(events.Tags()["images"])


def sheet(**changes: Any) -> UnitSheet:
    """Return a sheet of seven strongest and two weakest images of other proportions than the pictures."""
    record = Record(
        **{"unit": "conv:0", "repeat": 0, "file": "conv/0.png", "score": 3.0, "steps": 3, "best_step": 2},
        **{"status": "ok", "seed": 0, "settings": {"pooling": "mean", "transforms": []}},
        **{"history": (0.5, None, 2.5), "model": "Net", "weights": "", "image_shape": (1, 8, 8), "versions": {}},
    )
    found = UnitExamples(
        **{"unit": "conv:0", "n_images": 9, "n_non_finite": 0, "active": 0.5, "minimum": -1.0, "maximum": 1.0},
        **{"histogram": (2, 3, 4), "tenths": ()},
        strongest=tuple(Example(place, 1.0 - place / 10, class_name="an uncommonly long name") for place in range(7)),
        weakest=(Example(8, -1.0), Example(7, -0.5)),
    )
    pixels = np.zeros((8, 8, 3), np.uint8)
    tiles = [np.full((10, 20, 3), shade, np.uint8) for shade in range(9)]
    values = {"title": "conv:0", "source": "Net, 9 images", "record": record, "examples": found, "tiles": tiles}
    record, found = changes.pop("record", {}), changes.pop("found", {})
    drawn = UnitSheet(**values, pictures={"picture: 3": pixels, "negative picture: -2": pixels}, weights=None)
    return replace(drawn, **changes, record=replace(drawn.record, **record), examples=replace(drawn.examples, **found))


def test_the_curve_is_the_history_and_the_bars_are_the_histogram():
    figure = draw_sheet(sheet())
    *shown, histogram, curve = figure.axes
    line, best = curve.lines
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert np.array_equal(line.get_ydata(), [0.5, np.nan, 2.5], equal_nan=True)
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([2], [3.0])
    assert [bar.get_height() for bar in histogram.patches] == [2, 3, 4]
    assert [bar.get_x() for bar in histogram.patches] == pytest.approx([-1, -1 / 3, 1 / 3])
    assert [text.get_text() for text in histogram.texts] == ["picture: 3 \N{RIGHTWARDS ARROW}"]
    # The tiles in their order: the strongest in two rows, and the weakest from the end.
    shades = [int(axes.images[0].get_array()[0, 0, 0]) for axes in shown]
    assert shades == [0, 0, *range(7), 8, 7]
    boxes = [axes.get_position() for axes in shown]
    assert boxes[7].x0 == boxes[2].x0
    assert boxes[7].y1 < boxes[2].y0
    width, height = figure.get_size_inches()
    assert boxes[2].width * width == pytest.approx(2 * boxes[2].height * height)
    assert all(box.x1 <= 1 and box.y0 >= 0 for box in boxes)


def test_a_score_among_those_of_the_images_is_marked():
    histogram, _ = draw_sheet(sheet(record={"score": 0.25})).axes[-2:]
    (line,) = histogram.lines
    assert list(line.get_xdata()) == [0.25, 0.25]
    assert [text.get_text() for text in histogram.texts] == ["picture: 0.25"]


def test_what_is_not_known_is_left_out():
    none = {"n_images": 0, "n_non_finite": 9, "minimum": None, "maximum": None, "active": 0.0, "histogram": (0, 0, 0)}
    unknown = sheet(record={"score": None}, found={**none, "strongest": (), "weakest": ()}, tiles=[])
    assert unknown.numbers == {"images, not finite": "9", "best step": "2 of 3", "pooling": "mean"}
    figure = draw_sheet(unknown)
    assert len(figure.axes) == 3  # two pictures and the curve
    assert len(figure.axes[-1].lines) == 1
    assert sheet().numbers["picture / largest"] == "3"
    assert "picture / largest" not in sheet(found={"maximum": -0.5}).numbers
    assert sheet(found={"active": 0.0}).numbers["images active"] == "0 % (dead)"


def test_an_interrupted_run_goes_on_and_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch):
    args = [*BASE, *DATA, "--units", '["conv:0", "fc:0"]']

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "save_sheet", stopped)
        assert main(args) == 130
    pictures = {path: path.stat().st_mtime_ns for path in Path("sheets/pictures").rglob("*/*.png")}
    assert sorted(map(str, pictures)) == [
        f"sheets/pictures/{name}.png" for name in ("conv/-0", "conv/0", "fc/-0", "fc/0")
    ]
    add, seen = RunningExamples.add, []

    def counted(self: RunningExamples, scores: Tensor, is_active: Tensor, places: Tensor) -> None:
        seen.extend(places.tolist())
        add(self, scores, is_active, places)

    monkeypatch.setattr(RunningExamples, "add", counted)
    assert main(args) == 0
    assert not seen
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    assert Path("sheets/conv/0.pdf").exists()
    before = Path("sheets/conv/0.pdf").read_bytes()
    # Another unit: one pass of the images, and the pictures of this unit alone.
    args[-1] = '["conv:0-1"]'
    assert main(args) == 0
    assert sorted(seen) == list(range(48))
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    assert Path("sheets/conv/0.pdf").read_bytes() == before
    assert set(records()) == {"conv:0", "conv:1", "-conv:0", "-conv:1", "fc:0", "-fc:0"}


def test_a_folder_of_images_takes_the_place_of_data():
    Path("photos").mkdir()
    for shade in range(3):
        PILImage.new("RGB", (20, 12), (80 * shade,) * 3).save(f"photos/shade{shade}.png")
    inputs = ["--maximizer.image", "RawInput"]
    assert main([*BASE, *inputs, "--images", "photos", "--units", "conv:0"]) == 0
    shown = texts("sheets/conv/0.pdf")
    assert {text.partition(":")[0] for text in shown if text.startswith("shade")} == {"shade0", "shade1", "shade2"}
    # Signed values have their limit, and no weights beside them.
    assert any(re.fullmatch(rf"picture: {records()['conv:0']['score']:.3g} \(.+\)", text) for text in shown)
    assert not any(text.startswith("weights") for text in shown)


def test_units_that_are_not_finite_have_a_sheet_of_what_there_is(refused):
    args = [*BASE, *DATA, "--units", '["conv:0-1"]']
    args[2] = f"{__name__}.Broken"
    assert "2 of 4 pictures gave values that are not finite: conv:1, -conv:1" in refused(args, 1)
    shown = texts("sheets/conv/1.pdf")
    # "fi" may be one sign, a ligature.
    assert any(re.fullmatch(r"picture \(non-.{1,2}nite\)", text) for text in shown)
    assert any(re.fullmatch("images, not .{1,2}nite", text) for text in shown)
    assert "48" in shown
    assert "score of an image" not in shown
    assert "score of an image" in texts("sheets/conv/0.pdf")


def test_bad_input_ends_in_one_line(refused):
    Path("empty").mkdir()
    units = ["--units", '["fc:0"]']
    for args, message in (
        (units, "unit_sheet needs images: either --images FOLDER, or --data with a data module"),
        ([*DATA, *units, "--k", "0"], "unit_sheet(k=0): must be at least 1"),
        ([*DATA, *units, "--n_images", "0"], "unit_sheet(n_images=0): must be at least 1"),
        (DATA, "no units are given"),
        ([*DATA, "--units", "conf:0"], "no layer 'conf' in Net; layers: conv, norm, drop, fc. Did you mean 'conv'?"),
        ([*units, "--images", "empty"], "no image files in 'empty' or its subfolders"),
        ([*DATA, *units, "--part", "test"], "Data has no images for test"),
        ([*DATA, *units, "--output_dir", "/proc/x"], "cannot write to the folder /proc/x"),
    ):
        assert message in refused([*BASE, *args], 1)
    assert not list(Path().rglob("*.pdf"))


def test_the_quickstart_has_sheets():
    configs = ["--config", "configs/quickstart.yaml", "--config=configs/maximizer_digits.yaml", "--maximizer.steps=2"]
    small = ["--n_images", "20", "--trainer.accelerator", "cpu", "--units", '["conv1:0", "fc2:7"]']
    assert main(["unit_sheet", *configs, *small]) == 0
    assert "MnistCNN, 20 images" in texts("sheets/fc2/7.pdf")


def test_two_processes_give_the_files_of_one():
    # One at a time: a process with half of the pictures has smaller batches, and scores with another last bit.
    args = [*BASE, *DATA, "--batch_size", "1", "--units", '["conv:0", "fc:3"]', "--output_dir"]
    assert main([*args, "one"]) == 0
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "fvlightning", *args, "two", "--trainer.devices", "2"]
    subprocess.run(arguments, check=True, capture_output=True, env=environment, timeout=120)
    for name in ("conv/0.png", "conv/0.pdf", "fc/3.png", "fc/3.pdf"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert read_json("one/examples/examples.json") == read_json("two/examples/examples.json")
