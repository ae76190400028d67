from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier, Digits, assert_same_bits, make_trainer, training_result
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.callbacks import VAEPicturesCallback
from fvlightning.data import MNISTDataModule
from fvlightning.errors import InputError
from fvlightning.features.images import DecorrelatedLatentImage, load_codes
from fvlightning.models import VAEModule
from fvlightning.networks import draw_alike

SHEETS = {"reconstructions.png", "samples.png", "class_samples.png", "interpolations.png"}
TILE, GAP, LINE = 112, 8, 35  # of a picture, between pictures, of the title and of a label


def fit(folder: Path, data: object, *callbacks: Callback, **options: Any) -> tuple[VAEModule, pl.Trainer]:
    pl.seed_everything(0)
    module = VAEModule(input_shape=(1, 28, 28), latent_size=4, widths=(4, 8))
    trainer = make_trainer(folder, *callbacks, limit_train_batches=4, **options)
    if isinstance(data, pl.LightningDataModule):
        trainer.fit(module, data)
    else:
        trainer.fit(module, data, data)
    return module, trainer


@pytest.fixture
def digits(mnist_dir: Path) -> MNISTDataModule:
    return MNISTDataModule(mnist_dir, batch_size=32, val_size=64)


def test_training_ends_with_the_same_bits(tmp_path: Path, digits: MNISTDataModule) -> None:
    results = []
    for callbacks in ([], [VAEPicturesCallback(embeddings=0, dirpath=str(tmp_path / "vae"))]):
        module, trainer = fit(tmp_path, digits, *callbacks, accumulate_grad_batches=2)
        results.append(training_result(module, trainer))
    assert_same_bits(*results)
    assert len(list((tmp_path / "vae").glob("epoch_*"))) == 3


def test_files_and_loggers_get_every_epoch(tmp_path: Path, digits: MNISTDataModule) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    fit(tmp_path, digits, VAEPicturesCallback(pictures=8, samples=8, embeddings=30), logger=logger)
    run = tmp_path / "run/version_0"
    for epoch in range(3):
        assert {path.name for path in (run / f"vae/epoch_{epoch:04d}").iterdir()} == SHEETS
    assert {path.name for path in (run / "vae").glob("*.webp")} == {sheet.replace("png", "webp") for sheet in SHEETS}
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {f"visualization/{Path(sheet).stem}" for sheet in SHEETS}
    assert [image.step for image in events.Images("visualization/samples")] == [0, 4, 8]


def test_the_projector_gets_codes_classes_and_pictures(tmp_path: Path, digits: MNISTDataModule) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    module, _ = fit(tmp_path, digits, VAEPicturesCallback(embeddings=30), logger=logger)
    run = tmp_path / "run/version_0"
    (folder,) = run.glob("*/codes of held-out pictures")
    config = (run / "projector_config.pbtxt").read_text()
    assert "tensors.tsv" in config
    assert 'tensor_name: "codes of held-out pictures:00008"' in config
    codes = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    labels = (folder / "metadata.tsv").read_text().split()
    assert codes.shape == (30, 4)
    # Each code is that of an image of the validation set of its class, and its sprite shows it.
    held_out = digits.splits.val
    with torch.no_grad():
        expected = module.eval().net.encoder(held_out.images / 255)[0].numpy()
    places = [int(np.abs(expected - code).max(1).argmin()) for code in codes]
    np.testing.assert_allclose(codes, expected[places], atol=1e-4)
    assert len(set(places)) == 30
    assert labels == [str(label) for label in held_out.labels[places].tolist()]
    sprites = np.asarray(PILImage.open(folder / "sprite.png").convert("L"))
    np.testing.assert_array_equal(sprites[:28, 28:56], held_out.images[places[1], 0])


def test_sheets_show_what_the_network_makes(tmp_path: Path, digits: MNISTDataModule) -> None:
    module, _ = fit(tmp_path, digits, VAEPicturesCallback(pictures=10, interpolations=2, class_codes=5), max_epochs=1)
    folder = tmp_path / "vae/epoch_0001"

    def tile(sheet: str, row: int, column: int) -> Tensor:
        """Read one tile back, at the pixels of the picture that it enlarges four times."""
        pixels = np.asarray(PILImage.open(folder / f"{sheet}.png").convert("L"))
        top, left = LINE + 2 * GAP + row * (TILE + LINE + GAP), GAP + column * (TILE + GAP)
        return torch.tensor(pixels[top + 2 : top + TILE : 4, left + 2 : left + TILE : 4]) / 255

    module.eval()
    with torch.no_grad():
        for row, column in [(0, 0), (0, 7), (2, 1)]:
            original = tile("reconstructions", row, column)[None, None]
            assert (original[0] == digits.splits.val.images / 255).flatten(1).all(1).any()
            found = tile("reconstructions", row + 1, column)
            torch.testing.assert_close(found, module(original)[0, 0], atol=1.01 / 255, rtol=0)
        first, third = (tile("reconstructions", 0, column)[None, None] for column in (0, 2))
        ends = [module.net.encoder(picture)[0] for picture in (first, third)]
        for step in (0, 3, 7):
            expected = module.net.decoder(torch.lerp(*ends, step / 7))[0, 0]
            torch.testing.assert_close(tile("interpolations", 0, step), expected, atol=1.01 / 255, rtol=0)
        codes = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
        expected = module.net.decoder(codes[9:10])[0, 0]
        torch.testing.assert_close(tile("samples", 1, 1), expected, atol=1.01 / 255, rtol=0)
        # The first five of a class, in an order of the callback's own.
        train = digits.splits.train
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
        for label in (0, 7):
            codes = module.net.encoder(train.images[order][train.labels[order] == label][:5] / 255)[0]
            expected = module.net.decoder(draw_alike(codes, 8, torch.Generator().manual_seed(0)))[3, 0]
            torch.testing.assert_close(tile("class_samples", label, 3), expected, atol=1.01 / 255, rtol=0)


