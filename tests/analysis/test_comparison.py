"""Pictures of units beside natural images, against the network itself and against loops."""

import pytest
import torch
from torch import Tensor, nn

from fvlightning.analysis import (
    FeatureSpace,
    Measures,
    measure_natural_images,
    measure_pictures,
    measure_strongest,
    medians,
    natural_medians,
    pixel_measures,
)
from fvlightning.analysis.measures import nearest_distances
from fvlightning.features import LayerCall, LayerEnergy, UnitActivation

SHAPE = (3, 12, 12)
OBJECTIVES = [UnitActivation("0:1"), UnitActivation("4:0"), LayerEnergy(LayerCall("0")), -UnitActivation("4:2")]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(400, 5))


def make_pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def naive_scores(network: nn.Module, picture: Tensor) -> list[float]:
    maps = network[0](picture[None])[0]
    logits = network.eval()(picture[None])[0]
    return [maps[1].mean().item(), logits[0].item(), maps.square().mean().item(), -logits[2].item()]


def test_nearest_distances_equal_those_of_a_loop():
    features, references = torch.randn(5, 3), torch.randn(7, 3)
    expected = [min((row - other).norm().item() for other in references) for row in features]
    torch.testing.assert_close(nearest_distances(features, references), torch.tensor(expected))
    others = [min((a - b).norm().item() for j, b in enumerate(references) if i != j) for i, a in enumerate(references)]
    torch.testing.assert_close(nearest_distances(references), torch.tensor(others))


def test_features_are_the_input_of_the_last_layer(network: nn.Module):
    space = FeatureSpace(network, SHAPE)
    assert space.layer == "4"
    pictures = make_pictures(3)
    torch.testing.assert_close(space(pictures), network[0](pictures).relu().flatten(1).detach())
    assert network.training


def test_features_of_a_map_are_the_means_over_its_positions(network: nn.Module):
    pictures = make_pictures(3)
    space = FeatureSpace(nn.Sequential(*list(network)[:2]), SHAPE)
    torch.testing.assert_close(space(pictures), network[0](pictures).mean((2, 3)).detach())


def test_natural_images_have_the_networks_scores_and_the_strongest_is_found_across_batches(network: nn.Module):
    pictures = make_pictures(11)
    natural = measure_natural_images(network, OBJECTIVES, FeatureSpace(network, SHAPE), iter(pictures.split(4)))
    expected = torch.tensor([naive_scores(network, picture) for picture in pictures])
    torch.testing.assert_close(natural.activations, expected)
    assert torch.equal(natural.places, expected.argmax(0))
    assert torch.equal(natural.strongest, pictures[expected.argmax(0)])


def test_a_natural_image_is_at_no_distance_from_itself_and_as_strong_as_the_strongest(network: nn.Module):
    pictures = make_pictures(11)
    space = FeatureSpace(network, SHAPE)
    natural = measure_natural_images(network, OBJECTIVES, space, pictures.split(4))
    expected = torch.tensor([naive_scores(network, picture) for picture in pictures])
    (same,) = measure_pictures(network, OBJECTIVES, [(1, 0)], natural.strongest[1:2], natural, space=space)
    assert same.nearest_natural == pytest.approx(0, abs=1e-3)
    assert same.activation_ratio == (pytest.approx(1) if expected[:, 1].max() > 0 else None)
    strongest = measure_strongest(network, OBJECTIVES, natural, batch_size=3)
    assert strongest[1].nearest_natural == pytest.approx(natural.nearest[natural.places[1]].item())
    assert [(measures.unit, measures.activation) for measures in strongest] == [
        (str(one), pytest.approx(value)) for one, value in zip(OBJECTIVES, expected.amax(0).tolist(), strict=True)
    ]


def test_measures_of_a_picture_do_not_depend_on_its_batch(network: nn.Module):
    space = FeatureSpace(network, SHAPE)
    natural = measure_natural_images(network, OBJECTIVES, space, make_pictures(11).split(4))
    pictures, places = make_pictures(6, seed=1), [(place % 4, place // 4) for place in range(6)]
    together = measure_pictures(network, OBJECTIVES, places, pictures, natural, space=space)
    alone = measure_pictures(network, OBJECTIVES, places, pictures, natural, space=space, batch_size=1)
    for one, two in zip(together, alone, strict=True):
        for name, value in vars(one).items():
            expected = pytest.approx(value, rel=1e-3, abs=1e-4) if isinstance(value, float) else value
            assert getattr(two, name) == expected, name
    scores = [naive_scores(network, picture)[place] for (place, _), picture in zip(places, pictures, strict=True)]
    assert [measures.activation for measures in together] == pytest.approx(scores, rel=1e-4)


def test_medians_are_taken_over_the_pictures_that_have_a_measure():
    rows = [
        Measures(None, None, 1.0, 3.0, 0.2, 0.0, None),
        Measures(2.0, None, 5.0, 1.0, 0.4, 0.0, 0.5),
        Measures(4.0, None, 2.0, 2.0, 0.1, 0.3, 1),
    ]
    assert medians(rows) == Measures(3.0, None, 2.0, 2.0, 0.2, 0.0, 0.75)


def test_medians_of_natural_images_have_no_measure_that_depends_on_a_unit(network: nn.Module):
    pictures = make_pictures(5)
    natural = measure_natural_images(network, OBJECTIVES, FeatureSpace(network, SHAPE), pictures.split(2))
    values = natural_medians(natural)
    assert (values.activation_ratio, values.robust_activation) == (None, None)
    for name, measures in pixel_measures(pictures).items():
        assert getattr(values, name) == pytest.approx(measures.median().item()), name
    assert values.nearest_natural == pytest.approx(natural.nearest.median().item())
