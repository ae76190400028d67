import math

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from fvlightning import ClassifierModule
from fvlightning.data import ShapesDataModule, measure_shapes, shows_class
from fvlightning.data.shapes import CLASS_NAMES, draw_shapes
from fvlightning.errors import InputError


@pytest.fixture(scope="module")
def pictures():
    """200 pictures of each class, ``(10, 200, 3, 32, 32)`` in [0, 1]."""
    return (draw_shapes(torch.arange(2000) % 10, seed=0) / 255).reshape(200, 10, 3, 32, 32).transpose(0, 1)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_pictures_show_the_feature_of_their_class_and_few_others_do(pictures, name):
    shares = {other: shows_class(pictures[label], name).double().mean() for label, other in enumerate(CLASS_NAMES)}

    assert shares.pop(name) > 0.97
    assert max(shares.values()) < 0.15
    assert sum(shares.values()) / 9 < 0.03


def test_constant_and_noisy_pictures_show_no_class():
    noise = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grey = torch.full((1, 3, 32, 32), 0.5)

    for name in set(CLASS_NAMES) - {"fine", "coarse"}:
        assert shows_class(noise, name).sum() <= 1
    assert not any(shows_class(grey, name) for name in set(CLASS_NAMES) - {"coarse"})


def grating(direction, frequency, size=32):
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    angle = math.radians(direction)
    wave = torch.sin(2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)))
    return (0.5 + 0.3 * wave).expand(1, 3, size, size)


@pytest.mark.parametrize("direction", [0.0, 30.0, 90.0, 135.0, 170.0])
@pytest.mark.parametrize("size", [32, 64])
def test_direction_and_frequency_of_a_sine_wave_are_measured(direction, size):
    measured = measure_shapes(grating(direction, 6, size))

    assert abs((measured.direction.item() - direction + 90) % 180 - 90) < 1
    assert measured.directedness.item() > 0.97
    assert measured.frequency.item() == pytest.approx(6, abs=0.2)
    assert measured.crossing.item() == pytest.approx(math.cos(4 * math.radians(direction)), abs=0.1)
    assert measured.chroma.item() == pytest.approx(0, abs=1e-6)


def test_names_of_stripes_are_those_that_a_viewer_gives_them():
    diagonal = torch.eye(32).roll(2, 1)[None, None].expand(1, 3, 32, 32)  # from top left to bottom right
    stripes = sum(diagonal.roll(shift, 3) for shift in (0, 1, 8, 9, 16, 17, 24, 25))

    assert shows_class(stripes, "falling")
    assert shows_class(stripes.flip(3), "rising")
    assert shows_class(grating(90, 5), "horizontal")
    assert shows_class(grating(0, 5), "vertical")
    assert shows_class((grating(0, 5) + grating(90, 6)) / 2, "checks")


@pytest.mark.parametrize(("colour", "hue"), [((1, 0, 0), 0), ((0, 1, 0), 120), ((0, 0, 1), 240), ((1, 1, 0), 60)])
def test_hue_is_that_of_the_colour_circle(colour, hue):
    measured = measure_shapes(torch.tensor(colour, dtype=torch.float32)[None, :, None, None].expand(1, 3, 32, 32))

    assert abs((measured.hue.item() - hue + 180) % 360 - 180) < 1e-3
    assert measured.purity.item() == pytest.approx(1)
    assert measured.chroma.item() == pytest.approx(1)


def test_set_is_balanced_and_seeded():
    first, again, other = (ShapesDataModule(200, 50, val_size=20, seed=seed) for seed in (0, 0, 1))
    for data in (first, again, other):
        data.setup()

    assert [part.labels.bincount().tolist() for part in first.splits] == [[18] * 10, [2] * 10, [5] * 10]
    assert all(torch.equal(a[:][0], b[:][0]) for a, b in zip(first.splits, again.splits, strict=True))
    assert not torch.equal(first.splits.test[:][0], other.splits.test[:][0])
    assert len(torch.cat([part[:][0] for part in first.splits]).unique(dim=0)) == 250


def network():
    return nn.Sequential(
        *(nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def test_a_small_network_learns_it_and_the_logs_name_it(tmp_path):
    with pl.utilities.seed.isolate_rng():
        torch.manual_seed(0)
        module = ClassifierModule(network(), optimizer=lambda parameters: torch.optim.Adam(parameters, 5e-3))
        data = ShapesDataModule(train_size=2500, test_size=500, batch_size=50)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=2,
            logger=CSVLogger(tmp_path),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(module, datamodule=data)
        (scores,) = trainer.test(module, datamodule=data, verbose=False)

    assert scores["test/accuracy"] > 0.95
    (hyperparameters,) = tmp_path.rglob("hparams.yaml")
    assert "data: ShapesDataModule" in hyperparameters.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_size": 9}, r"ShapesDataModule\(train_size=9\): must be at least 10, one for each class"),
        ({"test_size": 0}, r"test_size=0\): must be at least 10"),
        (
            {"train_size": 20, "test_size": 10, "val_size": 20},
            r"val_size=20\): must be less than the 20 training",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ShapesDataModule(**settings).setup()
