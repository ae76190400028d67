"""Where a picture matters to its unit."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    L2,
    FourierImage,
    Maximizer,
    Parametrization,
    PixelImage,
    RandomAffine,
    RawInput,
    TotalVariation,
)
from fvlightning.features.loop._importance import Importance
from fvlightning.features.scales import Scale

SHAPE = (2, 9, 8)


@pytest.fixture
def network() -> nn.Module:
    """Pictures of 2 channels; layers conv (4 channels) and last (3)."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(2, 4, 3))
    network.add_module("tanh", nn.Tanh())
    network.add_module("last", nn.Conv2d(4, 3, 3))
    return network


def clipped(sums: Tensor) -> Tensor:
    """Clip at the 80th percentile, one picture after the other."""
    maps = []
    for amounts in sums.numpy():
        highest = np.percentile(amounts, 80) or amounts.max()
        maps.append(torch.from_numpy(np.minimum(amounts, highest) / max(highest, 1e-30)))
    return torch.stack(maps)


def naive_importance(
    network: nn.Module, image: Parametrization, parameters: Tensor, channel: int, steps: int, lr: float, shape: tuple
) -> Tensor:
    """Gradient ascent of one picture by `backward`, with the gradient at the pixels summed up."""
    parameters, total = parameters.clone(), torch.zeros(shape[1:])
    for _ in range(steps):
        leaf = parameters.clone().requires_grad_()
        picture = image(leaf[None], shape)
        picture.retain_grad()
        (network(picture)[0, channel].mean() - 0.1 * picture.norm()).backward()
        with torch.no_grad():
            seen = picture.detach().clone().requires_grad_()
            with torch.enable_grad():
                network(seen)[0, channel].mean().backward()
            total += seen.grad[0].abs().mean(0)
            parameters += lr * leaf.grad
    return clipped(total[None])[0]


@pytest.mark.parametrize("image", [PixelImage(), FourierImage(), PixelImage("clip")])
def test_importance_is_the_clipped_sum_of_gradients_of_a_naive_loop(network: nn.Module, image: Parametrization):
    """The penalty moves the picture, but has no part in the importance."""
    maximizer = Maximizer(
        7, image=image, transforms=[], optimizer=partial(optim.SGD, lr=3.0), penalties=[L2(0.1)], importance=True
    )
    still = Maximizer(1, image=image, transforms=[], optimizer=partial(optim.SGD, lr=0.0))
    for feature in maximizer.maximize(network, "last:*", SHAPE):
        (initial,) = still.maximize(network, feature.name, SHAPE)
        expected = naive_importance(network, image, initial.parameters, feature.unit.index, 7, 3.0, SHAPE)
        assert feature.importance.shape == (9, 8)
        torch.testing.assert_close(feature.importance, expected, atol=1e-4, rtol=1e-3)
        assert feature.importance.max() == 1
        assert feature.importance.min() >= 0
        assert (feature.importance == 1).sum() >= 14, "a fifth of the pixels is clipped"


@pytest.mark.parametrize("transforms", [[], [RandomAffine()]])
def test_importance_changes_no_picture_and_is_none_by_default(network: nn.Module, transforms: list):
    settings: dict[str, Any] = {
        "steps": 5,
        "transforms": transforms,
        "penalties": [TotalVariation(0.01)],
        "transforms_per_step": 1 + len(transforms),
    }
    plain = Maximizer(**settings).maximize(network, "last:*", SHAPE)
    rich = Maximizer(**settings, importance=True).maximize(network, "last:*", SHAPE)
    for one, other in zip(plain, rich, strict=True):
        assert one.importance is None
        assert torch.equal(one.parameters, other.parameters)
        assert torch.equal(one.history, other.history)


def test_a_unit_at_one_position_has_importance_only_where_it_sees(network: nn.Module):
    """A position of the first layer sees 3 x 3 of 72 pixels: less than a fifth."""
    (feature,) = Maximizer(5, importance=True, transforms=[]).maximize(network, "conv:1@2,4", SHAPE)
    inside = torch.zeros(9, 8, dtype=torch.bool)
    inside[2:5, 4:7] = True
    assert (feature.importance[inside] > 0).all()
    assert not feature.importance[~inside].any()
    assert feature.importance.max() == 1


def test_pictures_that_stop_have_the_importance_that_they_have_alone():
    """One of two units is capped, and stops after a few steps, while the other goes on."""

    class Units(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            tilted = (pictures * torch.linspace(0, 1, 8)).flatten(1).mean(1)
            return torch.stack([tilted * pictures[:, 0, 0, 0], tilted.clamp(max=0.26)], dim=1)

    maximizer = Maximizer(60, image=PixelImage(), transforms=[], patience=4, importance=True)
    together = maximizer.maximize(nn.Sequential(Units()), "0:*", SHAPE)
    assert together[1].steps < 40 < together[0].steps
    for feature in together:
        (alone,) = maximizer.maximize(nn.Sequential(Units()), feature.name, SHAPE)
        torch.testing.assert_close(feature.importance, alone.importance, atol=1e-5, rtol=1e-4)


def test_sums_belong_to_rows_and_leave_out_steps_that_do_not_count():
    sums = Importance(2, (2, 2), torch.zeros(1))
    gradients = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]], [[[8.0, 8.0], [8.0, 8.0]]]])
    sums.add(torch.tensor([0, 1]), gradients, torch.tensor([True, False]))
    sums.add(torch.tensor([0]), gradients[:1], torch.tensor([True]))
    summed = torch.tensor([[[2.0, 4.0], [6.0, 8.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(sums.maps([0, 1]), clipped(summed))
    torch.testing.assert_close(sums.maps([1, 0]), clipped(summed).flip(0))


def test_pictures_that_fail_or_are_dead_have_finite_importance():
    class Units(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            bright = pictures.flatten(1).mean(1)
            return torch.stack([torch.where(bright > 0.52, torch.inf, bright), bright * 0, bright], dim=1)

    features = Maximizer(30, image=PixelImage(), transforms=[], importance=True).maximize(
        nn.Sequential(Units()), "0:*", SHAPE
    )
    assert [feature.status for feature in features] == ["non-finite", "dead", "ok"]
    assert all(bool(feature.importance.isfinite().all()) for feature in features)
    assert [bool(feature.importance.any()) for feature in features] == [True, False, True]


def test_the_importance_of_a_growing_picture_has_the_last_size(network: nn.Module):
    scales = [Scale(8, 3), Scale(12, 4)]
    (feature,) = Maximizer(scales=scales, importance=True).maximize(network, "last:0", SHAPE)
    assert feature.importance.shape == feature.image.shape[1:]


def test_inputs_that_are_not_pictures_have_no_importance():
    settings: dict[str, Any] = {"image": RawInput(), "transforms": [], "importance": True}
    with pytest.raises(InputError, match=r"^inputs of shape \(2,\) are not pictures; leave out importance$"):
        Maximizer(1, **settings).maximize(nn.Sequential(nn.Linear(2, 3)), "0:0", (2,))
