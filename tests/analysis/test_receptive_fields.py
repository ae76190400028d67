"""Receptive fields against gradients of networks with positive weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.analysis import find_patches, receptive_fields
from fvlightning.features import LayerCall, Unit
from fvlightning.networks import CifarCNN, CifarResNet


class Padded(nn.Module):
    """Pads one side, as in TensorFlow, and pools in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, (3, 2), stride=2)
        self.second = nn.Conv2d(2, 2, 3, dilation=2, padding="same")
        self.end = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        maps = F.hardswish(self.first(F.pad(pictures, (0, 1, 2, 1))) + 3)
        maps = F.max_pool2d(F.avg_pool2d(maps, 2, stride=1), (3, 2), (1, 2), (1, 0))
        return self.end(torch.cat([self.second(maps), maps], 1))


class Gated(nn.Module):
    """Behind a global mean, or a shift that the tracing does not see, nothing is local."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.written = nn.Conv2d(1, 1, 3), nn.Identity(), nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.first(pictures)
        return self.written(self.gate(maps * maps.mean((2, 3), keepdim=True)))


class Written(Gated):
    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.first(pictures)
        shifted = torch.zeros_like(maps)
        shifted[:, :, 4:] = maps[:, :, :-4]
        return self.gate(maps + shifted)


def positive(network: nn.Module) -> nn.Module:
    """Give a network weights that let every pixel count, and pooling that takes the mean."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    return network.double().eval()


@pytest.mark.parametrize(
    ("network", "layers", "shape"),
    [
        (CifarCNN(), ["conv1", "norm1", "conv2", "conv3", "norm3"], (3, 32, 32)),
        (CifarResNet(), ["stem", "block1.conv2", "block1", "block2"], (3, 32, 32)),
        (Padded(), ["first", "second", "end"], (1, 24, 21)),
    ],
)
def test_it_is_the_support_of_the_gradient_with_positive_weights(network, layers, shape, monkeypatch):
    fields = receptive_fields(network, map(LayerCall, layers), shape)
    assert set(map(str, fields)) == set(layers)

    def mean_pool(maps: Tensor, kernel: tuple[int, int], *others: object) -> Tensor:
        return F.avg_pool2d(maps, kernel, *others)

    monkeypatch.setattr(F, "max_pool2d", mean_pool)
    for layer, field in fields.items():
        for position in ((0, 0), (1, 2), (4, 2)):
            unit = Unit(layer.layer, 0, position)
            (patch,) = find_patches(positive(network), unit, torch.full((1, *shape), 0.5))
            assert field.window(position, shape[1:]) == patch.box


@pytest.mark.parametrize("network", [Gated(), Written()])
def test_layers_behind_other_operations_are_left_out(network):
    layers = [LayerCall("first"), LayerCall("gate")]
    local = receptive_fields(network, layers[:1], (1, 12, 12))
    assert local == {layers[0]: ((0, 0), (1, 1), (3, 3))}
    assert LayerCall("gate") not in receptive_fields(network, layers, (1, 12, 12))
