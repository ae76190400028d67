"""Couplings against naive loops, and what they do to pictures."""

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Alignment, Capture, Diversity, LayerCall, Maximizer, interpolate
from fvlightning.features.capture.capture import Activation
from fvlightning.features.objectives.joint import Pairs

SHAPE = (1, 8, 8)


def gram(values: Tensor) -> Tensor:
    """The Gram matrix of one picture's activations (C, H, W), position by position."""
    total = torch.zeros(len(values), len(values))
    for row in range(values.shape[1]):
        for column in range(values.shape[2]):
            total += torch.outer(values[:, row, column], values[:, row, column])
    return total


def cosine(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum() / (first.norm() * second.norm()))


@pytest.mark.parametrize("views", [1, 2])
def test_diversity_is_minus_the_mean_cosine_of_gram_matrices_to_the_other_repeats(views: int):
    names = [("a:0", 0), ("a:0", 1), ("b:1", 0), ("a:0", 2), ("b:1", 1)]
    pictures, values = torch.rand(5, *SHAPE), torch.randn(5 * views, 3, 4, 2)
    diversity = Diversity(weight=2.0)
    found = diversity(pictures, {LayerCall("a"): Activation(values)}, Pairs.of(diversity, names, torch.device("cpu")))
    grams = [sum(gram(values[views * place + view]) for view in range(views)) for place in range(5)]
    for place, (name, _) in enumerate(names):
        others = [other for other in range(5) if other != place and names[other][0] == name]
        expected = -2.0 * sum(cosine(grams[place], grams[other]) for other in others) / len(others)
        assert float(found[place]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layer", [None, "conv"])
def test_alignment_is_minus_the_mean_square_to_three_neighbours_on_either_side(layer: str | None):
    names = [(f"a:{unit}", repeat) for unit in range(6) for repeat in range(2)]
    pictures, values = torch.rand(12, *SHAPE), torch.randn(12, 3, 4, 2)
    alignment = Alignment(weight=3.0, layer=layer)
    activations = {LayerCall("conv"): Activation(values)}
    found = alignment(pictures, activations, Pairs.of(alignment, names, torch.device("cpu")))
    compared = values if layer else pictures
    for unit in range(6):
        for repeat in range(2):
            expected = 0.0
            for distance, share in ((1, 1.0), (2, 0.5), (3, 0.25)):
                for other in (unit - distance, unit + distance):
                    if 0 <= other < 6:
                        difference = compared[2 * unit + repeat] - compared[2 * other + repeat]
                        expected -= 3.0 * share * float(difference.square().mean())
            assert float(found[2 * unit + repeat]) == pytest.approx(expected, rel=1e-5)


def repeats_cosine(network: nn.Module, pictures: Tensor) -> float:
    values = Capture(network, {LayerCall("conv")})(pictures)[LayerCall("conv")].values.detach()
    grams = [gram(row) for row in values]
    pairs = [(i, j) for i in range(len(grams)) for j in range(i)]
    return sum(cosine(grams[i], grams[j]) for i, j in pairs) / len(pairs)


def test_repeats_differ_more_with_diversity_and_still_excite_their_unit(cnn: nn.Module):
    def make(joint_objectives: list[Diversity]) -> tuple[float, float]:
        maximizer = Maximizer(60, repeats=4, joint_objectives=joint_objectives, transforms=[])
        features = maximizer.maximize(cnn, ["fc:2"], SHAPE)
        pictures = torch.stack([feature.image for feature in features])
        return repeats_cosine(cnn, pictures), min(feature.score for feature in features)

    grey = float(cnn(torch.full((1, *SHAPE), 0.5))[0, 2].detach())
    alike, _ = make([])
    different, score = make([Diversity(weight=3.0, layer="conv")])
    assert different < alike - 0.02
    assert score > grey


def test_a_score_is_that_of_the_objective_without_the_coupling(cnn: nn.Module):
    features = Maximizer(5, repeats=2, joint_objectives=[Diversity(5.0, "conv")]).maximize(cnn, ["fc:2"], SHAPE)
    for feature in features:
        assert feature.score == pytest.approx(float(cnn(feature.image[None])[0, 2].detach()), abs=1e-5)


def test_neighbours_are_more_alike_with_alignment(cnn: nn.Module):
    def distance(joint_objectives: list[Alignment]) -> float:
        maximizer = Maximizer(60, joint_objectives=joint_objectives, transforms=[])
        features = maximizer.maximize(cnn, interpolate("fc:0", "fc:3", 4), SHAPE)
        pictures = torch.stack([feature.image for feature in features])
        return float(pictures.diff(dim=0).square().mean())

    assert distance([Alignment(20.0)]) < 0.5 * distance([])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("coupling", [Diversity(2.0, "conv"), Alignment(2.0)])
def test_what_is_coupled_is_the_same_whatever_shares_its_batch(
    cnn: nn.Module, coupling: Diversity | Alignment, batch_size: int
):
    def make(units: list[str], batch_size: int) -> list[Tensor]:
        maximizer = Maximizer(12, repeats=2, joint_objectives=[coupling], batch_size=batch_size, transforms_per_step=2)
        return [feature.image for feature in maximizer.maximize(cnn, units, SHAPE)]

    units = ["fc:0", "fc:1", "fc:2"]
    for made, expected in zip(make(units, batch_size), make(units, 6), strict=True):
        torch.testing.assert_close(made, expected, atol=1.1 / 255, rtol=0)
    if isinstance(coupling, Diversity):
        alone = make(["fc:1"], batch_size)
        for made, expected in zip(alone, make(units, 6)[2:4], strict=True):
            torch.testing.assert_close(made, expected, atol=1.1 / 255, rtol=0)


def test_a_picture_that_has_stopped_leaves_the_others_their_coupling(cnn: nn.Module):
    maximizer = Maximizer(80, repeats=3, joint_objectives=[Diversity(1.0, "conv")], patience=3, min_delta=0.05)
    features = maximizer.maximize(cnn, ["fc:0"], SHAPE)
    assert all(feature.status == "ok" for feature in features)
    assert min(feature.steps for feature in features) < 80


def test_bad_settings_are_named():
    with pytest.raises(InputError, match=r"Diversity\(weight=-1\): the weight of a coupling"):
        Diversity(-1)
    with pytest.raises(InputError, match="give the layer alone, 'conv'"):
        Alignment(layer="conv:3")
    with pytest.raises(InputError, match="needs at least 2"):
        Maximizer(joint_objectives=[Diversity()])


def test_a_layer_that_is_not_there_is_named(cnn: nn.Module):
    maximizer = Maximizer(2, repeats=2, joint_objectives=[Diversity(layer="convv")])
    with pytest.raises(InputError, match=r"no layer 'convv'.*Did you mean 'conv'"):
        maximizer.maximize(cnn, ["fc:0"], SHAPE)
