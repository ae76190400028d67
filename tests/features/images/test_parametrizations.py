"""The Laplacian pyramid, the CPPN and the magnitude-constrained picture against naive counterparts."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import FourierImage, Maximizer, Parametrization, PixelImage, RawInput
from fvlightning.features.images import CPPNImage, LaplacianImage, MagnitudeConstrainedImage, natural_magnitude
from fvlightning.io import fit_picture, read_image, to_tensor

SHAPES = [(1, 8, 8), (2, 7, 10), (3, 8, 9), (3, 15, 33), (1, 1, 6), (4, 6, 1), (1, 1, 1)]
NEW = [
    LaplacianImage(),
    LaplacianImage(levels=9, decay=1.0),
    CPPNImage(num_layers=3, width=5),
    MagnitudeConstrainedImage(),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(image: Parametrization, shape: tuple[int, ...], count: int = 3) -> Tensor:
    return torch.stack([image.initial_parameters(shape, generator(seed)) for seed in range(count)])


def photo(shape: tuple[int, int, int]) -> Tensor:
    """A gradient of two hues, a soft disc and an edge, ``(1, C, H, W)``."""
    channels, height, width = shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    disc = torch.sigmoid(8 * (0.6 - torch.hypot(x - 0.2, y)))
    hues = torch.tensor([0.5, 0.2, 0.35, 0.1])[:channels, None, None]
    return (0.3 + 0.2 * hues * x + hues * disc + 0.15 * (y > 0.3))[None].clamp(0.05, 0.95)


def fit(draw, parameters: Tensor, wanted: Tensor, steps: int, lr: float = 0.05) -> float:
    """Return the mean absolute error after `steps` of Adam."""
    parameters = parameters.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (draw(parameters) - wanted).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        return (draw(parameters) - wanted).abs().mean().item()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("image", [*NEW, LaplacianImage(max_rms=0.3), CPPNImage(2, 4, decorrelate=True)])
def test_pictures_have_their_size_and_lie_in_the_unit_interval(image: Parametrization, shape: tuple[int, int, int]):
    start = batch(image, shape)
    for parameters in (start, start * 1e3, -start * 1e3):
        pictures = image(parameters, shape)
        assert pictures.shape == (3, *shape)
        assert pictures.dtype == torch.float32
        assert pictures.min() >= 0
        assert pictures.max() <= 1


@pytest.mark.parametrize("image", NEW)
def test_the_start_depends_on_the_generator_alone(image: Parametrization):
    first = image.initial_parameters((3, 8, 8), generator(1))
    assert not torch.equal(first, image.initial_parameters((3, 8, 8), generator(2)))
    torch.manual_seed(5)
    assert torch.equal(first, image.initial_parameters((3, 8, 8), generator(1)))


@pytest.mark.parametrize("image", NEW)
@pytest.mark.parametrize("shape", [(3, 6, 7), (1, 5, 4)])
def test_each_picture_depends_on_its_own_parameters_alone(image: Parametrization, shape: tuple[int, int, int]):
    parameters = batch(image, shape).requires_grad_()
    pictures = image(parameters, shape)
    (gradients,) = torch.autograd.grad(pictures[1].square().sum(), parameters)
    assert gradients[1].any()
    assert not gradients[[0, 2]].any()
    torch.testing.assert_close(image(parameters[1:2], shape), pictures[1:2])


@pytest.mark.parametrize("image", [PixelImage(), PixelImage("clip"), FourierImage(), LaplacianImage()])
@pytest.mark.parametrize("shape", [(3, 64, 63), (1, 47, 64)])
def test_a_photo_can_be_matched(image: Parametrization, shape: tuple[int, int, int]):
    """Within 1,000 steps of Adam; here 400 do. The photo comes with scikit-learn."""
    (package,) = find_spec("sklearn").submodule_search_locations
    wanted = fit_picture(to_tensor(read_image(Path(package, "datasets", "images", "china.jpg"))) / 255, shape)[None]
    assert fit(lambda p: image(p, shape), batch(image, shape, 1), wanted, steps=400) < 0.01


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 7, 10), (3, 32, 31), (3, 1, 5)])
@pytest.mark.parametrize(
    "image",
    [
        PixelImage(),
        PixelImage("clip"),
        PixelImage(decorrelate=False),
        FourierImage(),
        FourierImage(decay=1.5, decorrelate=False),
        LaplacianImage(),
        LaplacianImage(levels=3, decay=0.5),
    ],
)
def test_a_picture_is_inverted_to_parameters(image: Parametrization, shape: tuple[int, int, int]):
    pictures = torch.cat([photo(shape), torch.rand(1, *shape)])
    parameters = image.invert(pictures)
    assert parameters.shape[1:] == image.initial_parameters(shape, generator()).shape
    torch.testing.assert_close(
        image(parameters, shape),
        pictures.clamp(0.01, 0.99),
        atol=0.011 * (vars(image).get("bound") == "clip") + 1e-5,
        rtol=0,
    )
    extremes = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, *shape)
    assert (image(image.invert(extremes), shape) - extremes).abs().max() < 0.011


def test_a_warm_start_from_a_picture_shows_the_picture(cnn: nn.Module):
    shape, image = (1, 8, 8), LaplacianImage()
    start = {("fc:1", 0): image.invert(photo(shape))[0]}
    maximizer = Maximizer(image=image, transforms=[], optimizer=lambda p: torch.optim.SGD(p, lr=1e-9))
    ((_, feature),) = maximizer.stream(cnn, ["fc:1"], shape, warm_starts=start, steps=1)
    assert (feature.image - photo(shape)[0]).abs().max() < 0.003


@pytest.mark.parametrize("image", [CPPNImage(), RawInput()])
def test_parametrisations_that_cannot_start_from_a_picture_say_so(image: Parametrization):
    with pytest.raises(InputError, match="cannot start from a picture; use FourierImage"):
        image.invert(photo((3, 8, 8)))


@pytest.mark.parametrize("image", NEW)
def test_a_unit_is_excited_more_than_at_the_start(image: Parametrization, cnn: nn.Module):
    (feature,) = Maximizer(steps=20, image=image, transforms=[]).maximize(cnn, ["fc:2"], (1, 8, 8))
    assert feature.score > feature.history[0]
    assert feature.status == "ok"


def naive_pyramid(parameters: Tensor, shape: tuple[int, int, int], levels: int, decay: float) -> Tensor:
    """Enlarge every level by itself, step by step, and add them."""
    channels, height, width = shape
    sizes = [(math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in range(levels)]
    mean_square = sum(4 ** (level * (decay - 1)) for level in range(levels)) / levels
    total, first = torch.zeros(1, *shape), 0
    for level, (rows, columns) in enumerate(sizes):
        count = channels * rows * columns
        colors = parameters[first : first + count].reshape(1, channels, rows, columns) * 2.0 ** (level * (decay - 1))
        for size in reversed(sizes[:level]):
            colors = F.interpolate(colors, size=size, mode="bilinear")
        total, first = total + colors, first + count
    assert first == len(parameters)
    return (total / mean_square**0.5).sigmoid()[0]


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 13, 10), (3, 9, 16)])
def test_a_pyramid_is_the_sum_of_its_levels(shape: tuple[int, int, int]):
    image = LaplacianImage(levels=3, decay=1.5, std=1.0, decorrelate=False)
    parameters = batch(image, shape)
    for picture, own in zip(image(parameters, shape), parameters, strict=True):
        torch.testing.assert_close(picture, naive_pyramid(own, shape, 3, 1.5), atol=1e-5, rtol=0)


def test_one_level_is_pixels():
    parameters = torch.randn(2, 3 * 5 * 4)
    pictures = LaplacianImage(levels=1)(parameters, (3, 5, 4))
    torch.testing.assert_close(pictures, PixelImage()(parameters.reshape(2, 3, 5, 4), (3, 5, 4)))


def naive_cppn(parameters: Tensor, shape: tuple[int, int, int], num_layers: int, width: int) -> Tensor:
    """Draw one picture after the other, with 1×1 convolutions."""
    channels, height, columns = shape
    step = 2 * 3**0.5 / (height * columns) ** 0.5
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(columns) * 1.0, indexing="ij")
    coordinates = torch.stack([x - x.mean(), y - y.mean()])[None] * step
    pictures = []
    for own in parameters:
        first, hidden = 0, coordinates
        for layer in range(num_layers + 1):
            n_in, n_out = hidden.shape[1], channels if layer == num_layers else width
            weights, first = own[first : first + n_in * n_out] / 10, first + n_in * n_out
            biases, first = own[first : first + n_out] / 10, first + n_out
            hidden = F.conv2d(hidden, weights.reshape(n_in, n_out).T[:, :, None, None], biases)
            if layer < num_layers:
                arcs = torch.atan(hidden)
                hidden = torch.cat([arcs / 0.67, (arcs**2 - 0.45) / 0.396], dim=1)
        pictures.append(torch.sigmoid(hidden)[0])
    return torch.stack(pictures)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cppn_draws_what_a_network_of_convolutions_draws(shape: tuple[int, int, int]):
    image = CPPNImage(num_layers=4, width=6, std=1.0)
    parameters = batch(image, shape)
    torch.testing.assert_close(image(parameters, shape), naive_cppn(parameters, shape, 4, 6), atol=1e-5, rtol=1e-4)


def test_a_cppn_matches_a_photo_as_well_as_a_network_of_convolutions():
    shape, image = (3, 16, 16), CPPNImage(num_layers=3, width=8)
    start, wanted = batch(image, shape, 1), photo((3, 16, 16))
    error = fit(lambda p: image(p, shape), start, wanted, steps=200)
    naive = fit(lambda p: naive_cppn(p, shape, 3, 8), start, wanted, steps=200)
    assert error < 1.1 * naive + 1e-3
    assert error < 0.05


def test_a_cppn_draws_the_same_picture_at_any_size():
    image = CPPNImage(num_layers=2, width=6, std=1.0)
    parameters = batch(image, (3, 30, 30))
    small, large = image(parameters, (3, 10, 10)), image(parameters, (3, 30, 30))
    torch.testing.assert_close(small, large[:, :, 1::3, 1::3], atol=1e-5, rtol=0)


def test_the_composite_activation_has_unit_size():
    hidden = torch.randn(1, 4, 100_000)
    values, squares = CPPNImage()._activate(hidden).chunk(2, dim=1)
    assert values.std().item() == pytest.approx(1, abs=0.02)
    assert (squares.mean().item(), squares.std().item()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    biased = CPPNImage(activation="composite")._activate(hidden).chunk(2, dim=1)[1]
    assert biased.square().mean().sqrt().item() == pytest.approx(1, abs=0.02)


def whole_spectrum(half: Tensor, width: int) -> Tensor:
    """Make ``(C, H, W)`` of ``(C, H, W // 2 + 1)``, entry by entry, so that its inverse is real."""
    channels, height, _ = half.shape
    rows = []
    for row in range(height):
        for column in range(width):
            mirrored = 2 * column > width or (2 * column in (0, width) and 2 * row > height)
            entry = half[:, -row % height, -column % width].conj() if mirrored else half[:, row, column]
            own = (-row % height, -column % width) == (row, column)
            rows.append(entry.real.to(half.dtype) if own else entry)
    return torch.stack(rows, dim=1).reshape(channels, height, width)


def naive_phases(parameters: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Make one picture after the other by whole complex Fourier transforms."""
    magnitude = natural_magnitude(shape)
    pictures = []
    for own in parameters:
        whole = whole_spectrum(magnitude * torch.exp(1j * own), shape[2])
        waves = torch.fft.ifft2(whole)
        assert waves.imag.abs().max() < 1e-4
        pictures.append(waves.real.sigmoid())
    return torch.stack(pictures)


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_equal_those_of_a_whole_fourier_transform(shape: tuple[int, int, int]):
    image = MagnitudeConstrainedImage(decorrelate=False)
    parameters = batch(image, shape)
    torch.testing.assert_close(image(parameters, shape), naive_phases(parameters, shape), atol=1e-5, rtol=1e-4)


def test_phases_match_a_photo_as_well_as_those_of_a_whole_fourier_transform():
    shape, image = (1, 12, 13), MagnitudeConstrainedImage()
    start, wanted = batch(image, shape, 1), photo((1, 12, 13))
    error = fit(lambda p: image(p, shape), start, wanted, steps=60, lr=0.2)
    naive = fit(lambda p: naive_phases(p, shape), start, wanted, steps=60, lr=0.2)
    assert error == pytest.approx(naive, rel=0.05)
    assert error < 0.75 * (image(start, shape) - wanted).abs().mean()


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 9, 7), (2, 8, 5)])
def test_magnitudes_are_those_of_the_spectrum_whatever_the_phases(shape: tuple[int, int, int]):
    image = MagnitudeConstrainedImage(decorrelate=False, contrast=0.5)
    pictures = image(5 * torch.randn(2, *shape[:2], shape[2] // 2 + 1), shape)
    measured = torch.fft.rfft2(torch.logit(pictures.double())).abs()
    expected = image.spectrum(shape).double()
    real = np.ix_([0, shape[1] // 2] if shape[1] % 2 == 0 else [0], [0, -1] if shape[2] % 2 == 0 else [0])
    for magnitudes in measured:
        is_complex = torch.ones(shape[1], shape[2] // 2 + 1, dtype=torch.bool)
        is_complex[real] = False
        torch.testing.assert_close(magnitudes[:, is_complex], expected[:, is_complex], rtol=1e-3, atol=1e-3)
        assert (magnitudes <= expected * 1.001 + 1e-3).all()


def test_a_picture_gives_its_phases():
    shape = (3, 16, 16)
    image, given = MagnitudeConstrainedImage(), photo((3, 16, 16))
    picture = image(image.invert(given), shape)
    assert np.corrcoef(picture.flatten().numpy(), given.flatten().numpy())[0, 1] > 0.5


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        (LaplacianImage, {"levels": 0}, "levels=0"),
        (LaplacianImage, {"decay": math.nan}, "decay=nan"),
        (LaplacianImage, {"std": -1}, "std=-1"),
        (LaplacianImage, {"max_rms": 2}, "max_rms=2"),
        (CPPNImage, {"num_layers": 0}, "num_layers=0"),
        (CPPNImage, {"width": 0}, "width=0"),
        (CPPNImage, {"activation": "relu"}, "must be 'unbiased' or 'composite'"),
        (CPPNImage, {"std": math.nan}, "std=nan"),
        (CPPNImage, {"max_rms": 0}, "max_rms=0"),
        (MagnitudeConstrainedImage, {"decay": math.inf}, "decay=inf"),
        (MagnitudeConstrainedImage, {"contrast": 0}, "contrast=0"),
        (MagnitudeConstrainedImage, {"max_rms": -1}, "max_rms=-1"),
        (MagnitudeConstrainedImage, {"magnitude": "absent.pt"}, "no magnitude spectrum 'absent.pt'"),
    ],
)
def test_settings_out_of_range_are_refused(image: type[Parametrization], settings: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        image(**settings)
