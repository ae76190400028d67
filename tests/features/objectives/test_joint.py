"""Joint objectives against naive loops, and their effect on pictures."""

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Alignment, Capture, Diversity, LayerCall, Maximizer, interpolate
from fvlightning.features.capture import Activation

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


@pytest.mark.parametrize("n_transformed", [1, 2])
def test_diversity_is_minus_the_mean_cosine_of_gram_matrices_to_the_other_repeats(n_transformed: int):
    names = [("a:0", 0), ("a:0", 1), ("b:1", 0), ("a:0", 2), ("b:1", 1)]
    pictures, values = torch.rand(5, *SHAPE), torch.randn(5 * n_transformed, 3, 4, 2)
    diversity = Diversity(weight=2.0)
    scores = diversity(pictures, {LayerCall("a"): Activation(values)}, diversity.pairs(names, torch.device("cpu")))
    grams = [sum(gram(values[n_transformed * place + i]) for i in range(n_transformed)) for place in range(5)]
    for place, (name, _) in enumerate(names):
        others = [other for other in range(5) if other != place and names[other][0] == name]
        expected = -2.0 * sum(cosine(grams[place], grams[other]) for other in others) / len(others)
        assert float(scores[place]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layer", [None, "conv"])
def test_alignment_is_minus_the_mean_square_to_three_neighbours_on_either_side(layer: str | None):
    names = [(f"a:{unit}", repeat) for unit in range(6) for repeat in range(2)]
    pictures, values = torch.rand(12, *SHAPE), torch.randn(12, 3, 4, 2)
    alignment = Alignment(weight=3.0, layer=layer)
    activations = {LayerCall("conv"): Activation(values)}
    scores = alignment(pictures, activations, alignment.pairs(names, torch.device("cpu")))
    compared = values if layer else pictures
    for unit in range(6):
        for repeat in range(2):
            expected = 0.0
            for distance, share in ((1, 1.0), (2, 0.5), (3, 0.25)):
                for other in (unit - distance, unit + distance):
                    if 0 <= other < 6:
                        difference = compared[2 * unit + repeat] - compared[2 * other + repeat]
                        expected -= 3.0 * share * float(difference.square().mean())
            assert float(scores[2 * unit + repeat]) == pytest.approx(expected, rel=1e-5)


def repeats_cosine(network: nn.Module, pictures: Tensor) -> float:
    values = Capture(network, {LayerCall("conv")})(pictures)[LayerCall("conv")].values.detach()
    grams = [gram(row) for row in values]
    pairs = [(i, j) for i in range(len(grams)) for j in range(i)]
    return sum(cosine(grams[i], grams[j]) for i, j in pairs) / len(pairs)


def test_repeats_differ_more_with_diversity_and_still_activate_their_unit(cnn: nn.Module):
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


def test_the_reported_score_leaves_out_the_joint_objective(cnn: nn.Module):
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
@pytest.mark.parametrize("joint_objective", [Diversity(2.0, "conv"), Alignment(2.0)])
def test_pictures_of_a_joint_objective_are_the_same_whatever_shares_their_batch(
    cnn: nn.Module, joint_objective: Diversity | Alignment, batch_size: int
):
    def make(units: list[str], batch_size: int) -> list[Tensor]:
        maximizer = Maximizer(
            12, repeats=2, joint_objectives=[joint_objective], batch_size=batch_size, transforms_per_step=2
        )
        return [feature.image for feature in maximizer.maximize(cnn, units, SHAPE)]

    units = ["fc:0", "fc:1", "fc:2"]
    for made, expected in zip(make(units, batch_size), make(units, 6), strict=True):
        torch.testing.assert_close(made, expected, atol=1.1 / 255, rtol=0)
    if isinstance(joint_objective, Diversity):
        alone = make(["fc:1"], batch_size)
        for made, expected in zip(alone, make(units, 6)[2:4], strict=True):
            torch.testing.assert_close(made, expected, atol=1.1 / 255, rtol=0)


def test_pictures_with_a_joint_objective_can_stop_early(cnn: nn.Module):
    maximizer = Maximizer(80, repeats=3, joint_objectives=[Diversity(1.0, "conv")], patience=3, min_delta=0.05)
    features = maximizer.maximize(cnn, ["fc:0"], SHAPE)
    assert all(feature.status == "ok" for feature in features)
    assert min(feature.steps for feature in features) < 80


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"Diversity\(weight=-1\): must be at least 0"):
        Diversity(-1)
    with pytest.raises(InputError, match="give the layer alone, 'conv'"):
        Alignment(layer="conv:3")
    with pytest.raises(InputError, match="must be at least 2 for joint objectives"):
        Maximizer(joint_objectives=[Diversity()])


def test_an_unknown_layer_is_refused(cnn: nn.Module):
    maximizer = Maximizer(2, repeats=2, joint_objectives=[Diversity(layer="convv")])
    with pytest.raises(InputError, match=r"no layer 'convv'.*Did you mean 'conv'"):
        maximizer.maximize(cnn, ["fc:0"], SHAPE)
