"""Patches against the closed form of a chain's receptive field."""

import pytest
import torch
from torch import nn

from fvlightning.analysis import find_patches
from fvlightning.features import Unit


@pytest.mark.parametrize(
    ("kernels", "strides", "paddings"), [([3], [1], [0]), ([3, 5], [2, 1], [1, 0]), ([4, 3], [2, 2], [1, 1])]
)
def test_a_patch_is_the_receptive_field(kernels, strides, paddings):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 2, kernel, stride, padding)
        for kernel, stride, padding in zip(kernels, strides, paddings, strict=True)
    ]
    network = nn.Sequential(*layers)
    pictures = torch.rand(6, 2, 20, 24)
    maps = network(pictures)[:, 1]
    # Size, step and start of the receptive field, layer by layer.
    size, step, start = 1, 1, 0
    for kernel, stride, padding in zip(kernels, strides, paddings, strict=True):
        size, start, step = size + (kernel - 1) * step, start - padding * step, step * stride
    for lowest in (False, True):
        patches = find_patches(network, Unit(str(len(layers) - 1), 1), pictures, lowest=lowest)
        for picture, patch in zip(maps, patches, strict=True):
            assert picture[patch.position] == (picture.min() if lowest else picture.max())
            box = []
            for place, side in zip(patch.position, (20, 24), strict=True):
                first, last = max(0, start + place * step), min(side, start + place * step + size)
                box.append((first, last - first))
            assert patch.box == (box[0][0], box[1][0], box[0][1], box[1][1])


def test_a_position_of_the_unit_is_kept_and_a_dead_unit_has_no_patch():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(network[0].weight, -1.0)
    nn.init.zeros_(network[0].bias)
    assert find_patches(network, Unit("0", 0, (2, 3)), torch.rand(1, 1, 8, 8)) == [((2, 3), (2, 3, 3, 3))]
    assert find_patches(network, Unit("1", 0), torch.rand(1, 1, 8, 8)) == [((0, 0), None)]


def test_patches_of_several_units_are_those_of_each():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3))
    units = [Unit("2", 3), Unit("2", 0, (4, 1)), Unit("2", 1), Unit("2", 3)]
    lowest = [False, False, True, True]
    pictures = torch.rand(4, 1, 9, 9)
    patches = find_patches(network, units, pictures, lowest=lowest)
    singles = zip(units, pictures, lowest, strict=True)
    assert patches == [find_patches(network, unit, picture[None], lowest=low)[0] for unit, picture, low in singles]
    assert patches[1].position == (4, 1)
    assert patches[0].position != patches[3].position
