"""Parametrisations at another size."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import FourierImage, Parametrization, PixelImage, RawInput
from fvlightning.features.images import CPPNImage, LaplacianImage, MagnitudeConstrainedImage
from fvlightning.features.images._spectra import resize_spectra

IMAGES = [
    PixelImage(),
    PixelImage("clip"),
    PixelImage(max_rms=0.4),
    FourierImage(),
    FourierImage(decay=1.5, decorrelate=False),
    LaplacianImage(),
    LaplacianImage(levels=2, decay=0.5),
    MagnitudeConstrainedImage(),
    CPPNImage(num_layers=2, width=5, std=1.0),
]
SHAPES = [((1, 8, 8), (1, 12, 12)), ((3, 9, 7), (3, 14, 11)), ((2, 10, 15), (2, 6, 9)), ((4, 5, 1), (4, 8, 2))]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(image: Parametrization, shape: tuple[int, ...]) -> Tensor:
    return torch.stack([image.initial_parameters(shape, generator(seed)) for seed in range(3)])


def smooth(shape: tuple[int, int, int]) -> Tensor:
    """Waves of few periods a picture, which are the same at any size, ``(1, C, H, W)`` in [0, 1]."""
    channels, height, width = shape
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    waves = [0.5 + 0.2 * torch.sin(2 * math.pi * (y + channel * x)) for channel in range(channels)]
    return torch.stack(waves)[None]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(("shape", "new_shape"), SHAPES)
def test_resized_parameters_have_the_shape_of_initial_ones(image: Parametrization, shape: tuple, new_shape: tuple):
    for before, after in ((shape, new_shape), (new_shape, shape)):
        parameters = batch(image, before)
        unchanged = parameters.clone()
        resized = image.resize(parameters, before, after)
        assert resized.shape == batch(image, after).shape
        assert resized.isfinite().all()
        pictures = image(resized, after)
        assert 0 <= pictures.min() <= pictures.max() <= 1
        assert torch.equal(parameters, unchanged)
        torch.testing.assert_close(image.resize(parameters[1:2], before, after), resized[1:2])


@pytest.mark.parametrize("image", IMAGES[:-2])
@pytest.mark.parametrize("sides", [(24, 36), (36, 24), (25, 31)])
def test_pictures_look_the_same_at_another_size(image: Parametrization, sides: tuple[int, int]):
    shape, new_shape = (3, sides[0], sides[0]), (3, sides[1], sides[1])
    expected = smooth(new_shape)
    if getattr(image, "max_rms", None):
        expected = expected * (image.max_rms / expected.square().mean().sqrt())
    pictures = image(image.resize(image.invert(smooth(shape)), shape, new_shape), new_shape)
    assert (pictures - expected).abs().mean() < 0.02
    assert (pictures - expected).abs().max() < 0.1


@pytest.mark.parametrize("image", IMAGES[:-2])
def test_resizing_to_the_same_size_changes_no_picture(image: Parametrization):
    shape = (3, 9, 10)
    parameters = 3 * batch(image, shape)
    image.project(parameters)
    torch.testing.assert_close(
        image(image.resize(parameters, shape, shape), shape), image(parameters, shape), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("image", [PixelImage("clip"), PixelImage(), LaplacianImage(decorrelate=False)])
def test_a_blur_is_gaussian(image: Parametrization):
    """A single bright pixel becomes a bell curve, before the sigmoid if there is one."""
    shape, sigma = (1, 31, 31), 2.0
    point = torch.full((1, *shape), 0.1)
    point[..., 15, 15] = 0.9
    blurred = image(image.resize(image.invert(point), shape, shape, blur=sigma), shape)[0, 0].double()
    offsets = np.arange(-15, 16)
    bell = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2))
    bell = torch.from_numpy(bell / bell.sum())
    if vars(image).get("bound") == "clip":
        expected = 0.1 + 0.8 * bell
    else:
        low, high = math.log(1 / 9), math.log(9)
        expected = (low + (high - low) * bell).sigmoid()
    torch.testing.assert_close(blurred, expected, atol=2e-3, rtol=0)


def test_a_blur_in_frequencies_equals_one_in_space():
    """On a picture that is the same at opposite borders."""
    shape = (1, 32, 32)
    frequencies, pixels = FourierImage(), PixelImage(decorrelate=False)
    waves = smooth(shape)
    blurred, expected = (
        image(image.resize(image.invert(waves), shape, shape, blur=3), shape) for image in (frequencies, pixels)
    )
    assert (blurred - expected)[..., 10:-10, 10:-10].abs().max() < 0.01
    assert (blurred - waves).abs().max() > 0.02


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5), (1, 4), (2, 1), (1, 1)])
@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 2), (2, 1), (1, 3)])
def test_waves_keep_the_old_pixels_and_come_back(size: tuple[int, int], factors: tuple[int, int]):
    pictures = torch.randn(2, *size, dtype=torch.float64)
    new_size = size[0] * factors[0], size[1] * factors[1]
    spectra = torch.fft.rfft2(pictures)
    larger = resize_spectra(spectra, size, new_size)
    grown = torch.fft.irfft2(larger, s=new_size)
    torch.testing.assert_close(grown[:, :: factors[0], :: factors[1]], pictures)
    torch.testing.assert_close(torch.fft.irfft2(resize_spectra(larger, new_size, size), s=size), pictures)


def test_waves_that_are_too_fine_are_left_out():
    x = torch.arange(12) / 12
    coarse, fine = torch.cos(2 * math.pi * 2 * x), torch.cos(2 * math.pi * 5 * x)
    spectra = torch.fft.rfft2((coarse + fine).expand(1, 12, 12))
    small = torch.fft.irfft2(resize_spectra(spectra, (12, 12), (8, 8)), s=(8, 8))
    expected = torch.cos(2 * math.pi * 2 * torch.arange(8) / 8).expand(1, 8, 8)
    torch.testing.assert_close(small, expected, atol=1e-5, rtol=0)


def test_with_natural_decay_coefficients_are_the_same_at_any_size():
    """The scale of lucid's formula then counts cycles a picture: a step means the same at each size."""
    image = FourierImage(decay=1)
    parameters = batch(image, (3, 9, 9))
    # This removes the coefficients that the transform ignores.
    parameters = image.resize(parameters, (3, 9, 9), (3, 9, 9))
    resized = image.resize(parameters, (3, 9, 9), (3, 15, 15))
    torch.testing.assert_close(resized[:, :, :5, :5], parameters[:, :, :5], atol=1e-6, rtol=1e-4)
    assert resized[:, :, 5:-4].abs().max() < 1e-6


def test_pixels_are_interpolated_before_the_sigmoid():
    """Near white, pixels stay as they are; from a picture they would be clamped."""
    parameters = torch.full((1, 1, 4, 4), 8.0)
    resized = PixelImage().resize(parameters, (1, 4, 4), (1, 6, 6))
    torch.testing.assert_close(resized, torch.full((1, 1, 6, 6), 8.0))
    picture = torch.randn(1, 1, 4, 4)
    expected = F.interpolate(picture, (6, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(PixelImage().resize(picture, (1, 4, 4), (1, 6, 6)), expected)


def test_parametrisations_that_cannot_be_resized_say_so():
    with pytest.raises(InputError, match="RawInput cannot start from a picture"):
        RawInput().resize(torch.zeros(1, 1, 4, 4), (1, 4, 4), (1, 8, 8))
    with pytest.raises(InputError, match=r"CPPNImage cannot blur pictures by 1\.5 at a new size; leave out the blur"):
        CPPNImage().resize(torch.zeros(1, 5), (1, 4, 4), (1, 8, 8), blur=1.5)
