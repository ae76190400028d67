"""`examples` by the command line: real images, patches, sheets, records, bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits import Digits, Fixed
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torchvision.transforms import v2

from fvlightning.analysis import RunningExamples
from fvlightning.cli import main
from fvlightning.data import ShuffledBatchSampler, batch_loader
from fvlightning.output import read_pixels
from fvlightning.runs import _example_pass

TRAINER = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
BASE = ["examples", "--model", f"{__name__}.Fixed", *TRAINER, "--trainer.logger", "false"]
DATA = ["--data", f"{__name__}.Data"]
UNITS = ["--units", '["conv:*", "fc:0-2"]']
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:.* without --ckpt_path"),
]


class Broken(Fixed):
    """It gives NaN for bright pictures, and one value for the second unit."""

    def __init__(self) -> None:
        super().__init__()
        self.net.conv = nn.Sequential(self.net.conv, Faulty())


class Faulty(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        maps = maps.clone()
        maps[:, 1] = -1.0
        maps[:, 0] = torch.where(maps[:, :1, 0, 0, None] > maps[0, 0, 0, 0], torch.nan, maps[:, 0])
        return maps


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Any:
        yield from (Digits().images.images / 255).split(5)


class Data(Digits):
    """It gives its loaders without a trainer."""

    class_names: tuple[str, ...] = ()

    def train_dataloader(self) -> DataLoader[Any]:
        return batch_loader(self.images, ShuffledBatchSampler(self.images, self.batch_size))


class StreamData(Data):
    """Pictures without labels, of unknown number."""

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Stream(), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


class TransformedDigits(Data):
    def __init__(self) -> None:
        super().__init__()
        self.transforms = [v2.RandomHorizontalFlip(p=0.25)]


class NamedDigits(Data):
    class_names = tuple("abcdefgh")


def content(folder: str = "examples") -> dict[str, Any]:
    return json.loads(Path(folder, "examples.json").read_text())


def scores_of_all() -> Tensor:
    network, pictures = Fixed().eval().net, Digits().images.images / 255
    with torch.no_grad():
        return torch.cat([network.conv(pictures).mean((2, 3)), network(pictures)[:, :3]], dim=1)


def test_the_images_are_those_of_a_full_sort_with_their_classes_and_patches():
    data = ["--data", f"{__name__}.NamedDigits"]
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "logs"]
    assert main([*BASE[:-2], *data, *UNITS, *logger, "--k", "4", "--part", "val"]) == 0
    scores = scores_of_all()
    result = content()
    assert [unit["unit"] for unit in result["units"]] == [*(f"conv:{i}" for i in range(6)), "fc:0", "fc:1", "fc:2"]
    for column, unit in zip(scores.T, result["units"], strict=True):
        order = column.argsort(stable=True, descending=True).tolist()
        assert [example["place"] for example in unit["strongest"]] == order[:4]
        assert [example["place"] for example in unit["weakest"]] == order[:-5:-1]
        assert [example["place"] for example in unit["tenths"]] == [
            order[(48 * part // 10 + 48 * (part + 1) // 10) // 2] for part in range(10)
        ]
        assert unit["strongest"][0]["score"] == pytest.approx(column.max().item(), abs=1e-5)
        for example in unit["strongest"] + unit["weakest"]:
            assert example["label"] == example["place"] % 8
            assert example["class_name"] == "abcdefgh"[example["label"]]
            # The convolution is 5 x 5; the other layer has no positions.
            expected = [*example["position"], 5, 5] if unit["unit"].startswith("conv") else None
            assert example.get("box") == example.get("receptive_field") == expected
    names = {path.name for path in Path("examples").iterdir()}
    assert names == {"conv_examples.png", "fc_examples.png", "examples.json"}
    events = EventAccumulator(str(next(Path().rglob("events.out*")).parent)).Reload()
    assert sorted(events.Tags()["images"]) == ["examples/conv", "examples/fc"]
    # The first tile of the first row shows the strongest image, faded around its patch.
    sheet = read_pixels(Path("examples/conv_examples.png"))
    example = result["units"][0]["strongest"][0]
    image = Digits().images.images[example["place"], 0].numpy()
    top, left = example["position"]
    assert (sheet == image[top : top + 5, left : left + 5].max()).all(2).any()


def test_the_transforms_of_data_are_described_by_their_texts():
    assert main([*BASE, "--data", f"{__name__}.TransformedDigits", "--units", '["fc:0"]']) == 0
    assert content()["images"]["transforms"] == ["RandomHorizontalFlip(p=0.25)"]


def test_data_may_ask_for_their_trainer():
    assert main([*BASE, "--data", "digits.Digits", *UNITS]) == 0  # whose loaders need it
    assert main([*BASE, *DATA, *UNITS, "--output_dir", "without"]) == 0
    assert content()["units"] == content("without")["units"]


def test_a_folder_of_images_gives_file_names_and_leaves_out_what_cannot_be_read(caplog: pytest.LogCaptureFixture):
    Path("photos/some").mkdir(parents=True)
    for place in range(6):
        pixels = np.full((20, 12, 3), 40 * place, np.uint8)
        PILImage.fromarray(pixels).save(Path("photos", "some" if place % 2 else "", f"{place}.png"))
    Path("photos/3.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 7 files cannot be read as images and are left out: photos/3.png"):
        assert main([*BASE, "--images", "photos", "--units", "fc:0", "--k", "9"]) == 0
    (unit,) = content()["units"]
    assert {example["file"] for example in unit["strongest"]} == {
        *("0.png", "2.png", "4.png"),
        *("some/1.png", "some/3.png", "some/5.png"),
    }
    assert "label" not in unit["strongest"][0]
    assert "there are 6 images, fewer than the 9 that are asked for at each end" in caplog.text
    assert caplog.text.count("images of other sizes are cropped to the middle and resized to 8 x 8") == 1


def test_pictures_stand_beside_the_images():
    make = ["visualize", "--model", f"{__name__}.Fixed", *TRAINER, "--trainer.logger", "false", "--output_dir", "made"]
    assert main([*make, "--units", '["conv:0", "-conv:0"]', "--maximizer", "Maximizer", "--maximizer.steps", "2"]) == 0
    assert main([*BASE, *DATA, "--units", "conv:0-1", "--output_dir", "without"]) == 0
    pooling = ["--pooling", "rms"]
    with pytest.warns(UserWarning, match="made with the pooling mean, the images are chosen by rms"):
        assert main([*BASE, *DATA, "--units", "conv:0-1", "--pictures", "made", *pooling]) == 0
    before = {path: path.read_bytes() for path in Path("made").rglob("*.*")}
    assert main([*BASE, *DATA, "--units", "conv:0-1", "--output_dir", "made"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    sheets = {folder: read_pixels(Path(folder, "conv_examples.png")) for folder in ("without", "examples", "made")}
    assert sheets["made"].shape[1] - sheets["without"].shape[1] == 2 * (112 + 8 + 2 * 8)
    assert sheets["made"].shape == sheets["examples"].shape
    # Without pictures of these units, the folder of visualize is a folder as any other.
    assert main([*BASE, *DATA, "--units", "fc:0", "--output_dir", "made"]) == 0


@pytest.mark.parametrize("limit", [[], ["--n_images", "20"]])
def test_data_that_are_read_as_a_whole_have_numbers_and_no_labels(limit: list[str]):
    assert main([*BASE, "--data", f"{__name__}.StreamData", *UNITS, *limit]) == 0
    n_images = 20 if limit else 48
    order = scores_of_all()[:n_images, 0].argsort(stable=True, descending=True).tolist()
    unit = content()["units"][0]
    assert [example["place"] for example in unit["strongest"]] == order[:5]
    assert "label" not in unit["strongest"][0]
    assert unit["n_images"] == n_images


def test_an_interrupted_run_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, capsys):
    assert main([*BASE, *DATA, *UNITS, "--output_dir", "whole"]) == 0
    add, seen = RunningExamples.add, []

    def interrupted(self: RunningExamples, scores: Tensor, is_active: Tensor, places: Tensor) -> None:
        seen.append(places)
        if len(seen) == 4:
            raise KeyboardInterrupt
        add(self, scores, is_active, places)

    monkeypatch.setattr(RunningExamples, "add", interrupted)
    assert main([*BASE, *DATA, *UNITS]) == 130
    assert "stopped: what is done is in examples; the same command does the rest" in capsys.readouterr().err
    assert [path.name for path in Path("examples").iterdir()] == ["examples.rank0.pt"]
    # Other units begin anew.
    assert main([*BASE, *DATA, "--units", "conv:0", "--output_dir", "other"]) == 0
    seen.clear()
    seen.extend([torch.empty(0)] * 4)
    assert main([*BASE, *DATA, *UNITS]) == 0
    assert torch.cat(seen[4:]).tolist() == list(range(24, 48))
    assert content() == content("whole")
    assert not list(Path("examples").glob("*.pt"))


def test_results_are_kept_now_and_then(monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    monkeypatch.setattr(_example_pass, "_SECONDS_BETWEEN_FILES", 0.0)
    write = _example_pass.ExamplePass._write

    def counted(self: _example_pass.ExamplePass, running: RunningExamples) -> None:
        written.append(running.last_place)
        write(self, running)

    monkeypatch.setattr(_example_pass.ExamplePass, "_write", counted)
    assert main([*BASE, *DATA, "--units", "fc:0"]) == 0
    assert written == [7, 15, 23, 31, 39, 47, 47]


def test_units_with_other_than_plain_values_are_named(refused):
    args = [*BASE, *DATA, "--units", '["conv.1:*"]']
    args[2] = f"{__name__}.Broken"
    message = refused(args, 1)
    assert "1 of 6 units gave values that are not finite" in message
    assert "conv.1:0 (" in message
    assert "the other results are there" in message
    faulty, constant, *others = content()["units"]
    assert faulty["n_images"] + faulty["n_non_finite"] == 48
    assert (constant["dead"], constant["minimum"], constant["maximum"]) == (True, -1, -1)
    assert [example["place"] for example in constant["strongest"]] == [0, 1, 2, 3, 4]
    assert all(unit["n_images"] == 48 for unit in others)


def test_bad_input_ends_in_one_line(refused):
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/0.png").touch()
    Path("made").mkdir()
    Path("made/features.json").write_text("[]")
    for args, message in (
        ([*UNITS], "examples needs images: either --images FOLDER, or --data with a data module"),
        ([*DATA, *UNITS, "--k", "0"], "examples(k=0): must be at least 1"),
        ([*DATA, *UNITS, "--n_images", "0"], "examples(n_images=0): must be at least 1"),
        ([*DATA], "no units are given"),
        ([*DATA, "--units", "conf:0"], "no layer 'conf' in Net; layers: conv, norm, drop, fc. Did you mean 'conv'?"),
        ([*DATA, "--units", "fc:0@1,1"], "no position @1,1 in layer 'fc'; it has no positions: leave '@' out"),
        ([*UNITS, "--images", "empty"], "no image files in 'empty' or its subfolders"),
        ([*UNITS, "--images", "bad"], "not one of 1 images can be read; the last: cannot read 'bad/0.png' as an image"),
        ([*DATA, *UNITS, "--part", "test"], "Data has no images for test"),
        ([*DATA, *UNITS, "--pictures", "made"], "made has no pictures of these units; make them with visualize"),
        ([*DATA, *UNITS, "--pictures", "empty"], "no file 'empty/features.json'"),
    ):
        assert message in refused([*BASE, *args], 1)


def on_two_processes(*args: str) -> str:
    """Run a command on two processes, and return what it says."""
    command = [sys.executable, "-m", "fvlightning", *args, "--trainer.devices", "2"]
    # For the classes of this file, named as pytest imports it, and for those of the folder of tests.
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120).stderr


def test_two_processes_name_all_files_that_cannot_be_read():
    Path("photos").mkdir()
    for place in range(4):
        PILImage.fromarray(np.full((8, 8), 60 * place, np.uint8)).save(f"photos/{place}.png")
    for place in (1, 3, 4):  # all files of the second process, and one of the first
        Path(f"photos/{place}.png").write_bytes(b"no image")
    text = on_two_processes(*BASE, "--images", "photos", "--units", "fc:0")
    assert text.count("3 of 5 files cannot be read as images and are left out") == 1
    assert all(f"photos/{place}.png (it is not an image)" in text for place in (1, 3, 4))
    assert "resized" not in text
    assert content()["units"][0]["n_images"] == 2


def test_two_processes_give_the_files_of_one():
    args = [*BASE, *DATA, *UNITS, "--output_dir"]
    assert main([*args, "one"]) == 0
    on_two_processes(*args, "two")
    assert content("two") == content("one")
    assert {path.name for path in Path("two").iterdir()} == {path.name for path in Path("one").iterdir()}
    for name in ("conv_examples.png", "fc_examples.png"):
        assert np.array_equal(read_pixels(Path("two", name)), read_pixels(Path("one", name)))
