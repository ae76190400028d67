"""Units whose best picture is known: the optimum of a linear unit follows from its weights."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import (
    L2,
    Feature,
    FourierImage,
    Maximizer,
    Objective,
    Parametrization,
    PixelImage,
    RawInput,
    Target,
    Unit,
    UnitActivation,
)

SHAPE = (1, 28, 28)
UNITS = "hidden:0-7"


@pytest.fixture
def mlp() -> nn.Module:
    """784-128-10, with its initial weights."""
    network = nn.Sequential()
    network.add_module("flatten", nn.Flatten())
    network.add_module("hidden", nn.Linear(784, 128))
    network.add_module("relu", nn.ReLU())
    network.add_module("logits", nn.Linear(128, 10))
    return network


def weights_of(network: nn.Module, feature: Feature) -> tuple[Tensor, float]:
    return network.hidden.weight[feature.unit.index].detach(), network.hidden.bias[feature.unit.index].item()


def cosine(first: Tensor, second: Tensor) -> float:
    return torch.cosine_similarity(first.flatten(), second.flatten(), dim=0).item()


# Where the sigmoid saturates its gradient is small. Adam's steps do not shrink with it, and 0.1 gets there in time.
IN_THE_BOX = [
    Maximizer(500, image=PixelImage(), transforms=[], optimizer=partial(torch.optim.Adam, lr=0.1)),
    Maximizer(500, image=PixelImage(bound="clip"), transforms=[]),
]


@pytest.mark.parametrize("maximizer", IN_THE_BOX)
def test_in_the_unit_box_a_unit_reaches_the_sum_of_its_positive_weights(mlp: nn.Module, maximizer: Maximizer):
    for feature in maximizer.maximize(mlp, [UNITS], SHAPE):
        weights, bias = weights_of(mlp, feature)
        assert feature.score == pytest.approx(bias + weights.clamp(min=0).sum().item(), rel=1e-3)


@pytest.mark.parametrize("maximizer", IN_THE_BOX)
def test_a_minimised_unit_reaches_the_sum_of_its_negative_weights(mlp: nn.Module, maximizer: Maximizer):
    (feature,) = maximizer.maximize(mlp, ["-hidden:3"], SHAPE)
    weights, bias = weights_of(mlp, feature)
    assert -feature.score == pytest.approx(bias + weights.clamp(max=0).sum().item(), rel=1e-3)


@pytest.mark.parametrize("max_norm", [0.5, 10.0])
def test_with_a_bounded_norm_the_input_is_parallel_to_the_weights(mlp: nn.Module, max_norm: float):
    image = RawInput(max_norm=max_norm)
    for feature in Maximizer(500, image=image, transforms=[]).maximize(mlp, [UNITS], SHAPE):
        weights, bias = weights_of(mlp, feature)
        assert cosine(feature.image, weights) >= 0.999
        assert feature.image.norm() == pytest.approx(max_norm, rel=1e-5)
        assert feature.score == pytest.approx(bias + max_norm * weights.norm().item(), rel=1e-3)


@pytest.mark.parametrize("image", [PixelImage(max_rms=0.3), PixelImage(bound="clip", max_rms=0.3)])
def test_with_bounded_light_the_picture_is_parallel_to_the_positive_weights(mlp: nn.Module, image: Parametrization):
    for feature in Maximizer(500, image=image, transforms=[]).maximize(mlp, [UNITS], SHAPE):
        weights, _ = weights_of(mlp, feature)
        assert cosine(feature.image, weights.clamp(min=0)) >= 0.99
        assert feature.image.square().mean().sqrt() <= 0.3 + 1 / 255


def test_fourier_pictures_come_near_the_optimum_of_smooth_weights(mlp: nn.Module):
    smooth = nn.functional.interpolate(torch.randn(8, 1, 7, 7), size=(28, 28), mode="bilinear").flatten(1)
    with torch.no_grad():
        mlp.hidden.weight[:8] = smooth / 28
    maximizer = Maximizer(300, transforms=[], optimizer=partial(torch.optim.Adam, lr=0.05))
    for feature in maximizer.maximize(mlp, [UNITS], SHAPE):
        weights, bias = weights_of(mlp, feature)
        assert feature.score == pytest.approx(bias + weights.clamp(min=0).sum().item(), rel=0.1)


def test_a_fourier_picture_reaches_the_optimum_in_the_unit_box(mlp: nn.Module):
    """Steps along the gradient, of coefficients that all count the same, move each pixel by its own weight."""
    smooth = nn.functional.interpolate(torch.randn(4, 1, 7, 7), size=(28, 28), mode="bilinear").flatten(1)
    with torch.no_grad():
        mlp.hidden.weight[:4] = smooth / 28
    maximizer = Maximizer(
        1500,
        image=FourierImage(decay=0),
        transforms=[],
        optimizer=partial(torch.optim.SGD, lr=2.0, momentum=0.9),
        normalize_gradients=True,
    )
    for feature in maximizer.maximize(mlp, [UNITS], SHAPE):
        weights, bias = weights_of(mlp, feature)
        assert feature.score == pytest.approx(bias + weights.clamp(min=0).sum().item(), rel=1e-3)


def test_the_root_mean_square_of_a_first_convolution_shows_its_kernel():
    """The mean of a map over a picture is, apart from the borders, blind to the kernel; the root mean square is not."""
    network = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    stripes = torch.tensor([[-1.0, 2.0, -1.0]]).expand(3, 3)
    with torch.no_grad():
        network[0].weight[:] = stripes
    maximizer = Maximizer(200, transforms=[], pooling="rms", optimizer=partial(torch.optim.Adam, lr=0.05))
    (feature,) = maximizer.maximize(network, ["0:0"], (1, 12, 12))
    along, across = feature.image.diff(dim=1).abs().mean(), feature.image.diff(dim=2).abs().mean()
    assert across > 2 * along
    assert feature.score > 0.5 * 6, "stripes one pixel wide would reach 6"


@pytest.fixture(params=range(4))
def toy(request: pytest.FixtureRequest) -> nn.Module:
    """Two inputs, three hidden units, and one output."""
    torch.manual_seed(request.param)
    network = nn.Sequential()
    network.add_module("hidden", nn.Linear(2, 3))
    network.add_module("act", nn.Sigmoid())
    network.add_module("out", nn.Linear(3, 1))
    return network


def test_with_a_penalty_on_the_squared_norm_the_optimum_is_at_half_the_weights(toy: nn.Module):
    """w·x + b - |x|² is largest at x = w / 2, where the score without the penalty is b + |w|² / 2."""
    maximizer = Maximizer(500, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    for feature in maximizer.maximize(toy, ["hidden:*"], (2,)):
        weights, bias = toy.hidden.weight[feature.unit.index].detach(), toy.hidden.bias[feature.unit.index].item()
        assert (feature.image - weights / 2).abs().max() < 1e-4
        assert feature.score == pytest.approx(weights.square().sum().item() / 2 + bias, abs=1e-3)


def test_targets_are_reached(toy: nn.Module):
    low, high = toy.out.weight.clamp(max=0).sum().item(), toy.out.weight.clamp(min=0).sum().item()
    with torch.no_grad():
        corners = toy(3 * torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]))
    assert low <= corners.min() - toy.out.bias.item() <= corners.max() - toy.out.bias.item() <= high
    values = [(corners.min() + share * (corners.max() - corners.min())).item() for share in (0.2, 0.5, 0.8)]
    targets = [Target(UnitActivation(Unit("out", 0)), value) for value in values]
    features = Maximizer(400, image=RawInput(), transforms=[]).maximize(toy, targets, (2,))
    for feature, value in zip(features, values, strict=True):
        with torch.no_grad():
            assert abs(toy(feature.image[None]).item() - value) < 1e-3
        assert feature.score == pytest.approx(0, abs=1e-6)


def test_the_optimum_of_a_difference_of_units_is_at_half_the_difference_of_their_weights(toy: nn.Module):
    objective: Objective = 2 * UnitActivation(Unit("hidden", 0)) - UnitActivation(Unit("hidden", 1))
    maximizer = Maximizer(500, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    (feature,) = maximizer.maximize(toy, [objective], (2,))
    weights = toy.hidden.weight.detach()
    assert (feature.image - (2 * weights[0] - weights[1]) / 2).abs().max() < 1e-3
