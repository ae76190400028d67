"""The toy network with two inputs, three hidden units and one output, whose optima can be written down."""

import pytest
import torch
from torch import nn

from fvlightning.features import L2, Maximizer, Objective, RawInput, Target, Unit, UnitActivation


@pytest.fixture(params=range(4))
def toy(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(request.param)
    network = nn.Sequential()
    network.add_module("hidden", nn.Linear(2, 3))
    network.add_module("act", nn.Sigmoid())
    network.add_module("out", nn.Linear(3, 1))
    return network


def test_a_hidden_unit_under_a_penalty_on_the_square_of_the_norm_has_its_optimum_at_half_its_weights(toy: nn.Module):
    """w.x + b - |x|^2 is largest at x = w / 2, where it is b + |w|^2 / 4."""
    maximizer = Maximizer(500, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    for feature in maximizer.maximize(toy, ["hidden:*"], (2,)):
        weights, bias = toy.hidden.weight[feature.unit.index].detach(), toy.hidden.bias[feature.unit.index].item()
        assert (feature.image - weights / 2).abs().max() < 1e-4
        assert feature.score == pytest.approx(weights.square().sum().item() / 2 + bias, abs=1e-3)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_input_is_brought_to_where_the_output_has_a_given_value(toy: nn.Module, share: float):
    low, high = toy.out.weight.clamp(max=0).sum().item(), toy.out.weight.clamp(min=0).sum().item()
    with torch.no_grad():
        corners = toy(3 * torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]))
    assert low <= corners.min() - toy.out.bias.item() <= corners.max() - toy.out.bias.item() <= high
    value = (corners.min() + share * (corners.max() - corners.min())).item()
    target = Target(UnitActivation(Unit("out", 0)), value)
    (feature,) = Maximizer(400, image=RawInput(), transforms=[]).maximize(toy, [target], (2,))
    with torch.no_grad():
        assert abs(toy(feature.image[None]).item() - value) < 1e-3
    assert feature.score == pytest.approx(0, abs=1e-6)


def test_a_difference_of_two_hidden_units_has_its_optimum_at_half_the_difference_of_their_weights(toy: nn.Module):
    objective: Objective = 2 * UnitActivation(Unit("hidden", 0)) - UnitActivation(Unit("hidden", 1))
    maximizer = Maximizer(500, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    (feature,) = maximizer.maximize(toy, [objective], (2,))
    weights = toy.hidden.weight.detach()
    assert (feature.image - (2 * weights[0] - weights[1]) / 2).abs().max() < 1e-3
