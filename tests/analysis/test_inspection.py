"""What a network makes of one picture, against networks whose maps are known."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning.analysis import LayerResponse, inspect_picture
from fvlightning.errors import InputError

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
    inspection = inspect_picture(network, ["relu", "relu#1", "fc"], PICTURE)
    first, second, last = (inspection.responses[layer] for layer in ("relu", "relu#1", "fc"))
    torch.testing.assert_close(first.maps, (PICTURE - 0.5).clamp(min=0))
    torch.testing.assert_close(second.maps, (0.5 - PICTURE).clamp(min=0))
    torch.testing.assert_close(first.means, (PICTURE - 0.5).clamp(min=0).mean((1, 2)))
    # A layer without positions has no maps.
    assert last.maps is None
    torch.testing.assert_close(inspection.outputs, last.means)
    torch.testing.assert_close(last.means, network.fc((PICTURE - 0.5).mean((1, 2))).detach())
    assert network.training
    assert not network.relu._forward_hooks


def test_patch_tokens_are_maps_without_the_class_token():
    inspection = inspect_picture(Patches(), ["blocks"], PICTURE)
    (response,) = inspection.responses.values()
    torch.testing.assert_close(response.maps, F.avg_pool2d(PICTURE, 4))
    torch.testing.assert_close(response.means, PICTURE.mean((1, 2)))
    assert inspection.outputs.tolist() == [100] * 3


@pytest.mark.parametrize(("n_tokens", "shape"), [(6, (2, 3)), (24, (4, 6)), (7, None), (5, None)])
def test_tokens_are_a_grid_if_it_has_the_proportions_of_the_picture(n_tokens: int, shape: tuple[int, int] | None):
    tokens = nn.Sequential(nn.Flatten(), nn.Linear(PICTURE.numel(), 5 * n_tokens), nn.Unflatten(1, (n_tokens, 5)))
    (response,) = inspect_picture(tokens, ["2"], PICTURE).responses.values()
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


class Named(nn.Sequential):
    class_names = ("low", "middle", "high")


@pytest.mark.parametrize("last", [nn.Identity(), nn.Softmax(1)])
def test_predictions_need_to_be_known_as_those_of_classes(last: nn.Module):
    parts = nn.Flatten(), nn.Linear(PICTURE.numel(), 3), last
    network = nn.Sequential(*parts)
    probabilities = network[1](PICTURE.flatten()).softmax(0).tolist()
    order = sorted(range(3), key=lambda index: -probabilities[index])
    assert inspect_picture(network, [], PICTURE).predictions == {}
    by_index = inspect_picture(network, [], PICTURE, classes=True).predictions
    assert list(by_index) == [f"class {index}" for index in order]
    # The same holds for a network that ends in a softmax: a second one is not applied.
    assert list(by_index.values()) == pytest.approx([probabilities[index] for index in order])
    for known in (
        inspect_picture(Named(*parts), [], PICTURE),
        inspect_picture(network, [], PICTURE, datamodule=Named()),
    ):
        assert list(known.predictions) == [f"{index} {Named.class_names[index]}" for index in order]
    assert inspect_picture(Named(*parts), [], PICTURE, classes=False).predictions == {}
    network.num_classes = 4
    assert inspect_picture(network, [], PICTURE).predictions == {}
    network.num_classes = 3
    assert inspect_picture(network, [], PICTURE).predictions == by_index
    one_output = nn.Sequential(nn.Flatten(), nn.Linear(PICTURE.numel(), 1))
    with pytest.raises(InputError, match=r"Sequential gives no outputs \(B, K\) that could be classes"):
        inspect_picture(one_output, [], PICTURE, classes=True)
