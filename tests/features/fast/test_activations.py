"""Activations that work in place, and lose by it."""

import pytest
from fast_copies import checked_copy
from torch import Tensor, nn

from fvlightning.features.fast._activations import copies_its_input


@pytest.mark.parametrize(
    ("module", "copies"),
    [
        (nn.SiLU(inplace=True), True),
        (nn.Hardswish(inplace=True), True),
        (nn.SiLU(), False),
        (nn.ReLU(inplace=True), False),
        (type("Other", (nn.SiLU,), {})(inplace=True), False),
    ],
    ids=str,
)
def test_which_activations_copy_their_input(module: nn.Module, copies: bool):
    assert copies_its_input(module) is copies


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Hardswish])
def test_the_copy_works_out_of_place_and_the_network_stays(activation: type[nn.Module]):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), activation(inplace=True), nn.Conv2d(4, 4, 3), activation(inplace=True))
    fast = checked_copy(network.requires_grad_(False), "0", "1", "2", "3")
    assert not fast[1].inplace
    assert not fast[3].inplace
    assert network[1].inplace
    assert network[3].inplace


def test_a_network_that_uses_what_the_activation_has_written_gives_the_same():
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)
            self.act = nn.SiLU(inplace=True)

        def forward(self, pictures: Tensor) -> Tensor:
            values = self.conv(pictures)
            self.act(values)
            return values

    network = nn.Sequential(Written()).requires_grad_(False)
    assert checked_copy(network, "0") is network
