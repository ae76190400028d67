"""What natural images do to units, and how far pictures are from them."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fvlightning.analysis import (
    FeatureSpace,
    all_activations,
    check_spaces,
    in_space,
    measure_natural_images,
    measure_pictures,
    measure_strongest,
    natural_batches,
    nearest_distances,
    own_activations,
    robust_activations,
)
from fvlightning.errors import InputError
from fvlightning.features import (
    FourierImage,
    LayerCall,
    LayerEnergy,
    Maximizer,
    PixelImage,
    RawInput,
    UnitActivation,
)

SHAPE = (3, 12, 12)
CPU = torch.device("cpu")
OBJECTIVES = [UnitActivation("0:1"), UnitActivation("4:0"), LayerEnergy(LayerCall("0")), -UnitActivation("4:2")]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(400, 5))


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def naive(network: nn.Module, picture: Tensor) -> list[float]:
    maps = network[0](picture[None])[0]
    logits = network.eval()(picture[None])[0]
    return [maps[1].mean().item(), logits[0].item(), maps.square().mean().item(), -logits[2].item()]


def test_activations_are_those_of_the_network(network: nn.Module):
    given = pictures(5)
    found = all_activations(network, OBJECTIVES, given)
    assert network.training
    expected = torch.tensor([naive(network, picture) for picture in given])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own_activations(network, OBJECTIVES, given[:4]), expected[:4].diagonal())


def test_views_are_crops_and_each_picture_has_its_own(network: nn.Module):
    grey = torch.full((4, *SHAPE), 0.5)
    torch.testing.assert_close(
        robust_activations(network, OBJECTIVES, grey), own_activations(network, OBJECTIVES, grey)
    )
    given = pictures(4)
    together = robust_activations(network, OBJECTIVES, given)
    alone = [robust_activations(network, [one], given[i : i + 1]) for i, one in enumerate(OBJECTIVES)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together, own_activations(network, OBJECTIVES, given), rtol=1e-3)


def test_nearest_by_a_loop():
    features, references = torch.randn(5, 3), torch.randn(7, 3)
    expected = [min((row - other).norm().item() for other in references) for row in features]
    torch.testing.assert_close(nearest_distances(features, references), torch.tensor(expected))
    own = [min((a - b).norm().item() for j, b in enumerate(references) if i != j) for i, a in enumerate(references)]
    torch.testing.assert_close(nearest_distances(references, references, range(7)), torch.tensor(own))


def test_features_are_what_the_last_layer_sees(network: nn.Module):
    space = FeatureSpace(network, SHAPE)
    assert space.layer == "4"
    given = pictures(3)
    torch.testing.assert_close(space(given), network[0](given).relu().flatten(1).detach())
    # Of a map, the means over its positions.
    maps = FeatureSpace(nn.Sequential(*list(network)[:2]), SHAPE)
    torch.testing.assert_close(maps(given), network[0](given).mean((2, 3)).detach())


class Given(pl.LightningDataModule):
    """Images of a user's own, as bytes until they are on the device."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch / 255


class WithTests(Given):
    def test_dataloader(self) -> Any:
        return DataLoader(self.images[:6], batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader(self.images[6:], batch_size=4)


class WithoutTests(WithTests):
    def test_dataloader(self) -> Any:
        return []


def test_test_images_come_first_and_no_more_than_wanted():
    images = torch.randint(0, 256, (10, *SHAPE))
    batches = [*natural_batches(WithTests(images), SHAPE, CPU, 5)]
    torch.testing.assert_close(torch.cat(batches), images[:5] / 255)
    torch.testing.assert_close(torch.cat([*natural_batches(WithTests(images), SHAPE, CPU, 99)]), images[:6] / 255)
    torch.testing.assert_close(torch.cat([*natural_batches(WithoutTests(images), SHAPE, CPU, 99)]), images[6:] / 255)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Given(torch.zeros(4, *SHAPE)), "Given has no images"),
        (WithTests(torch.zeros(8, 3, 12, 13)), r"images of shape \(3, 12, 13\), the model takes \(3, 12, 12\)"),
        (WithTests(torch.full((8, *SHAPE), 300.0)), r"outside of \[0, 1\]"),
    ],
)
def test_images_that_cannot_be_compared_with(data: pl.LightningDataModule, message: str):
    with pytest.raises(InputError, match=message):
        list(natural_batches(data, SHAPE, CPU, 99))


def test_natural_images_and_pictures_are_measured(network: nn.Module):
    given = pictures(11)
    space = FeatureSpace(network, SHAPE)
    natural = measure_natural_images(network, OBJECTIVES, space, iter(given.split(4)))
    expected = torch.tensor([naive(network, picture) for picture in given])
    torch.testing.assert_close(natural.activations, expected)
    assert torch.equal(natural.places, expected.argmax(0))
    assert torch.equal(natural.strongest, given[expected.argmax(0)])
    # An image that is one of the natural ones is at no distance from them, and no better than the best.
    same = measure_pictures(network, OBJECTIVES, [(1, 0)], natural.strongest[1:2], natural, space)[0]
    strongest = measure_strongest(network, OBJECTIVES, natural, batch_size=3)
    assert same.nearest_natural == pytest.approx(0, abs=1e-3)
    assert strongest[1].nearest_natural == pytest.approx(natural.nearest[natural.places[1]].item())
    assert [(each.unit, each.activation) for each in strongest] == [
        (str(one), pytest.approx(value)) for one, value in zip(OBJECTIVES, expected.amax(0).tolist(), strict=True)
    ]
    assert same.activation_ratio == (pytest.approx(1) if expected[:, 1].max() > 0 else None)
    # What stands in a batch of others is measured as by itself.
    others, places = pictures(6, seed=1), [(place % 4, place // 4) for place in range(6)]
    together = measure_pictures(network, OBJECTIVES, places, others, natural, space)
    by_one = measure_pictures(network, OBJECTIVES, places, others, natural, space, batch_size=1)
    for one, two in zip(together, by_one, strict=True):
        for name, value in vars(one).items():
            same_value = pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
            assert getattr(two, name) == same_value, name
    values = [naive(network, picture)[place] for (place, _), picture in zip(places, others, strict=True)]
    assert [each.activation for each in together] == pytest.approx(values, rel=1e-4)


def test_a_maximizer_in_another_space_keeps_the_rest():
    given = Maximizer(steps=7, seed=3)
    other = in_space(given, PixelImage())
    changed = {key for key, value in other.settings.items() if given.settings[key] != value}
    assert changed == {"image", "optimizer"}
    assert other.settings == Maximizer(steps=7, seed=3, image=PixelImage()).settings
    # An optimiser of one's own stays.
    own = Maximizer(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5), image=PixelImage())
    assert in_space(own, FourierImage()).optimizer is own.optimizer


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({}, "no spaces to compare"),
        ({"a/b": PixelImage()}, "no name for a space: 'a/b'"),
        ({"natural": PixelImage()}, "no name for a space: 'natural'"),
        ({"raw": RawInput()}, r"space 'raw': RawInput makes no pictures in \[0, 1\]"),
    ],
)
def test_spaces_that_cannot_be_compared(spaces: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        check_spaces(spaces, SHAPE)
