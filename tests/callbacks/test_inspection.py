"""What a network makes of a few images, at the end of epochs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits import Digits, fit
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from fvlightning import InspectionCallback
from fvlightning.errors import InputError
from fvlightning.io import fit_picture, read_image, to_tensor


class NamedDigits(Digits):
    class_names = ("cat", "dog", *map(str, range(2, 10)))


def figures_of(folder: Path, epoch: int) -> list[dict[str, Any]]:
    return json.loads((folder / f"epoch_{epoch:04d}/inspection.json").read_text())["images"]


def test_each_epoch_shows_the_maps_and_predictions_of_the_same_images(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    callback = InspectionCallback(["conv", "norm"], n_images=3, top=2)
    data = NamedDigits()
    module, _ = fit(tmp_path, callback, data=data, logger=logger)
    folder = tmp_path / "run/version_0/inspection"
    names = [entry["image"] for entry in figures_of(folder, 0)]
    assert len(names) == 3
    kinds = [f"{layer}_{kind}" for layer in ("conv", "norm") for kind in ("maps", "top")]
    sheets = {"predictions", *(f"{name}_{kind}" for name in names for kind in kinds)}
    for epoch in range(3):
        assert [entry["image"] for entry in figures_of(folder, epoch)] == names
        files = {path.name for path in (folder / f"epoch_{epoch:04d}").iterdir()}
        assert files == {"inspection.json", *(f"{name}.png" for name in sheets)}
    assert {path.stem for path in folder.glob("*.webp")} == sheets
    first, last = figures_of(folder, 0), figures_of(folder, 2)
    for before, after in zip(first, last, strict=True):
        assert before["layers"]["norm"]["means"] != after["layers"]["norm"]["means"]
    module.eval()
    for entry in last:
        # Each image is one of its class, and the figures are those of the trained network.
        label = data.class_names.index(entry["image"])
        pictures = data.images.images[data.images.labels == label] / 255
        with torch.no_grad():
            means = module.net.conv(pictures).mean((2, 3))
            probabilities = module(pictures).softmax(1)
        place = (means - torch.tensor(entry["layers"]["conv"]["means"])).abs().sum(1).argmin()
        assert entry["layers"]["conv"]["means"] == pytest.approx(means[place].tolist(), abs=1e-5)
        assert entry["layers"]["conv"]["top"] == means[place].topk(2).indices.tolist()
        shares, classes = probabilities[place].topk(5)
        assert list(entry["predictions"].values()) == pytest.approx(shares.tolist(), abs=1e-5)
        expected = [name if name == str(index) else f"{index} {name}" for index, name in enumerate(data.class_names)]
        assert list(entry["predictions"]) == [expected[index] for index in classes]
    events = EventAccumulator(logger.log_dir).Reload()
    tags = {f"inspection/{name}/{kind}" for name in names for kind in kinds}
    assert set(events.Tags()["images"]) == {"inspection/predictions", *tags}
    assert [event.step for event in events.Images("inspection/predictions")] == [0, 6, 12]


def test_images_can_be_files(tmp_path: Path):
    files = [tmp_path / name for name in ("a.png", "more/A.png", "broken.png")]
    (tmp_path / "more").mkdir()
    for number, file in enumerate(files[:2]):
        PILImage.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    files[2].write_text("no image")
    callback = InspectionCallback("conv", list(map(str, files)), before_training=False)
    with pytest.warns(UserWarning, match=r"1 of 3 files cannot be read .*broken\.png"):
        module, _ = fit(tmp_path, callback, max_epochs=1)
    entries = figures_of(tmp_path / "inspection", 1)
    assert [entry["image"] for entry in entries] == ["a", "A_2"]
    for file, entry in zip(files, entries, strict=False):
        means = module.net.conv(fit_picture(to_tensor(read_image(file)) / 255, (1, 8, 8))[None]).mean((0, 2, 3))
        assert entry["layers"]["conv"]["means"] == pytest.approx(means.tolist(), abs=1e-5)
        # Neither data nor module know the outputs as classes.
        assert entry["predictions"] == {}
    assert not (tmp_path / "inspection/epoch_0001/predictions.png").exists()


def test_images_without_labels_are_numbered(tmp_path: Path):
    class Unlabelled(Digits):
        class_names = NamedDigits.class_names

        def val_dataloader(self) -> DataLoader:
            return DataLoader(TensorDataset(self.images.images / 255))

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return super().on_after_batch_transfer(batch, dataloader_idx) if len(batch) == 2 else batch

    fit(tmp_path, InspectionCallback("conv", n_images=2), data=Unlabelled(), limit_val_batches=0)
    assert [entry["image"] for entry in figures_of(tmp_path / "inspection", 2)] == ["0", "1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "conv", "top": 0}, r"InspectionCallback\(top=0\): must be at least 1"),
        ({"layers": "conv", "n_images": 0}, r"InspectionCallback\(n_images=0\): must be at least 1"),
        ({"layers": []}, r"InspectionCallback\(layers=\[\]\): name at least one"),
        ({"layers": "conf"}, "no layer 'conf' in Net.*Did you mean 'conv'"),
        ({"layers": "conv:3"}, "'conv:3' names units where a layer is expected"),
        ({"layers": "fc"}, "layer 'fc' has no positions, so it has no maps"),
        ({"layers": "conv#1"}, "no call 1 of layer 'conv'"),
        ({"layers": "conv", "images": "absent.png"}, "not one of 1 images can be read"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        fit(tmp_path, InspectionCallback(**options))
