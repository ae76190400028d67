"""`magnitude` by the command line: spectra of data modules and of folders of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fvlightning.cli import main
from fvlightning.data import MNISTDataModule
from fvlightning.features import FourierImage, MagnitudeConstrainedImage, load_magnitude, measure_magnitude
from fvlightning.features.images import read_magnitude_settings

SHAPE = ["--image_shape", "[3, 16, 24]"]
pytestmark = pytest.mark.usefixtures("in_folder")


@pytest.fixture
def photos() -> list[Tensor]:
    """Write five image files of the shape (3, 16, 24) into two folders, and return their pictures."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    Path("photos/more").mkdir(parents=True)
    for name, image in zip(("a.png", "b.PNG", "c.bmp", "more/d.tif", "more/e.png"), pixels, strict=True):
        PILImage.fromarray(image).save(Path("photos", name))
    return [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in pixels]


class UserData(pl.LightningDataModule):
    """A user's own data module, whose pictures are bytes until they are on the device."""

    def __init__(self, seed: int = 0, batch_size: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.image_shape = (1, 6, 7)
        self.seed, self.batch_size, self.scale = seed, batch_size, scale
        self.images = torch.randint(0, 256, (10, 1, 6, 7), generator=torch.Generator().manual_seed(seed))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(self.images, torch.arange(10)), batch_size=self.batch_size)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] / 255 * self.scale, batch[1]


DATA = ["--data", f"{__name__}.UserData"]


def test_the_spectrum_of_a_data_module_is_that_of_its_training_images(capsys: pytest.CaptureFixture[str]):
    assert main(["magnitude", *DATA, "--output", "mine.pt"]) == 0
    assert "mine.pt" in capsys.readouterr().out
    expected = measure_magnitude([UserData().images / 255], (1, 6, 7))
    torch.testing.assert_close(load_magnitude("mine.pt"), expected)
    assert [path.name for path in Path().iterdir()] == ["mine.pt"]


class Stream(IterableDataset[Tensor]):
    """Batches of unknown number."""

    def __iter__(self) -> Iterator[Tensor]:
        yield from (UserData().images / 255).split(3)


class StreamData(UserData):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Stream(), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


def test_data_of_unknown_length_are_measured():
    assert main(["magnitude", "--data", f"{__name__}.StreamData", "--output", "mine.pt"]) == 0
    expected = measure_magnitude([UserData().images / 255], (1, 6, 7))
    torch.testing.assert_close(load_magnitude("mine.pt"), expected)


def test_the_spectrum_of_digits_is_that_of_pictures_with_it(mnist_dir: Path, capsys: pytest.CaptureFixture[str]):
    data = ["--data", "MNISTDataModule", "--data.data_dir", str(mnist_dir), "--data.val_size", "40"]
    assert main(["magnitude", *data, "--output", "spectra/digits.safetensors"]) == 0
    datamodule = MNISTDataModule(data_dir=str(mnist_dir), val_size=40)
    datamodule.setup("fit")
    expected = measure_magnitude([datamodule.splits.train.images / 255], (1, 28, 28))
    spectrum = load_magnitude("spectra/digits.safetensors")
    torch.testing.assert_close(spectrum, expected, rtol=1e-4, atol=1e-4)
    image = MagnitudeConstrainedImage("spectra/digits.safetensors")
    assert torch.equal(image.spectrum((1, 28, 28)), spectrum)
    mean = (datamodule.splits.train.images / 255).mean().item()
    assert f"mean colour {mean:.2f}" in capsys.readouterr().out
    start = FourierImage(statistics="spectra/digits.safetensors")(torch.zeros(1, 1, 28, 15, 2), (1, 28, 28))
    assert start.mean().item() == pytest.approx(mean, abs=1e-5)


def test_the_spectrum_of_a_folder_is_that_of_its_images(photos: list[Tensor]):
    Path("photos/notes.txt").write_text("no image")
    assert main(["magnitude", "--images", "photos", *SHAPE, "--output", "photos.pt"]) == 0
    expected = measure_magnitude(photos, (3, 16, 24))
    torch.testing.assert_close(load_magnitude("photos.pt"), expected, rtol=1e-3, atol=1e-3)
    assert main(["magnitude", "--images", "photos", *SHAPE, "--decorrelate", "false", "--output", "rgb.pt"]) == 0
    expected = measure_magnitude(photos, (3, 16, 24), decorrelate=False)
    torch.testing.assert_close(load_magnitude("rgb.pt"), expected, rtol=1e-3, atol=1e-3)


def test_images_of_any_size_and_mode_are_measured():
    Path("photos").mkdir()
    ramp = np.linspace(0, 255, 60).astype(np.uint8)
    PILImage.fromarray(np.tile(ramp, (90, 1))).save("photos/grey.png")
    PILImage.fromarray(np.tile(ramp[:, None], (1, 70)), mode="L").convert("RGBA").save("photos/alpha.png")
    PILImage.fromarray(np.tile(ramp[::2], (10, 1))).convert("P").save("photos/small.gif")
    for shape, channels in (("[1, 20, 20]", 1), ("[3, 31, 20]", 3)):
        output = f"{channels}.pt"
        assert main(["magnitude", "--images", "photos", "--image_shape", shape, "--output", output]) == 0
        assert len(load_magnitude(output)) == channels


