"""`inspect` by the command line: images through a model, with the pictures of the filters that they excite."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fvlightning import ClassifierModule
from fvlightning.cli import main
from fvlightning.io import fit_picture, read_image, to_tensor
from fvlightning.output import read_manifest, read_pixels

SETTINGS = ["--trainer.accelerator", "cpu", "--maximizer", "Maximizer", "--maximizer.steps", "2"]
LAYERS = ["--layers", '["relu#1", "fc"]']
pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:inspect without --ckpt_path")]


class Small(nn.Module):
    """Two convolutions with one ReLU for both, and a filter that gives NaN if `broken`."""

    input_shape = (3, 16, 16)

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, 2), nn.Linear(8, 4)
        self.relu = nn.ReLU()
        if broken:
            self.first.bias.data[2] = torch.nan

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.relu(self.second(self.relu(self.first(pictures))))
        return self.fc(maps.mean((2, 3)))


class RememberedLogger(TensorBoardLogger):
    def __init__(self) -> None:
        super().__init__("logs")
        RememberedLogger.last = self


class Named(ClassifierModule):
    class_names = ("cat", "dog", "fox", "owl")
    crop_pct = 0.75


MODEL = ["--model", f"{__name__}.Named", "--model.network", f"{__name__}.Small"]


@pytest.fixture
def images(in_folder: None) -> Path:
    """Return a folder with images of two sizes, one of them grey, and a file that is none."""
    folder = Path("images")
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (20, 30, 3)), ("more/A.png", (9, 9))):
        PILImage.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_text("no image")
    return folder


def inspection(folder: str = "out") -> dict[str, Any]:
    return json.loads(Path(folder, "inspection.json").read_text())


def naive(file: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the probabilities and the mean activations of the layers, computed by hand."""
    network = Small()
    picture = fit_picture(to_tensor(read_image(file)) / 255, (3, 16, 16), 0.75)[None]
    with torch.no_grad():
        second = network.second(network.first(picture).relu()).relu()
        logits = network.fc(second.mean((2, 3)))[0]
    return logits.softmax(0), {"relu#1": second.mean((0, 2, 3)), "fc": logits}


def test_a_folder_is_inspected_with_unreadable_files_named(images: Path, capsys: pytest.CaptureFixture[str]):
    logger = ["--trainer.logger", f"{__name__}.RememberedLogger"]
    command = ["inspect", *MODEL, *SETTINGS, *LAYERS, "--top", "2"]
    with pytest.warns(UserWarning, match=r"1 of 3 files cannot be read .*broken\.png \(it is not an image\)"):
        assert main([*command, *logger, "--images", str(images), "--curve", "svg"]) == 0
    result = inspection()
    assert [entry["folder"] for entry in result["images"]] == ["a", "A_2"]
    assert result["unreadable"] == ["images/broken.png"]
    top: set[str] = set()
    for entry in result["images"]:
        probabilities, means = naive(entry["image"])
        order = probabilities.argsort(descending=True).tolist()
        assert list(entry["predictions"]) == [f"{index} {Named.class_names[index]}" for index in order]
        assert list(entry["predictions"].values()) == pytest.approx(sorted(probabilities.tolist())[::-1], abs=1e-5)
        for layer, expected in means.items():
            assert entry["layers"][layer]["means"] == pytest.approx(expected.tolist(), abs=1e-5)
            assert entry["layers"][layer]["top"] == expected.topk(2).indices.tolist()
            top |= {f"{layer}/{index}.png" for index in entry["layers"][layer]["top"]}
        names = [f"{layer}_{kind}" for layer in means for kind in ("curve.png", "curve.svg", "top.png")]
        assert {path.name for path in Path("out", entry["folder"]).iterdir()} == {"relu#1_maps.png", *names}
    made = {path.relative_to("out/pictures").as_posix() for path in Path("out/pictures").glob("*/*.png")}
    assert made == top
    # The images prove that the filters respond: ReLUs block no picture in the first steps.
    assert {record.settings["open_relu_steps"] for record in read_manifest("out/pictures")} == {16}
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("images/a.png (30 x 20, its middle resized to 16 x 16): ")
    RememberedLogger.last.experiment.close()
    events = EventAccumulator(RememberedLogger.last.log_dir).Reload()
    assert {"a/relu#1_maps", "a/relu#1_curve", "A_2/fc_top", "pictures/relu#1"} <= set(events.Tags()["images"])
    # A second run keeps the pictures.
    times = {path: path.stat().st_mtime_ns for path in Path("out/pictures").glob("*/*.png")}
    assert main([*command, "--images", "images/a.png", "--own_scale", "true"]) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_activations_that_are_not_finite_are_named_and_the_rest_is_there(images: Path, refused, caplog):
    command = ["inspect", *MODEL, "--model.network.broken", "true", *SETTINGS, "--images", f"{images}/a.png"]
    message = refused([*command, "--layers", "relu", "--pictures", "false"], 1)
    assert "1 mean activations are not finite: relu:2 for images/a.png; the rest is in out" in message
    (entry,) = inspection()["images"]
    assert entry["predictions"] == {}
    assert "--classes" not in caplog.text
    assert entry["layers"]["relu"]["means"][2] is None
    assert sorted(entry["layers"]["relu"]["top"]) == [0, 1, 3, 4, 5]
    assert Path("out/a/relu_top.png").exists()
    assert not Path("out/pictures").exists()


