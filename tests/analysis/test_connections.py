"""Connections of networks whose graph is known: branches, sums, modules called twice or in place, and what blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.analysis import Connections
from fvlightning.features import LayerCall


class Block(nn.Module):
    """Ends in an operation of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()

    def forward(self, maps: Tensor) -> Tensor:
        return self.drop(self.act(self.conv(maps))) + maps


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.block = Block(4)
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 1)
        self.shuffled = nn.Conv2d(6, 2, 1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * 36, 5))

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.block(self.act(self.stem(pictures)))
        both = torch.cat([F.gelu(self.left(maps)), self.right(maps)], 1)
        return self.head(self.act(self.shuffled(both)))


def test_calls_take_what_was_given_to_them():
    network = Branched()
    network.block.drop.train()
    connections = Connections(network, (1, 8, 8))
    assert network.block.drop.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert {str(call): list(map(str, sources)) for call, sources in connections.sources.items()} == {
        "stem": [],
        "act": ["stem"],
        "block.conv": ["act"],
        "block.act": ["block.conv"],
        "block.drop": ["block.act"],
        "block": ["act", "block.drop"],
        "left": ["block"],
        "right": ["block"],
        "shuffled": ["left", "right"],
        "act#1": ["shuffled"],
        "head.0": ["act#1"],
        "head.1": ["head.0"],
    }
    assert {str(call): list(map(str, sources)) for call, sources in connections.feeds.items()} == {
        "stem": [],
        "block.conv": ["stem"],
        "left": ["stem", "block.conv"],
        "right": ["stem", "block.conv"],
        "shuffled": [],  # the sixth channel of the two is the third of the second
        "head.1": ["shuffled"],
    }


def test_ties_are_the_norms_of_kernels_with_the_signs_of_their_sums():
    network = Branched()
    connections = Connections(network, (1, 8, 8))

    def expected(kernels: Tensor) -> Tensor:
        return kernels.pow(2).sum(-1).sqrt() * torch.where(kernels.sum(-1) < 0, -1, 1)

    def ties(before: str, after: str) -> Tensor | None:
        return connections.ties(LayerCall(before), LayerCall(after))

    with torch.no_grad():
        torch.testing.assert_close(ties("shuffled", "head.1"), expected(network.head[1].weight.view(5, 2, 36)))
        grouped = torch.zeros(4, 4)  # channels 0 and 1 do not see 2 and 3
        grouped[:2, :2], grouped[2:, 2:] = expected(network.block.conv.weight.flatten(2)).split(2)
        torch.testing.assert_close(ties("stem", "block.conv"), grouped)
    assert ties("left", "shuffled") is None  # six inputs from three channels


def test_a_network_may_change_its_picture_in_place():
    class Centred(nn.Sequential):
        def forward(self, pictures: Tensor) -> Tensor:
            return super().forward(pictures.sub_(0.5))

    connections = Connections(Centred(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    assert connections.sources == {LayerCall("0"): [], LayerCall("1"): [LayerCall("0")]}


def test_networks_without_gradients_have_no_known_connections():
    class Rounded(nn.Sequential):
        def forward(self, pictures: Tensor) -> Tensor:
            return self[1](self[0](pictures).detach().round())

    connections = Connections(Rounded(nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2))
    assert {str(call): sources for call, sources in connections.sources.items()} == {"0": [], "1": []}
    assert connections.feeds == {LayerCall("1"): []}