def test_unreadable_images_are_named_once_and_left_out(photos: list[Tensor]):
    Path("photos/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Path("photos/more/empty.jpg").touch()
    warning = r"2 of 7 files cannot be read as images and are left out: .*broken\.png \(.+\); .*empty\.jpg \(.+\)$"
    with pytest.warns(UserWarning, match=warning):
        assert main(["magnitude", "--images", "photos", *SHAPE, "--output", "photos.pt"]) == 0
    expected = measure_magnitude(photos, (3, 16, 24))
    torch.testing.assert_close(load_magnitude("photos.pt"), expected, rtol=1e-3, atol=1e-3)


def test_a_second_run_keeps_the_file(capsys: pytest.CaptureFixture[str], photos: list[Tensor], refused):
    command = ["--images", "photos", *SHAPE, "--output", "photos.pt"]
    assert main(["magnitude", *command]) == 0
    first = Path("photos.pt").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["magnitude", *command]) == 0
    assert "photos.pt exists, measured with these settings, and is kept" in capsys.readouterr().out
    assert Path("photos.pt").stat().st_mtime_ns == first
    # For another setting or other images the old file is neither used nor replaced without a word.
    assert "--overwrite true replaces it" in refused(["magnitude", *command, "--decorrelate", "false"], 1)
    Path("photos/a.png").unlink()
    assert "'photos.pt' exists" in refused(["magnitude", *command], 1)
    assert Path("photos.pt").stat().st_mtime_ns == first
    assert main(["magnitude", *command, "--overwrite", "true"]) == 0
    torch.testing.assert_close(
        load_magnitude("photos.pt"), measure_magnitude(photos[1:], (3, 16, 24)), rtol=1e-3, atol=1e-3
    )
    assert read_magnitude_settings("photos.pt")["files"] == 4


def test_only_settings_that_change_the_pictures_ask_for_another_file(capsys: pytest.CaptureFixture[str], refused):
    assert main(["magnitude", *DATA, "--output", "mine.pt"]) == 0
    assert main(["magnitude", *DATA, "--data.batch_size", "2", "--output", "mine.pt"]) == 0
    assert "mine.pt exists" in capsys.readouterr().out
    assert "'mine.pt' exists" in refused(["magnitude", *DATA, "--data.seed", "1", "--output", "mine.pt"], 1)


def test_the_model_of_a_config_is_not_made():
    config = {
        "model": {"class_path": "tiny.RefusedModel"},
        "data": {"class_path": f"{__name__}.UserData"},
        "trainer": {"accelerator": "cpu", "max_epochs": 3},
        "ckpt_path": "nowhere.ckpt",
        "weights_only": True,
    }
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["magnitude", "--config", "mine.yaml", "--output", "mine.pt"]) == 0
    assert load_magnitude("mine.pt").shape == (1, 6, 4)


def test_the_config_that_fit_saves_is_taken():
    fit = ["fit", "--model", "tiny.TinyModel", "--data", "tiny.TinyData", "--trainer.accelerator", "cpu"]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    saved = "runs/default/version_0/config.yaml"
    assert main(["magnitude", "--config", saved, *DATA, "--output", "mine.pt"]) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "magnitude needs images: either --images FOLDER, or --data"),
        (["--images", "photos", *DATA], "not both"),
        (["--images", "photos"], "image_shape=None: must be [C, H, W] with 1 or 3 channels"),
        (["--images", "photos", "--image_shape", "[2, 8, 8]"], "with 1 or 3 channels"),
        (["--images", "photos", "--image_shape", "[3, 0, 8]"], "image_shape=[3, 0, 8]"),
        (["--images", "nowhere", *SHAPE], "no folder 'nowhere'"),
        (["--images", "empty", *SHAPE], "no image files in 'empty'"),
        (["--images", "broken", *SHAPE], "not one of 1 images can be read; the last: cannot read 'broken/a.png'"),
        (["--data", "tiny.TinyData"], "TinyData has images of shape (4,)"),
        ([*DATA, "--image_shape", "[1, 6, 8]"], "UserData has images of shape (1, 6, 7)"),
        ([*DATA, "--data.scale", "255"], "UserData has images with values outside [0, 1]"),
        ([*DATA, "--model", "tiny.TinyModel"], "magnitude does not use --model; leave it out"),
    ],
)
def test_images_that_cannot_be_measured_end_in_one_line(photos: list[Tensor], refused, args: list[str], message: str):
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"\x89PNG")
    status = 2 if "--model" in args else 1
    assert message in refused(["magnitude", *args, "--output", "mine.pt"], status)
    assert not Path("mine.pt").exists()


def test_files_that_cannot_be_written_end_in_one_line(photos: list[Tensor], refused):
    command = ["magnitude", "--images", "photos", *SHAPE]
    assert "magnitude needs --output" in refused(command, 2)
    assert "'mine.npy'" in refused([*command, "--output", "mine.npy"], 1)
    Path("file").touch()
    assert "cannot write to the folder file" in refused([*command, "--output", "file/mine.pt"], 1)
    Path("other.pt").write_bytes(b"\x89PNG of the user's")
    assert "'other.pt' is damaged" in refused([*command, "--output", "other.pt"], 1)
    assert Path("other.pt").read_bytes() == b"\x89PNG of the user's"


def test_a_spectrum_without_settings_is_kept(photos: list[Tensor], refused):
    torch.save(torch.ones(3, 16, 13), "plain.pt")
    command = ["magnitude", "--images", "photos", *SHAPE, "--output", "plain.pt"]
    assert "'plain.pt' exists" in refused(command, 1)
