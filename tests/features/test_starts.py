"""Images of the user's own to start from."""

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
from fvlightning.features.starts import fit_picture, read_image

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


def test_a_tensor_does_as_well_and_a_start_of_its_own_comes_first(network: nn.Module):
    given = 0.3 + 0.4 * torch.rand(SHAPE)
    first, second = still(initial_picture=given, image=PixelImage()).maximize(network, "0:0-1", SHAPE)
    assert (first.image - given).abs().max() < 0.003
    own = {("0:0", 0): torch.full(SHAPE, -1.0)}
    maximizer = still(initial_picture=given, image=PixelImage(decorrelate=False))
    first, second = maximizer.maximize(network, "0:0-1", SHAPE, warm_starts=own)
    assert first.image.unique().tolist() == pytest.approx([round(255 / (1 + np.e)) / 255])
    assert (second.image - given).abs().max() < 0.003


def test_the_first_round_of_a_schedule_starts_from_it(network: nn.Module):
    given = torch.full((3, 6, 6), 0.25)
    given[:, :3] = 0.75
    maximizer = Maximizer(
        scales=[Scale(6, 1), Scale(12, 1)],
        initial_picture=given,
        transforms=[],
        image=PixelImage(),
        optimizer=partial(optim.SGD, lr=0.0),
    )
    (feature,) = maximizer.maximize(network, "0:0", (3, 30, 30))
    assert feature.image[:, :3].mean().item() == pytest.approx(0.75, abs=0.02)
    assert feature.image[:, -3:].mean().item() == pytest.approx(0.25, abs=0.02)


def test_settings_tell_starts_apart_by_name_and_content(photo: Path):
    settings = [
        Maximizer().settings,
        Maximizer(initial_picture=str(photo)).settings,
        Maximizer(initial_picture=torch.zeros(SHAPE)).settings,
    ]
    PILImage.fromarray(pixels_of(60, 81)).save(photo)
    settings.append(Maximizer(initial_picture=photo).settings)
    assert len({json.dumps(own) for own in settings}) == 4
    assert settings[1]["start"]["file"] == str(photo)
    assert Maximizer(initial_picture=photo).settings == settings[3]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16", "YCbCr"])
def test_images_of_every_kind_are_read(tmp_path: Path, mode: str):
    grey = PILImage.fromarray(pixels_of(8, 20)[..., 1])
    if mode == "I;16":
        image = PILImage.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (3, 8, 20)
    assert read.dtype == torch.float32
    tolerance = {"1": 1, "P": 0.2}.get(mode, 0.02)
    expected = torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255).expand(3, -1, -1)
    torch.testing.assert_close(read, expected, atol=tolerance, rtol=0)


def test_a_transparent_palette_and_a_turned_camera(tmp_path: Path):
    palette = PILImage.fromarray(pixels_of(8, 8)).convert("P")
    palette.save(tmp_path / "p.png", transparency=bytes(range(256)))
    assert read_image(tmp_path / "p.png").shape == (3, 8, 8)
    exif = PILImage.Exif()
    exif[0x0112] = 6  # turned by a quarter
    PILImage.fromarray(pixels_of(8, 20)).save(tmp_path / "e.jpg", exif=exif)
    assert read_image(tmp_path / "e.jpg").shape == (3, 20, 8)


@pytest.mark.parametrize(
    ("size", "image_shape", "box"),
    [
        ((40, 80), (3, 10, 10), (0, 20, 40, 60)),
        ((80, 40), (3, 10, 20), (30, 0, 50, 40)),
        ((7, 9), (3, 7, 9), (0, 0, 7, 9)),
        ((10, 10), (3, 25, 15), (0, 2, 10, 8)),
    ],
)
def test_the_middle_is_cut_out_in_the_proportions(size: tuple, image_shape: tuple, box: tuple):
    picture = torch.rand(3, *size)
    top, left, bottom, right = box
    expected = nn.functional.interpolate(
        picture[None, :, top:bottom, left:right], image_shape[1:], mode="bicubic", antialias=True
    )[0].clamp(0, 1)
    torch.testing.assert_close(fit_picture(picture, image_shape), expected)


def test_channels_are_made_to_fit():
    picture = torch.rand(3, 4, 4)
    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    torch.testing.assert_close(fit_picture(picture, (1, 4, 4))[0], grey)
    torch.testing.assert_close(fit_picture(grey[None], (3, 4, 4)), grey.expand(3, -1, -1))
    with pytest.raises(InputError, match="a picture of 3 channels is no start for pictures of 4"):
        fit_picture(picture, (4, 4, 4))


def broken_png(path: Path) -> None:
    PILImage.fromarray(pixels_of(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no image file '.*x.png'"),
        (lambda path: path.mkdir(), "no image file '.*x.png'"),
        (lambda path: path.write_bytes(b""), "cannot read '.*x.png' as an image"),
        (lambda path: path.write_text("no image"), "cannot read '.*x.png' as an image"),
        (broken_png, "cannot read '.*x.png' as an image"),
    ],
)
def test_files_that_are_no_images_are_refused_when_the_maximizer_is_made(tmp_path: Path, write: Any, message: str):
    write(tmp_path / "x.png")
    with pytest.raises(InputError, match=message) as caught:
        Maximizer(initial_picture=tmp_path / "x.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.rand(4, 4), r"of shape \(4, 4\) is no picture"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8 .* is no picture"),
        (torch.zeros(3, 0, 4), "is no picture"),
        (torch.full((1, 2, 2), 1.5), r"values that are not in \[0, 1\]"),
        (torch.full((1, 2, 2), torch.nan), r"values that are not in \[0, 1\]"),
    ],
)
def test_tensors_that_are_no_pictures_are_refused(start: Tensor, message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(initial_picture=start)


@pytest.mark.parametrize("image", [CPPNImage(), RawInput()])
def test_parametrisations_that_cannot_start_from_a_picture_say_so(network: nn.Module, image: Parametrization):
    made: list[int] = []
    with pytest.raises(InputError, match="cannot start from a picture; use FourierImage"):
        Maximizer(1, image=image, transforms=[], initial_picture=torch.rand(SHAPE)).maximize(
            network, "0:0", SHAPE, on_step=made.append
        )
    assert not made
