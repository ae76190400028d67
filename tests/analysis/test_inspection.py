"""What a network makes of one picture, against networks whose maps are known."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.analysis import LayerResponse, inspect_picture
from fvlightning.features import LayerCall

PICTURE = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0))


class SharedReLU(nn.Module):
    """Calls its ReLU twice: of the picture less a half, and of the opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.fc = nn.Linear(3, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.relu(pictures - 0.5), self.relu(0.5 - pictures)
        return self.fc((maps[0] - maps[1]).mean((2, 3)))


class Patches(nn.Module):
    """The mean colours of patches of 4 x 4 as tokens, behind a class token."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        patches = F.avg_pool2d(pictures, 4).flatten(2).transpose(1, 2)
        return self.blocks(torch.cat([torch.full((len(pictures), 1, 3), 100.0), patches], dim=1))[:, 0]


def test_maps_and_means_of_each_call_of_a_module():
    network = SharedReLU().train()
    output, responses = inspect_picture(network, [LayerCall("relu"), LayerCall("relu", 1), LayerCall("fc")], PICTURE)
    first, second, last = responses[LayerCall("relu")], responses[LayerCall("relu", 1)], responses[LayerCall("fc")]
    torch.testing.assert_close(first.maps, (PICTURE - 0.5).clamp(min=0))
    torch.testing.assert_close(second.maps, (0.5 - PICTURE).clamp(min=0))
    torch.testing.assert_close(first.means, (PICTURE - 0.5).clamp(min=0).mean((1, 2)))
    # A layer without positions has no maps.
    assert last.maps is None
    torch.testing.assert_close(output, last.means)
    torch.testing.assert_close(last.means, network.fc((PICTURE - 0.5).mean((1, 2))).detach())
    assert network.training
    assert not network.relu._forward_hooks


def test_patch_tokens_are_maps_without_the_class_token():
    output, responses = inspect_picture(Patches(), [LayerCall("blocks")], PICTURE)
    (response,) = responses.values()
    torch.testing.assert_close(response.maps, F.avg_pool2d(PICTURE, 4))
    torch.testing.assert_close(response.means, PICTURE.mean((1, 2)))
    assert output.tolist() == [100] * 3


@pytest.mark.parametrize(("n_tokens", "shape"), [(6, (2, 3)), (24, (4, 6)), (7, None), (5, None)])
def test_tokens_are_a_grid_if_it_has_the_proportions_of_the_picture(n_tokens: int, shape: tuple[int, int] | None):
    tokens = nn.Sequential(nn.Flatten(), nn.Linear(PICTURE.numel(), 5 * n_tokens), nn.Unflatten(1, (n_tokens, 5)))
    (response,) = inspect_picture(tokens, [LayerCall("2")], PICTURE)[1].values()
    assert (None if response.maps is None else tuple(response.maps.shape[1:])) == shape
    assert response.means.shape == (5,)


def test_strongest_are_the_largest_means_and_never_those_that_are_not_finite():
    means = torch.randn(40, generator=torch.Generator().manual_seed(0))
    for count in (1, 5, 40, 100):
        assert LayerResponse(means, None).strongest(count) == means.topk(min(count, 40)).indices.tolist()
    uncertain = LayerResponse(torch.tensor([1.0, torch.nan, 3.0, torch.inf, 3.0, -torch.inf, -7.0]), None)
    assert uncertain.strongest(9) == [2, 4, 0, 6]
    assert uncertain.not_finite == [1, 3, 5]
    assert LayerResponse(torch.full((3,), torch.nan), None).strongest(2) == []
