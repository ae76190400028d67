"""Relevance of channels against loops over positions and derivatives by hand."""

import pytest
import torch
from torch import Tensor, nn

from fvlightning.features import LayerCall, UnitActivation
from fvlightning.features.objectives._relevance import channel_relevance


def pictures(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inplace", [False, True])
def test_relevance_is_the_largest_product_of_activation_and_gradient(inplace: bool):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(240, 6))
    given = pictures(3, 3, 10, 12)
    relevance = channel_relevance(network, [LayerCall("0"), LayerCall("2")], UnitActivation("4:1"), given)
    for layer, tail in (("0", network[1:]), ("2", network[3:])):
        values = network[: int(layer) + 1](given).detach()
        for row in range(3):
            at = values[row : row + 1].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(tail(at * 1)[0, 1], at)
            expected = [
                max(0, *(float(a * g) for a, g in zip(*maps, strict=True)))
                for maps in zip(values[row].flatten(1), gradient[0].flatten(1), strict=True)
            ]
            assert relevance[LayerCall(layer)][row].tolist() == pytest.approx(expected, rel=1e-5)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_only_the_channel_itself_matters_in_the_units_own_layer():
    network = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False))
    nn.init.ones_(network[0].weight)
    given = pictures(2, 1, 4, 4)
    relevance = channel_relevance(network, [LayerCall("0")], UnitActivation("0:2"), given)[LayerCall("0")]
    assert relevance[:, :2].tolist() == [[0, 0]] * 2
    assert relevance[:, 2].tolist() == pytest.approx((given.amax((1, 2, 3)) / 16).tolist())


def test_channels_of_tokens_are_last_in_the_output():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
            self.head = nn.Linear(8, 2)

        def forward(self, given: Tensor) -> Tensor:
            return self.head(self.norm(self.embed(given).flatten(2).transpose(1, 2)).mean(1))

    torch.manual_seed(0)
    network, given = Tokens(), pictures(2, 3, 8, 8)
    relevance = channel_relevance(network, [LayerCall("norm")], UnitActivation("head:1"), given)[LayerCall("norm")]
    with torch.no_grad():
        tokens = network.norm(network.embed(given).flatten(2).transpose(1, 2))
    expected = (tokens * network.head.weight[1] / 4).amax(1).clamp(min=0)
    torch.testing.assert_close(relevance, expected.detach())


def test_layers_behind_the_unit_have_no_relevance():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    relevance = channel_relevance(network, [LayerCall("1")], UnitActivation("0:2"), pictures(1, 3, 4, 4))
    assert relevance == {}
