"""Pixels, frequencies and raw inputs against their formulas."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import FourierImage, Parametrization, PixelImage, RawInput
from fvlightning.features.images import correlate_colors

SHAPES = [(1, 8, 8), (2, 7, 10), (3, 8, 9), (3, 5, 7), (1, 1, 6), (4, 6, 1)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(image: Parametrization, shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.stack([image.initial_parameters(shape, generator(seed)) for seed in range(count)])


def naive_fourier(parameters: NDArray[np.float64], height: int, width: int, decay: float) -> NDArray[np.float64]:
    """Sum the waves of one channel one by one; `parameters` is (H, W // 2 + 1, 2)."""
    picture = np.zeros((height, width))
    y, x = np.mgrid[:height, :width]
    for row in range(height):
        for column in range(width // 2 + 1):
            fy = (row if row < (height + 1) // 2 else row - height) / height
            fx = column / width
            scale = math.sqrt(width * height) / max(math.hypot(fx, fy), 1 / max(width, height)) ** decay
            coefficient = scale * complex(*parameters[row, column])
            # A half spectrum stands for the other half too, except in columns that are their own mirror image.
            twice = 1 if column == 0 or 2 * column == width else 2
            wave = coefficient * np.exp(2j * math.pi * (row * y / height + column * x / width))
            picture += twice * wave.real / (height * width)
    return picture / 4


LUCID = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def naive_colors(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    correlation = LUCID / max(math.sqrt(sum(value**2 for value in column)) for column in LUCID.T)
    mixed = np.zeros_like(colors)
    for out in range(3):
        for channel in range(3):
            mixed[out] += correlation[out, channel] * colors[channel]
    return mixed


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [1.0, 1.5, 0.0])
def test_fourier_pictures_follow_the_formula(shape: tuple[int, int, int], decay: float):
    channels, height, width = shape
    parameters = torch.randn(2, channels, height, width // 2 + 1, 2) * 0.3
    pictures = FourierImage(decay=decay)(parameters, shape)
    assert pictures.shape == (2, *shape)
    for picture, coefficients in zip(pictures, parameters.double().numpy(), strict=True):
        colors = np.stack([naive_fourier(channel, height, width, decay) for channel in coefficients])
        colors = naive_colors(colors) if channels == 3 else colors
        np.testing.assert_allclose(picture.numpy(), 1 / (1 + np.exp(-colors)), atol=2e-5)


def test_colours_are_correlated_by_lucids_matrix():
    colors = torch.randn(2, 3, 4, 5)
    expected = np.stack([naive_colors(picture) for picture in colors.double().numpy()])
    np.testing.assert_allclose(correlate_colors(colors).numpy(), expected, rtol=2e-6, atol=1e-6)
    assert np.linalg.norm(LUCID, axis=0).max() == pytest.approx(0.461952, abs=1e-6)
    for channels in (1, 2, 4):
        colors = torch.randn(2, channels, 4, 5)
        assert torch.equal(correlate_colors(colors), colors)


def test_decorrelation_is_optional():
    parameters = torch.randn(2, 3, 4, 5)
    assert torch.equal(PixelImage(decorrelate=False)(parameters, (3, 4, 5)), parameters.sigmoid())
    assert torch.equal(PixelImage()(parameters, (3, 4, 5)), correlate_colors(parameters).sigmoid())
    parameters = torch.randn(2, 3, 4, 3, 2)
    grey = FourierImage(decorrelate=False)(parameters, (3, 4, 5))
    for channel in range(3):
        alone = FourierImage()(parameters[:, channel : channel + 1], (1, 4, 5))
        torch.testing.assert_close(grey[:, channel : channel + 1], alone)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "image",
    [FourierImage(), PixelImage(), PixelImage(bound="clip"), PixelImage(max_rms=0.3), FourierImage(max_rms=0.3)],
)
def test_pictures_have_their_size_and_lie_in_the_unit_interval(image: Parametrization, shape: tuple[int, int, int]):
    start = batch(image, shape)
    for parameters in (start, start * 1e3, -start * 1e3):
        parameters = parameters.clone()
        image.project(parameters)
        pictures = image(parameters, shape)
        assert pictures.shape == (3, *shape)
        assert pictures.dtype == torch.float32
        assert pictures.min() >= 0
        assert pictures.max() <= 1
    assert image(start, shape).std() < 0.2


@pytest.mark.parametrize("image", [FourierImage(), PixelImage(), PixelImage(bound="clip"), RawInput()])
def test_the_start_depends_on_the_generator_alone(image: Parametrization):
    first, again = image.initial_parameters((3, 8, 8), generator(1)), image.initial_parameters((3, 8, 8), generator(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, image.initial_parameters((3, 8, 8), generator(2)))
    torch.manual_seed(5)
    assert torch.equal(first, image.initial_parameters((3, 8, 8), generator(1)))


@pytest.mark.parametrize("image", [FourierImage(max_rms=0.3), PixelImage(max_rms=0.3), RawInput(max_norm=0.1)])
def test_each_picture_depends_on_its_own_parameters_alone(image: Parametrization):
    parameters = batch(image, (3, 6, 7)).requires_grad_()
    pictures = image(parameters, (3, 6, 7))
    (gradients,) = torch.autograd.grad(pictures[1].square().sum(), parameters)
    assert gradients[1].any()
    assert not gradients[[0, 2]].any()
    torch.testing.assert_close(image(parameters[1:2], (3, 6, 7)), pictures[1:2])


@pytest.mark.parametrize("image", [FourierImage(), PixelImage(), PixelImage(bound="clip")])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_picture_can_be_made(image: Parametrization, channels: int):
    """A smooth picture with an edge and noise, within 1,000 steps of Adam."""
    shape = (channels, 17, 20)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 17), torch.linspace(0, 1, 20), indexing="ij")
    hues = torch.tensor([0.6, 0.5, 0.7])[:channels, None, None]
    given = (hues * rows + 0.2 * (columns > 0.5) + 0.1 * torch.rand(shape)).clamp(0.05, 0.95)
    parameters = batch(image, shape, 1).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        (image(parameters, shape) - given).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            image.project(parameters)
        if (error := (image(parameters, shape) - given).abs().mean()) < 0.005:
            break
    assert error < 0.01


def test_a_clip_projects_parameters():
    image = PixelImage(bound="clip")
    parameters = torch.tensor([-0.5, 0.25, 1.5]).reshape(1, 1, 1, 3)
    image.project(parameters)
    assert parameters.flatten().tolist() == [0, 0.25, 1]
    assert torch.equal(image(parameters, (1, 1, 3)), parameters)
    untouched = torch.tensor([-5.0, 5.0])
    PixelImage().project(untouched)
    assert untouched.tolist() == [-5, 5]


@pytest.mark.parametrize(
    "image", [FourierImage(max_rms=0.25), PixelImage(max_rms=0.25), PixelImage("clip", max_rms=0.25)]
)
def test_the_bound_on_the_root_mean_square_holds(image: Parametrization):
    parameters = batch(image, (1, 9, 9))
    pictures = image(parameters, (1, 9, 9))
    assert pictures.square().mean((1, 2, 3)).sqrt().tolist() == pytest.approx([0.25] * 3, rel=1e-5)


def test_pictures_within_the_bound_stay_as_they_are():
    parameters = torch.full((1, 1, 4, 4), 0.1)
    assert torch.equal(PixelImage("clip", max_rms=0.25)(parameters, (1, 4, 4)), parameters)
    black = torch.zeros(1, 1, 4, 4, requires_grad=True)
    pictures = PixelImage("clip", max_rms=0.25)(black, (1, 4, 4))
    (gradient,) = torch.autograd.grad(pictures.sum(), black)
    assert not pictures.any()
    assert gradient.isfinite().all()


def test_raw_inputs_are_bounded_by_their_norm():
    inputs = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(RawInput(max_norm=1)(inputs, (2,)), expected)
    assert RawInput()(inputs, (2,)) is inputs
    assert RawInput().initial_parameters((2,), generator()).shape == (2,)
    assert not RawInput.bounded


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        (PixelImage, {"bound": "tanh"}, "must be 'sigmoid' or 'clip'"),
        (PixelImage, {"std": -1}, "std=-1"),
        (PixelImage, {"max_rms": 0}, "max_rms=0"),
        (PixelImage, {"max_rms": 1.5}, "at most 1"),
        (PixelImage, {"max_rms": math.nan}, "max_rms=nan"),
        (PixelImage, {"bound": "clip", "decorrelate": True}, "use bound='sigmoid'"),
        (FourierImage, {"std": -0.1}, "std=-0.1"),
        (FourierImage, {"std": math.nan}, "std=nan"),
        (FourierImage, {"max_rms": -1}, "max_rms=-1"),
        (RawInput, {"max_norm": 0}, "max_norm=0"),
        (RawInput, {"max_norm": math.nan}, "max_norm=nan"),
        (RawInput, {"std": -1}, "std=-1"),
    ],
)
def test_settings_out_of_range_are_refused(image: type[Parametrization], settings: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        image(**settings)