class Codes(Small):
    """A network whose outputs are no classes, as far as one can know, or have another shape."""

    def __init__(self, flat: bool = True) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, pictures: Tensor) -> Tensor:
        return super().forward(pictures) if self.flat else self.first(pictures)


class Plain(pl.LightningModule):
    input_shape = (3, 16, 16)

    def __init__(self, flat: bool = True) -> None:
        super().__init__()
        self.net = Codes(flat)


def test_outputs_are_classes_only_if_the_model_or_the_user_says_so(images: Path, refused, caplog):
    command = ["inspect", "--model", f"{__name__}.Plain", *SETTINGS, "--layers", "first", "--pictures", "false"]
    command += ["--images", f"{images}/a.png"]
    assert main(command) == 0
    assert inspection()["images"][0]["predictions"] == {}
    assert "not known to be classes; --classes true shows them as such" in caplog.text
    assert main([*command, "--classes", "true"]) == 0
    with torch.no_grad():
        logits = Small()(fit_picture(to_tensor(read_image(f"{images}/a.png")) / 255, (3, 16, 16))[None])[0]
    predictions = inspection()["images"][0]["predictions"]
    assert list(predictions) == [f"class {index}" for index in logits.argsort(descending=True).tolist()]
    assert list(predictions.values()) == pytest.approx(logits.softmax(0).sort(descending=True).values.tolist())
    message = refused([*command, "--classes", "true", "--model.flat", "false"], 1)
    assert "Plain gives no outputs (B, K) that could be classes; leave out classes" in message


def test_two_processes_give_the_files_of_one(images: Path):
    (images / "broken.png").unlink()
    command = ["inspect", *MODEL, *SETTINGS, *LAYERS, "--top", "2", "--images", str(images), "--output_dir"]
    # As pytest imports this file, for the classes in it.
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "fvlightning", *command, "two", "--trainer.devices", "2"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(arguments, env=environment, text=True, **streams) as process:
        # At the same time: a process takes most of its time to start.
        assert main([*command, "one"]) == 0
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert output.count("images/a.png (30 x 20") == 1  # the second process says nothing
    one, two = inspection("one"), inspection("two")
    assert len(one["images"]) == 2
    for first, second in zip(one["images"], two["images"], strict=True):
        assert second["predictions"] == pytest.approx(first["predictions"], abs=1e-5)
        assert list(second["predictions"]) == list(first["predictions"])
        for layer, figures in first.pop("layers").items():
            assert second["layers"][layer]["top"] == figures["top"]
            assert second["layers"][layer]["means"] == pytest.approx(figures["means"], abs=1e-5)
        assert {**second, "layers": 0, "predictions": 0} == {**first, "layers": 0, "predictions": 0}
    assert {**two, "images": 0} == {**one, "images": 0}
    files = {path.relative_to("one") for path in Path("one").rglob("*.png")}
    assert {path.relative_to("two") for path in Path("two").rglob("*.png")} == files
    for file in files:
        pixels = read_pixels("two" / file).astype(int)
        assert np.abs(pixels - read_pixels("one" / file)).mean() < 1, file


def test_bad_input_ends_in_one_line(images: Path, refused):
    Path("empty").mkdir()
    command = ["inspect", *MODEL, *SETTINGS]
    some = ["--images", str(images)]
    assert "inspect needs --images" in refused([*command, *LAYERS], 2)
    assert "inspect needs --layers" in refused([*command, *some], 2)
    for arguments, message in (
        ([*LAYERS, "--images", "empty"], "no image files in 'empty'"),
        ([*LAYERS, "--images", "absent.png"], "not one of 1 images can be read; the last: cannot read 'absent.png'"),
        ([*some, "--layers", "[]"], "no layers are given"),
        ([*some, "--layers", "reul"], "no layer 'reul' in Small; layers: first, second, fc, relu. Did you mean 'relu'"),
        ([*some, "--layers", "relu#2"], "no call 2 of layer 'relu': Named calls it 2 times"),
        ([*some, *LAYERS, "--top", "0"], "inspect(top=0): must be at least 1"),
    ):
        assert message in refused([*command, *arguments], 1)
    assert not list(Path("out").rglob("*.png"))
