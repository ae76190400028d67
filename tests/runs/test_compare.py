"""`compare` by the command line: the same units in several spaces, beside natural images."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning import ClassifierModule, PixelImage, RawInput, ShapesDataModule
from fvlightning.analysis import pixel_measures
from fvlightning.cli import main
from fvlightning.errors import InputError
from fvlightning.features import measure_codes
from fvlightning.models import VAEModule
from fvlightning.runs.compare import check_spaces

TRAINER = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
DATA = ["--data", "ShapesDataModule", "--data.train_size", "600", "--data.test_size", "60", "--data.val_size", "50"]
MODEL = ["--model", "ClassifierModule", "--model.network", f"{__name__}.Small"]
MAXIMIZER = ["--maximizer", "Maximizer", "--maximizer.steps", "20"]
SPACES = ("pixel", "fourier", "latent", "decorrelated")
MEASURES = (
    *("activation_ratio", "robust_activation", "total_variation", "spectral_slope", "contrast", "colorfulness"),
    "nearest_natural",
)
pytestmark = pytest.mark.usefixtures("in_folder")


class Small(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return checkpoints of a trained classifier and of two autoencoders, one for smaller pictures."""
    folder = tmp_path_factory.mktemp("trained")
    data = ShapesDataModule(train_size=600, test_size=60, val_size=50, batch_size=30)
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with pl.utilities.seed.isolate_rng():
        torch.manual_seed(0)
        kept = ["--checkpoint.dirpath", str(folder), "--trainer.logger", "false", "--trainer.max_epochs", "3"]
        optimizer = ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "0.01"]
        assert main(["fit", *MODEL, *optimizer, *DATA, *TRAINER, *kept]) == 0
        for name, side in (("vae", 32), ("small", 16)):
            vae = VAEModule(input_shape=(3, side, side), latent_size=8, widths=(4, 8))
            trainer = pl.Trainer(**settings, max_epochs=1, enable_model_summary=False)
            if side == 32:
                trainer.fit(vae, datamodule=data)
            else:
                trainer.strategy.connect(vae)
            trainer.save_checkpoint(folder / f"{name}.ckpt")
    pictures = data.splits.train.images / 255
    measure_codes(folder / "vae.ckpt", pictures).save(folder / "vae.ckpt.codes.pt")
    return {"classifier": folder / "last.ckpt", "vae": folder / "vae.ckpt", "small": folder / "small.ckpt"}


@pytest.fixture
def command(trained: dict[str, Path]) -> list[str]:
    settings = {
        "pixel": {"class_path": "PixelImage"},
        "fourier": {"class_path": "FourierImage"},
        "latent": {"class_path": "LatentImage", "init_args": {"decoder": str(trained["vae"])}},
        "decorrelated": {"class_path": "DecorrelatedLatentImage", "init_args": {"decoder": str(trained["vae"])}},
    }
    base = ["compare", *MODEL, *DATA, *TRAINER, *MAXIMIZER, "--ckpt_path", str(trained["classifier"])]
    return [*base, "--spaces", json.dumps(settings)]


def content(folder: str = "comparison") -> dict[str, Any]:
    return json.loads(Path(folder, "comparison.json").read_text())