def test_statistics_of_the_codes_lie_beside_the_checkpoint(tmp_path: Path, digits: MNISTDataModule) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", save_last="link")
    module, _ = fit(tmp_path, digits, VAEPicturesCallback(), checkpoint, enable_checkpointing=True)
    last = tmp_path / "checkpoints/last.ckpt"
    statistics = load_codes(f"{last.resolve()}.codes.pt")
    assert last.is_symlink()
    assert DecorrelatedLatentImage(last.resolve()).codes == statistics.fingerprint()
    with torch.no_grad():
        codes = module.eval().net.encoder(digits.splits.train.images / 255)[0]
    assert statistics.count == len(codes) == 576
    torch.testing.assert_close(statistics.mean, codes.mean(0).double(), atol=1e-5, rtol=1e-4)
    image = DecorrelatedLatentImage(last)
    white = torch.cov(image.invert(digits.splits.train.images / 255).T)
    torch.testing.assert_close(white, torch.eye(4), atol=0.02, rtol=0)


def test_plain_loaders_serve_as_well(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.rand(16, 1, 28, 28)), batch_size=4)
    fit(tmp_path, loader, VAEPicturesCallback(pictures=6, interpolations=3), num_sanity_val_steps=0)
    # These have no labels.
    assert {path.name for path in (tmp_path / "vae/epoch_0000").iterdir()} == SHEETS - {"class_samples.png"}


def test_a_class_with_a_single_picture_has_no_row(tmp_path: Path) -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    loader = DataLoader(TensorDataset(torch.rand(len(labels), 1, 28, 28), labels), batch_size=8)
    fit(tmp_path, loader, VAEPicturesCallback(pictures=6, interpolations=3), num_sanity_val_steps=0)
    with PILImage.open(tmp_path / "vae/epoch_0000/class_samples.png") as sheet:
        assert sheet.height == LINE + 2 * GAP + 2 * (TILE + LINE + GAP)


def test_without_codes_of_classes_there_is_no_such_sheet(tmp_path: Path, digits: MNISTDataModule) -> None:
    fit(tmp_path, digits, VAEPicturesCallback(class_codes=0, every_n_epochs=2, before_training=False))
    assert {path.name for path in (tmp_path / "vae/epoch_0002").iterdir()} == SHEETS - {"class_samples.png"}


def test_without_interpolations_there_is_no_such_sheet(tmp_path: Path, digits: MNISTDataModule) -> None:
    callback = VAEPicturesCallback(interpolations=0, every_n_epochs=2, before_training=False, animate=False)
    fit(tmp_path, digits, callback)
    assert [path.name for path in (tmp_path / "vae").iterdir()] == ["epoch_0002"]
    assert {path.name for path in (tmp_path / "vae/epoch_0002").iterdir()} == SHEETS - {"interpolations.png"}


def test_trial_run_leaves_no_files(tmp_path: Path, digits: MNISTDataModule) -> None:
    fit(tmp_path, digits, VAEPicturesCallback(), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_modules_without_an_autoencoder_are_refused(tmp_path: Path) -> None:
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, callbacks=[VAEPicturesCallback()])
    with pytest.raises(
        InputError, match="shows what an Autoencoder makes, and the net of Classifier is a Net; train VAE"
    ):
        trainer.fit(Classifier(), Digits())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pictures": 0}, r"pictures=0\): must be at least 1"),
        ({"samples": 0}, r"samples=0\): must be at least 1"),
        (
            {"pictures": 4, "interpolations": 3},
            r"interpolations=3\): must be 0 to 2, each between two of the 4 pictures",
        ),
        ({"class_codes": 1}, r"class_codes=1\): must be at least 2, or 0 for none"),
        ({"embeddings": -1}, r"embeddings=-1\): must be at least 0"),
        ({"every_n_epochs": 0}, r"every_n_epochs=0\): must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VAEPicturesCallback(**settings)
