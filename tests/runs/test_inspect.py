"""`inspect` by the command line: images through a model, with the pictures of the filters that they excite."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fvlightning import ClassifierModule
from fvlightning.analysis import LayerResponse
from fvlightning.cli import main
from fvlightning.io import fit_picture, read_image, to_tensor
from fvlightning.output import read_manifest
from fvlightning.runs._inspection_sheets import laid_over, maps_sheets, means_figure, strongest_sheet

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


def test_activations_that_are_not_finite_are_named_and_the_rest_is_there(images: Path, refused):
    command = ["inspect", *MODEL, "--model.network.broken", "true", *SETTINGS, "--images", f"{images}/a.png"]
    message = refused([*command, "--layers", "relu", "--pictures", "false"], 1)
    assert "1 mean activations are not finite: relu:2 for images/a.png; the rest is in out" in message
    (entry,) = inspection()["images"]
    assert entry["predictions"] == {}
    assert entry["layers"]["relu"]["means"][2] is None
    assert sorted(entry["layers"]["relu"]["top"]) == [0, 1, 3, 4, 5]
    assert Path("out/a/relu_top.png").exists()
    assert not Path("out/pictures").exists()


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


def test_maps_have_a_common_scale_or_their_own_and_sheets_of_144():
    maps = torch.zeros(300, 4, 4)
    maps[0], maps[299, 0, 0] = 1.0, 10.0
    sheets = maps_sheets(maps, "layer", own_scale=False)
    assert list(sheets) == ["_0-143", "_144-287", "_288-299"]
    dark, brightest = (68, 1, 84), (253, 231, 36)  # the ends of viridis
    assert brightest not in colours(sheets["_144-287"])
    assert {dark, brightest} <= colours(sheets["_288-299"])
    assert brightest in colours(maps_sheets(maps[:2], "layer", own_scale=True)[""])
    # With negative values zero is white, and NaN black rather than a value.
    signed = maps_sheets(torch.tensor([[[-1.0, 0.0], [torch.nan, 1.0]]]), "layer", own_scale=False)[""]
    assert {(5, 48, 97), (103, 0, 31), (0, 0, 0)} <= colours(signed)


def test_a_map_lies_over_its_place_in_the_image():
    image = np.full((32, 48, 3), 100, np.uint8)
    one = torch.zeros(2, 3)
    one[1, 2] = 1.0
    blended = laid_over(image, one, 1.0, signed=True).astype(int)
    is_grey = (blended == blended[..., :1]).all(-1)
    assert is_grey[:8].all()
    assert is_grey[:, :24].all()
    # From the centre of the patch on, the strongest red covers three quarters of the image, which is paler.
    strongest, pale = np.array([103, 0, 31]), 255 * 0.3 + 100 * 0.7
    np.testing.assert_array_equal(
        blended[24:, 40:], np.broadcast_to(np.rint(0.75 * strongest + 0.25 * pale), (8, 8, 3))
    )


def test_sheet_of_the_strongest_has_each_picture_and_white_paper_under_the_image():
    image, *pictures = (np.full((112, 112, 3), shade, np.uint8) for shade in (7, 9, 11))
    response = LayerResponse(torch.tensor([1.0, 2.0, 3.0]), torch.rand(3, 4, 4))
    names = {2: "2", 1: "1"}
    full = strongest_sheet(image, response, names, pictures, "title", own_scale=False)
    assert {(7, 7, 7), (9, 9, 9), (11, 11, 11)} <= colours(full)
    without_maps = strongest_sheet(image, LayerResponse(response.means, None), names, pictures, "title", own_scale=True)
    without_pictures = strongest_sheet(image, response, names, [], "title", own_scale=True)
    assert full.width == without_maps.width == without_pictures.width
    assert full.height > without_pictures.height >= without_maps.height


def test_numbers_of_neighbours_do_not_cover_each_other():
    means = torch.arange(100.0)
    (axes,) = means_figure(means, [99, 98, 97, 50], "layer").axes
    curve, marks = axes.lines
    np.testing.assert_array_equal(curve.get_ydata(), means)
    assert list(marks.get_xdata()) == [99, 98, 97, 50]
    assert [text.get_text() for text in axes.texts] == ["99", "50", "99: 99\n98: 98\n97: 97\n50: 50"]


def colours(sheet: PILImage.Image) -> set[tuple[int, ...]]:
    # The legend has few pixels of each.
    return {colour for count, colour in sheet.getcolors(2**24) if count > 300}
