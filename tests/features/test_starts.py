"""Initial pictures: images and tensors to start from."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    CPPNImage,
    FourierImage,
    LaplacianImage,
    Maximizer,
    Parametrization,
    PixelImage,
    RawInput,
)
from fvlightning.features.scales import Scale

SHAPE = (3, 12, 16)


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3))


def pixels_of(height: int, width: int) -> np.ndarray:
    """Two slopes and a constant, (H, W, 3), uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + y * 150 // height, 60 + x * 150 // width, np.full_like(x, 90)], axis=-1).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    PILImage.fromarray(pixels_of(60, 80)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def still(**settings: Any) -> Maximizer:
    """Makes a step that changes nothing."""
    return Maximizer(1, transforms=[], optimizer=partial(optim.SGD, lr=0.0), **settings)


@pytest.mark.parametrize("image", [PixelImage(), PixelImage("clip"), FourierImage(), LaplacianImage()])
def test_pictures_start_from_the_image(network: nn.Module, photo: Path, image: Parametrization):
    features = still(image=image, initial_picture=photo, repeats=2).maximize(network, "0:0-1", SHAPE)
    # Blocks of 5 x 5 pixels become one.
    expected = torch.from_numpy(pixels_of(60, 80)).permute(2, 0, 1).float() / 255
    expected = expected.reshape(3, 12, 5, 16, 5).mean((2, 4))
    for feature in features:
        assert (feature.image - expected)[:, 1:-1, 1:-1].abs().max() < 0.01
        assert (feature.image - expected).abs().max() < 0.04


def test_pictures_start_from_a_tensor_unless_they_have_a_warm_start(network: nn.Module):
    picture = 0.3 + 0.4 * torch.rand(SHAPE)
    first, second = still(initial_picture=picture, image=PixelImage()).maximize(network, "0:0-1", SHAPE)
    assert (first.image - picture).abs().max() < 0.003
    maximizer = still(initial_picture=picture, image=PixelImage(decorrelate=False))
    warm_starts = {("0:0", 0): torch.full(SHAPE, -1.0)}
    first, second = maximizer.maximize(network, "0:0-1", SHAPE, warm_starts=warm_starts)
    assert first.image.unique().tolist() == pytest.approx([round(255 / (1 + np.e)) / 255])
    assert (second.image - picture).abs().max() < 0.003


def test_the_first_round_of_a_schedule_starts_from_it(network: nn.Module):
    picture = torch.full((3, 6, 6), 0.25)
    picture[:, :3] = 0.75
    maximizer = Maximizer(
        scales=[Scale(6, 1), Scale(12, 1)],
        initial_picture=picture,
        transforms=[],
        image=PixelImage(),
        optimizer=partial(optim.SGD, lr=0.0),
    )
    (feature,) = maximizer.maximize(network, "0:0", (3, 30, 30))
    assert feature.image[:, :3].mean().item() == pytest.approx(0.75, abs=0.02)
    assert feature.image[:, -3:].mean().item() == pytest.approx(0.25, abs=0.02)


def described(initial_picture: Any) -> Any:
    return Maximizer(initial_picture=initial_picture).settings.describe()["initial_picture"]


def test_settings_tell_initial_pictures_apart_by_name_and_content(photo: Path):
    settings = [described(None), described(str(photo)), described(torch.zeros(SHAPE))]
    PILImage.fromarray(pixels_of(60, 81)).save(photo)
    settings.append(described(photo))
    assert len({json.dumps(setting) for setting in settings}) == 4
    assert settings[0] is None
    assert settings[1]["file"] == str(photo)
    assert described(photo) == settings[3]


def broken_png(path: Path) -> None:
    PILImage.fromarray(pixels_of(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b""), "it is not an image"),
        (lambda path: path.write_text("no image"), "it is not an image"),
        (broken_png, "image file is truncated"),
    ],
)
def test_files_that_are_not_images_are_refused_when_the_maximizer_is_made(tmp_path: Path, write: Any, message: str):
    write(tmp_path / "x.png")
    line = rf"^Maximizer\(initial_picture=\.\.\.\): cannot read '.*x.png' as an image: .*{message}"
    with pytest.raises(InputError, match=line) as caught:
        Maximizer(initial_picture=tmp_path / "x.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.rand(4, 4), r"of shape \(4, 4\) is not a picture"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8 .* is not a picture"),
        (torch.zeros(3, 0, 4), "is not a picture"),
        (torch.full((1, 2, 2), 1.5), r"must be in \[0, 1\]"),
        (torch.full((1, 2, 2), torch.nan), r"must be in \[0, 1\]"),
    ],
)
def test_tensors_that_are_not_pictures_are_refused(picture: Tensor, message: str):
    with pytest.raises(InputError, match=rf"^Maximizer\(initial_picture=\.\.\.\): .*{message}"):
        Maximizer(initial_picture=picture)


@pytest.mark.parametrize("image", [CPPNImage(), RawInput()])
def test_parametrisations_that_cannot_start_from_a_picture_say_so(network: nn.Module, image: Parametrization):
    made: list[int] = []
    with pytest.raises(InputError, match="cannot start from a picture; use FourierImage"):
        Maximizer(1, image=image, transforms=[], initial_picture=torch.rand(SHAPE)).maximize(
            network, "0:0", SHAPE, on_step=made.append
        )
    assert not made
