"""Statistics of pictures, and the prior of `FourierImage` that follows from them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import FourierImage
from fvlightning.features.images import (
    MagnitudeConstrainedImage,
    load_statistics,
    measure_magnitude,
    measure_statistics,
    save_magnitude,
)
from fvlightning.features.images._spectra import frequencies
from fvlightning.io import digest_of_file

SHAPES = [(1, 16, 16), (3, 15, 20), (5, 16, 13)]
# Standard deviations and correlations of colours before the sigmoid, and a mean colour.
_ROOT = 0.3 * torch.tensor([[1.0, 0.2, 0.0], [0.4, -0.3, 0.1], [-0.6, 0.1, 0.2]])
_MEAN = torch.tensor([0.2, 0.5, 0.7])


def falling_noise(
    root: Tensor, mean: Tensor, decay: float, size: tuple[int, int] = (48, 48), count: int = 200
) -> Tensor:
    """Return pictures of a known covariance of colours before the sigmoid, whose magnitudes fall as ``f ** -decay``."""
    generator = torch.Generator().manual_seed(3)
    fall = frequencies(*size).clamp(min=1 / max(size)) ** -decay
    fall[0, 0] = 0
    noise = torch.fft.irfft2(torch.fft.rfft2(torch.randn(count, len(root), *size, generator=generator)) * fall, s=size)
    colors = torch.einsum("ij,bjhw->bihw", root, noise / noise.std())
    return (colors + torch.logit(mean)[:, None, None]).sigmoid()


def random_pictures(image: FourierImage, shape: tuple[int, int, int], count: int = 100) -> Tensor:
    parameters = [image.initial_parameters(shape, torch.Generator().manual_seed(seed)) for seed in range(count)]
    return image(torch.stack(parameters), shape)


def saved(pictures: Tensor, path: str = "mine.pt") -> str:
    save_magnitude(measure_statistics([pictures], pictures.shape[1:]), path)
    return path


def covariance(pictures: Tensor) -> Tensor:
    return torch.logit(pictures.double()).movedim(1, 0).flatten(1).cov(correction=0)


@pytest.fixture(autouse=True)
def _in_folder(in_folder: Path) -> None:
    """Files go to a folder of their own."""


def test_known_statistics_are_measured():
    pictures = falling_noise(_ROOT, _MEAN, decay=1.2)
    measured = measure_statistics([pictures[:60], *pictures[60:]], (3, 48, 48), periodic=False)
    expected = _ROOT @ _ROOT.T
    root = measured.color_correlation
    torch.testing.assert_close(root @ root.T, expected, rtol=0.02, atol=0.001)
    torch.testing.assert_close(root.T @ root, torch.diag((root.T @ root).diag()), rtol=0, atol=1e-5)
    torch.testing.assert_close(measured.mean_color, pictures.mean((0, 2, 3)))
    assert measured.slope == pytest.approx(-2.4, abs=0.1)
    assert measured.contrast == pytest.approx(sum(float(one.double().std(correction=0)) for one in pictures) / 200)
    torch.testing.assert_close(measured.magnitude, measure_magnitude([pictures], (3, 48, 48), periodic=False))


@pytest.mark.parametrize("decay", [0.6, 1.2, 2.0])
def test_random_pictures_have_the_covariance_slope_and_mean_of_the_data(decay: float):
    data = falling_noise(_ROOT, _MEAN, decay)
    pictures = random_pictures(FourierImage(std=0.1, statistics=saved(data)), (3, 48, 48))
    expected, made = covariance(data), covariance(pictures)
    # The direction of a covariance is that of all its entries; the colours of nature have another.
    cosine = (expected * made).sum() / (expected.norm() * made.norm())
    assert cosine > 0.995
    usual = covariance(random_pictures(FourierImage(std=0.1), (3, 48, 48)))
    assert (expected * usual).sum() / (expected.norm() * usual.norm()) < 0.6
    made_again = measure_statistics([pictures], (3, 48, 48), periodic=False)
    assert made_again.slope == pytest.approx(-2 * decay, abs=0.15)
    torch.testing.assert_close(pictures.mean((0, 2, 3)), _MEAN, rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_have_the_size_of_those_of_the_usual_prior(shape: tuple[int, int, int]):
    torch.manual_seed(0)
    data = falling_noise(torch.randn(shape[0], shape[0]), torch.full((shape[0],), 0.5), 1.4, shape[1:])
    image = FourierImage(statistics=saved(data), decorrelate=False)
    spread, usual = (torch.logit(random_pictures(one, shape)).std() for one in (image, FourierImage(decorrelate=False)))
    # The usual prior changes the mean as much as a slow wave; so does this one, and slow waves are stronger in it.
    assert spread.item() == pytest.approx(usual.item(), rel=0.4)


@pytest.mark.parametrize("decorrelate", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_return_from_their_parameters(shape: tuple[int, int, int], decorrelate: bool):
    generator = torch.Generator().manual_seed(0)
    data = 0.1 + 0.8 * torch.rand(6, *shape, generator=generator)
    image = FourierImage(statistics=saved(data), decorrelate=decorrelate)
    torch.testing.assert_close(image(image.invert(data), shape), data, rtol=0, atol=1e-4)
    assert torch.equal(image(torch.zeros(1, *image.invert(data).shape[1:]), shape)[0, :, 0, 0], image_mean(data))


def image_mean(data: Tensor) -> Tensor:
    return torch.logit(data.mean((0, 2, 3), dtype=torch.float64).float()).sigmoid()


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_are_the_same_waves_at_another_size(shape: tuple[int, int, int]):
    channels, height, width = shape
    image = FourierImage(std=0.3, statistics=saved(falling_noise(torch.eye(channels), torch.rand(channels), 1.5)))
    parameters = image.initial_parameters(shape, torch.Generator().manual_seed(0))[None]
    larger = (channels, 2 * height, 2 * width)
    resized = image.resize(parameters, shape, larger)
    assert resized.shape[1:] == image.initial_parameters(larger, torch.Generator()).shape
    torch.testing.assert_close(image(resized, larger)[..., ::2, ::2], image(parameters, shape), rtol=0, atol=1e-4)


def test_grey_images_in_three_channels_make_pictures_that_are_nearly_grey_and_have_an_inverse():
    data = falling_noise(torch.tensor([[0.5]]), torch.tensor([0.4]), 1.0).expand(-1, 3, -1, -1)
    image = FourierImage(std=0.2, statistics=saved(data))
    pictures = random_pictures(image, (3, 48, 48), 5)
    assert (pictures - pictures.mean(1, keepdim=True)).abs().mean() < 0.05 * pictures.std()
    torch.testing.assert_close(image(image.invert(pictures), (3, 48, 48)), pictures, rtol=0, atol=1e-3)


def test_images_of_one_colour_have_no_spectrum_and_give_the_usual_one():
    pictures = torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(4, 3, 8, 8)
    image = FourierImage(statistics=saved(pictures), decorrelate=False)
    parameters = FourierImage().initial_parameters((3, 8, 8), torch.Generator().manual_seed(0))[None]
    shifted = torch.logit(image(parameters, (3, 8, 8))) - torch.logit(pictures[:1])
    usual = torch.logit(FourierImage(decorrelate=False)(parameters, (3, 8, 8)))
    torch.testing.assert_close(shifted, usual, rtol=0, atol=1e-5)


def test_a_file_serves_both_parametrisations_and_settings_have_its_digest():
    data = falling_noise(_ROOT, _MEAN, 1.0, (16, 16), 20)
    for path in ("mine.pt", "mine.safetensors"):
        expected = measure_statistics([data], (3, 16, 16))
        save_magnitude(expected, path, {"a": 1})
        loaded = load_statistics(path)
        for name, value in vars(expected).items():
            assert torch.equal(torch.as_tensor(getattr(loaded, name)), torch.as_tensor(value).float()), name
        assert torch.equal(MagnitudeConstrainedImage(path).spectrum((3, 16, 16)), expected.magnitude)
    settings = FourierImage(statistics="mine.pt").settings
    assert settings["statistics"] == "mine.pt"
    assert settings["digest"] == digest_of_file("mine.pt")
    saved(data[:10])
    assert FourierImage(statistics="mine.pt").settings != settings


def test_slopes_of_tiny_pictures_are_not_known():
    measured = measure_statistics([torch.rand(2, 1, 7, 9)], (1, 7, 9))
    assert math.isnan(measured.slope)
    save_magnitude(measured, "tiny.pt")
    assert math.isnan(load_statistics("tiny.pt").slope)


def test_files_without_colours_and_other_channels_are_refused():
    data = torch.rand(3, 2, 8, 8)
    save_magnitude(measure_magnitude([data], (2, 8, 8)), "old.pt")
    assert MagnitudeConstrainedImage("old.pt").spectrum((2, 8, 8)).shape == (2, 8, 5)
    with pytest.raises(InputError, match=r"'old\.pt' holds a magnitude spectrum, but not the colours of the images"):
        FourierImage(statistics="old.pt")
    with pytest.raises(InputError, match=r"no magnitude spectrum 'none\.pt'"):
        FourierImage(statistics="none.pt")
    with pytest.raises(InputError, match="the magnitude spectrum has 2 channels, the pictures have 3"):
        FourierImage(statistics=saved(data)).initial_parameters((3, 8, 8), torch.Generator())