def read(path: str | Path) -> Tensor:
    return torch.from_numpy(np.array(PILImage.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255


def test_four_spaces_are_measured_side_by_side(
    command: list[str], trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    # The classes are apart, so that the records of a layer are not in the order of the units.
    assert main([*command, "--units", '["8:1-2", "3:4", "8:0"]']) == 0
    units = ["8:1", "8:2", "3:4", "8:0"]
    comparison = content()
    assert [(row["space"], row["unit"]) for row in comparison["pictures"]] == [
        (space, unit) for space in ("natural", *SPACES) for unit in units
    ]
    table = Path("comparison/comparison.md").read_text()
    assert table in capsys.readouterr().out
    # The natural images of a unit have the name of its class, too.
    named = {"8:0": "horizontal", "8:1": "vertical", "8:2": "rising"}
    assert all(row.get("class_name") == named.get(row["unit"]) for row in comparison["pictures"])
    assert "| spectral slope | contrast | colourfulness |" in table
    names = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert names == ["| natural", *(f"| {space}" for space in SPACES), "| all natural images"]
    with PILImage.open("comparison/comparison.png") as sheet:
        assert sheet.height > 4 * 112
    network = ClassifierModule.load_from_checkpoint(trained["classifier"], network=Small(), weights_only=True).eval()
    data = ShapesDataModule(train_size=600, test_size=60, val_size=50)
    data.setup("test")
    images = data.splits.test.images / 255

    def activations(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            maps = nn.Sequential(*list(network.net)[:4])(network.normalize(pictures)).mean((2, 3))
            logits = network(pictures)
        return torch.stack([logits[:, 1], logits[:, 2], maps[:, 4], logits[:, 0]], dim=1)

    def features(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return nn.Sequential(*list(network.net)[:8])(network.normalize(pictures))

    largest = activations(images).amax(0)
    for row in comparison["pictures"]:
        if row["space"] == "natural":
            assert row["activation_ratio"] in (None, pytest.approx(1, rel=1e-4))
            continue
        layer, _, index = row["unit"].partition(":")
        picture = read(Path("comparison", row["space"], layer, f"{index}.png"))
        place = units.index(row["unit"])
        activation = activations(picture)[0, place].item()
        assert row["activation"] == pytest.approx(activation, abs=1e-4)
        if largest[place] > 0:
            assert row["activation_ratio"] == pytest.approx(activation / largest[place].item(), abs=1e-4)
        for name, measured in pixel_measures(picture).items():
            assert row[name] == pytest.approx(measured.item(), abs=1e-3 if name == "spectral_slope" else 1e-5)
        distances = (features(picture) - features(images)).norm(dim=1)
        assert row["nearest_natural"] == pytest.approx(distances.min().item(), abs=1e-3)
    for space in SPACES:
        for name in MEASURES:
            values = [row[name] for row in comparison["pictures"] if row["space"] == space and row[name] is not None]
            assert comparison["medians"][space][name] == pytest.approx(np.median(values))
    assert not Path("runs").exists()


def test_measures_do_not_depend_on_the_batch_size(command: list[str]):
    units = ["--units", '["0:0-4"]', "--maximizer.repeats", "2"]
    assert main([*command, *units, "--output_dir", "together"]) == 0
    assert main([*command, *units, "--output_dir", "alone", "--batch_size", "1"]) == 0
    together, alone = content("together")["pictures"], content("alone")["pictures"]
    assert [row["repeat"] for row in together] == [*[0] * 5, *[0, 1] * 20]
    # Float error may round a pixel of 8 bits to the next.
    for one, two in zip(together, alone, strict=True):
        for name, value in one.items():
            same = pytest.approx(value, rel=0.03, abs=0.03) if isinstance(value, float) else value
            assert two[name] == same, (name, one)


def test_a_second_run_makes_what_is_missing(command: list[str]):
    units = ["--units", '["8:0-1"]']
    assert main([*command, *units]) == 0
    expected = content()
    files = {path: path.stat().st_mtime_ns for path in Path("comparison").glob("*/8/*.png")}
    assert len(files) == 8
    Path("comparison/latent/8/1.png").unlink()
    Path("comparison/comparison.json").unlink()
    assert main([*command, *units]) == 0
    assert content() == expected
    again = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert again == {Path("comparison/latent/8/1.png")}
    # Another decoder is another space of the same name.
    assert main([*command, *units, "--spaces.latent.prior_weight", "0.1"]) == 0
    changed = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert changed == {Path("comparison/latent/8/0.png"), Path("comparison/latent/8/1.png")}


def test_all_settings_but_the_space_and_its_default_optimizer_are_the_same(command: list[str]):
    assert main([*command, "--units", '["8:0"]', "--maximizer.seed", "4"]) == 0
    settings = {}
    for space in SPACES:
        (record,) = json.loads(Path("comparison", space, "features.json").read_text())
        settings[space] = record["settings"]
        assert record["settings"].pop("image")["class"].lower().startswith(space)
        decay = record["settings"]["optimizer"].pop("weight_decay")
        assert (decay > 0) == (space == "fourier")
    assert all(each == settings["pixel"] for each in settings.values())


def test_bad_input_ends_in_one_line(command: list[str], trained: dict[str, Path], refused):
    small, without_data = str(trained["small"]), [text for text in command if text not in DATA]
    units = ["--units", '["8:0"]']
    assert "compare needs --data, or a --config file that has 'data'" in refused([*without_data, *units], 2)
    for arguments, message in (
        ([*command, *units, "--spaces", "{}"], "no spaces to compare; give some"),
        (command, "no units are given"),
        ([*command, "--units", '["8:0-10"]'], "no unit 10 in layer '8', which has 10 units"),
        ([*command, "--units", '["88:0"]'], "no layer '88' in Small"),
        (
            [*command, *units, "--spaces.latent.decoder", small],
            f"space 'latent': the decoder '{small}' makes pictures of shape (3, 16, 16), and the network takes "
            "(3, 32, 32)",
        ),
        ([*command, *units, "--spaces.latent.decoder", str(trained["classifier"])], "is not a checkpoint of a VAE"),
        ([*command, *units, "--spaces.raw", "RawInput"], "space 'raw': RawInput makes no pictures in [0, 1]"),
        ([*command, *units, "--n_images", "1"], "n_images=1): must be at least 2"),
        ([*command, *units, "--batch_size", "0"], "batch_size=0): must be at least 1"),
        ([*command, *units, "--output_dir", f"{small}/out"], "cannot write to the folder"),
    ):
        assert message in refused(arguments, 1)
    assert not list(Path().rglob("*.png"))


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({}, "no spaces to compare"),
        ({"a/b": PixelImage()}, "'a/b' cannot be the name of a space"),
        ({"natural": PixelImage()}, "'natural' cannot be the name of a space"),
        ({"raw": RawInput()}, r"space 'raw': RawInput makes no pictures in \[0, 1\]"),
    ],
)
def test_spaces_that_cannot_be_compared_are_named(spaces: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        check_spaces(spaces, (3, 12, 12))
