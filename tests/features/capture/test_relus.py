"""Open ReLUs against gradients worked out by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvlightning.features import Maximizer, PixelImage, TotalVariation
from fvlightning.features.capture import open_relus
from fvlightning.features.fast._relu6 import LeanReLU6

# Pictures: blocked as a whole; blocked in part; blocked as a whole above 6 and below 0.
VALUES = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 2.0, -3.0], [8.0, -1.0, 7.0]])
GRADIENTS = torch.tensor([[1.0, -1.0, -2.0], [1.0, -1.0, -2.0], [3.0, -2.0, -1.0]])

RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": lambda values: nn.ReLU(inplace=True)(values.clone()),
    "F.relu": F.relu,
    "F.relu, inplace by name": lambda values: F.relu(values.clone(), inplace=True),
    "F.relu_": lambda values: F.relu_(values.clone()),
    "torch.relu": torch.relu,
    "torch.relu_": lambda values: torch.relu_(values.clone()),
    "method": lambda values: values.relu(),
    "method in place": lambda values: values.clone().relu_(),
}
RELU6S: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": lambda values: nn.ReLU6(inplace=True)(values.clone()),
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda values: F.relu6(values.clone(), True),
    "of a fast copy": lambda values: LeanReLU6(inplace=True)(values.clone()),
}


def gradient_through(relu: Callable[[Tensor], Tensor]) -> Tensor:
    values = VALUES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(relu(values), values, GRADIENTS)
    return gradient


@pytest.mark.parametrize("name", RELUS)
def test_a_gradient_that_raises_an_input_passes_where_all_of_it_would_be_blocked(name: str):
    with open_relus():
        gradient = gradient_through(RELUS[name])
        torch.testing.assert_close(RELUS[name](VALUES), VALUES.clamp(min=0))
    assert torch.equal(gradient, torch.tensor([[0.0, -1, -2], [0, -1, 0], [3, 0, -1]]))
    assert torch.equal(gradient_through(RELUS[name]), torch.tensor([[0.0, 0, 0], [0, -1, 0], [3, 0, -1]]))


@pytest.mark.parametrize("name", RELU6S)
def test_a_gradient_that_lowers_an_input_above_6_passes_too(name: str):
    with open_relus():
        gradient = gradient_through(RELU6S[name])
        torch.testing.assert_close(RELU6S[name](VALUES), VALUES.clamp(0, 6))
    assert torch.equal(gradient, torch.tensor([[0.0, -1, -2], [0, -1, 0], [3, -2, 0]]))
    assert torch.equal(gradient_through(RELU6S[name]), torch.tensor([[0.0, 0, 0], [0, -1, 0], [0, 0, 0]]))


@pytest.fixture
def off() -> nn.Module:
    """A unit '1' that is off for grey pictures and on for bright ones; '3' is off for all of them."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.copy_(torch.tensor([-0.6, -2.0]))
    return network


def test_a_unit_that_is_off_at_first_is_dead_unless_relus_are_open(off: nn.Module):
    dead, alive = (
        Maximizer(40, image=PixelImage(), transforms=[], open_relu_steps=steps).maximize(off, "1:0", (1, 8, 8))[0]
        for steps in (0, 16)
    )
    assert (dead.status, dead.score) == ("dead", 0)
    assert alive.status == "ok"
    assert alive.score > 0.1
    assert alive.history[0] == 0


def test_a_unit_that_stays_off_is_reported_as_dead(off: nn.Module):
    for penalties in ([], [TotalVariation(1e-4)]):
        maximizer = Maximizer(20, image=PixelImage(), open_relu_steps=16, penalties=penalties)
        features = maximizer.maximize(off, "1:*", (1, 8, 8))
        assert [feature.status for feature in features] == ["ok", "dead"]


def test_pictures_that_have_a_gradient_are_the_same_with_open_relus(cnn: nn.Module):
    for unit in ("relu:1", "fc:2"):
        exact, opened = (
            Maximizer(8, open_relu_steps=steps).maximize(cnn, unit, (1, 8, 8))[0].parameters for steps in (0, 8)
        )
        assert torch.equal(exact, opened)
