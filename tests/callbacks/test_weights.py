from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier, Digits
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from fvlightning.callbacks import WeightImagesCallback
from fvlightning.errors import InputError


def fit(
    module: pl.LightningModule, folder: Path, callback: WeightImagesCallback, logger: Logger | bool = False
) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        default_root_dir=folder,
        callbacks=[callback],
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Digits())


class Linear(Classifier):
    def __init__(self) -> None:
        super().__init__(lr=0.0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with torch.no_grad():
            self.net[1].weight.zero_()
            self.net[1].weight[0, 0] = -0.5
            self.net[1].weight[0, 63] = 1.0


def test_signs_have_colours_and_zero_is_white(tmp_path: Path) -> None:
    fit(Linear(), tmp_path, WeightImagesCallback())
    sheet = np.asarray(PILImage.open(tmp_path / "weights/epoch_0001/1.png")).astype(int)
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == ["1.webp", "epoch_0000", "epoch_0001"]
    # The first tile is 8 x 8 weights of 14 pixels; it begins below the title.
    row, column = next(
        (y, x) for y, x in np.ndindex(sheet.shape[:2]) if y > 20 and sheet[y, x, 2] > sheet[y, x, 0] + 50
    )
    tile = sheet[row : row + 112, column : column + 112][7::14, 7::14]
    assert tile[0, 0, 2] > tile[0, 0, 0]  # negative: blue
    assert tile[7, 7, 0] > tile[7, 7, 2] + 50  # positive: red
    assert (tile.reshape(64, 3)[1:63] > 240).all()  # zero: white


def test_convolution_is_found_and_shown_by_kernels(tmp_path: Path) -> None:
    fit(Classifier(), tmp_path, WeightImagesCallback(max_units=4))
    assert (tmp_path / "weights/epoch_0000/conv.png").exists()
    assert (tmp_path / "weights/conv.webp").exists()


def test_many_units_have_several_cards_and_one_file(tmp_path: Path) -> None:
    class Wide(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 27))

    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    fit(Wide(), tmp_path, WeightImagesCallback(), logger)
    events = EventAccumulator(logger.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == ["weights/1/0-24", "weights/1/25-26"]
    assert (tmp_path / "run/version_0/weights/epoch_0001/1.png").exists()


class Colored(Classifier):
    def __init__(self) -> None:
        super().__init__(lr=0.0)
        self.net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10))
        with torch.no_grad():
            self.net[1].weight.copy_(torch.tensor([1.0, -1.0, 1.0])[:, None, None])


def test_channels_are_apart_and_units_further(tmp_path: Path) -> None:
    fit(Colored(), tmp_path, WeightImagesCallback("1"))
    sheet = np.asarray(PILImage.open(tmp_path / "weights/epoch_0001/1.png")).astype(int)
    row = sheet[100]
    colors = np.sign(row[:, 0] - row[:, 2])
    ends = np.flatnonzero(np.diff(colors))
    runs = [(colors[end], end - start) for start, end in pairwise(ends)]
    # Red, blue, red, each of 3 x 40 pixels, with gaps of white; and the next unit likewise.
    unit = [(1, 120), (0, 10), (-1, 120), (0, 10), (1, 120)]
    assert runs[:11] == [*unit, (0, 28), *unit]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("norm", "layer 'norm' is a BatchNorm2d; choose a Linear or Conv2d layer, whose weights are images"),
        ("fc", r"layer 'fc' takes 96 inputs, which are not the pixels of a picture of shape \(1, 8, 8\)"),
        ("convv", "no layer 'convv' in Net; .* Did you mean 'conv'"),
    ],
)
def test_layers_without_images_are_refused(tmp_path: Path, layer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(Classifier(), tmp_path, WeightImagesCallback(layer))


def test_max_units_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"max_units=0\): must be at least 1"):
        WeightImagesCallback(max_units=0)
