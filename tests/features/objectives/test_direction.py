"""Directions and interpolations against loops over pictures and positions."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import (
    Activation,
    CosineWithWarmup,
    Direction,
    FourierImage,
    LayerCall,
    Maximizer,
    Unit,
    UnitActivation,
    WeightedSum,
    interpolate,
)
from fvlightning.features.objectives import stack_objectives

LAYER = LayerCall("conv")


def naive(values: Tensor, vector: Tensor, power: float) -> float:
    """The mean over the positions of one picture (C, P)."""
    scores = []
    for position in range(values.shape[1]):
        activation = values[:, position]
        dot = float(activation @ vector)
        cosine = dot / (float(activation.norm()) * float(vector.norm()))
        scores.append(dot * max(cosine, 0.1) ** power)
    return sum(scores) / len(scores)


@pytest.mark.parametrize("power", [0, 1, 2.5])
@pytest.mark.parametrize("shape", [(5,), (5, 3, 4), (5, 7)])
def test_a_direction_is_the_dot_product_times_a_power_of_the_cosine(shape: tuple[int, ...], power: float):
    values, vectors = torch.randn(3, *shape), torch.randn(3, 5)
    prefix = 2 if len(shape) == 2 else 0
    activations = {LAYER: Activation(values, prefix)}
    scores = stack_objectives([Direction(LAYER, vector, power) for vector in vectors])(activations)
    for picture, vector, score in zip(values, vectors, scores, strict=True):
        assert score.item() == pytest.approx(naive(picture.reshape(5, -1)[:, prefix:], vector, power), abs=1e-4)
    torch.testing.assert_close(Direction("conv", vectors[0], power)(activations)[0], scores[0])


def test_a_direction_at_a_position_scores_that_position_alone():
    values, vector = torch.randn(2, 5, 3, 4), torch.randn(5)
    objectives = [Direction("conv", vector, 1, (2, 1)), Direction("conv", vector, 1, (0, 3))]
    scores = stack_objectives(objectives)({LAYER: Activation(values)})
    expected = [naive(values[0, :, 2, 1:2], vector, 1), naive(values[1, :, 0, 3:4], vector, 1)]
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_direction_along_one_unit_is_that_unit(cnn: nn.Module):
    direction, unit = (
        Maximizer(20, transforms=[]).maximize(cnn, objective, (1, 8, 8))[0].score
        for objective in (Direction("conv", [0, 1.0, 0, 0]), "conv:1")
    )
    assert direction == pytest.approx(unit, rel=0.1)


def test_a_larger_power_brings_activations_closer_to_the_direction(cnn: nn.Module):
    vector = torch.tensor([1.0, -1.0, 0.5, 0.2])

    def cosine(power: float) -> float:
        adam = partial(torch.optim.AdamW, lr=0.08, eps=1e-3, weight_decay=0.3)
        image, schedule = FourierImage(decay=1), CosineWithWarmup
        settings: dict[str, Any] = {"optimizer": adam, "normalize_gradients": True, "scheduler": schedule}
        maximizer = Maximizer(60, transforms=[], image=image, **settings)
        (feature,) = maximizer.maximize(cnn, Direction("conv", vector, power), (1, 8, 8))
        with torch.no_grad():
            maps = cnn.conv(feature.image[None]).flatten(2)[0]
        return float(torch.cosine_similarity(maps, vector[:, None], dim=0).mean())

    assert cosine(4) > cosine(0)


def test_activations_of_zero_score_zero_with_a_finite_gradient():
    values = torch.zeros(1, 4, 2, requires_grad=True)
    score = Direction("conv", torch.ones(4), 2)({LAYER: Activation(values)})
    (gradient,) = torch.autograd.grad(score.sum(), values)
    assert score.item() == 0
    assert gradient.isfinite().all()


def test_different_directions_have_different_texts():
    vector = torch.tensor([1.0, 2.0])
    directions = [
        Direction("conv", vector),
        Direction("conv", -vector),
        Direction("conv", vector, 1),
        Direction("conv#1", vector),
        Direction("conv", vector, 0, (1, 2)),
    ]
    assert len({str(direction) for direction in directions}) == len(directions)
    assert Direction("conv", [1, 2]) == directions[0]
    assert str(Direction("conv", [1, 2])) == str(directions[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vector": [0.0, 0.0]}, "vector"),
        ({"vector": [1.0, math.nan]}, "vector"),
        ({"vector": [[1.0]]}, "vector"),
        ({"vector": []}, "vector"),
        ({"vector": "x"}, "vector='x'"),
        ({"vector": [[1, 2], [3]]}, "vector"),
        ({"vector": [1, None]}, "vector"),
        ({"vector": [1.0], "power": -1}, "power=-1"),
    ],
)
def test_vectors_and_powers_that_give_no_direction_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Direction("conv", **settings)


@pytest.mark.parametrize(("length", "message"), [(5, "0 to 3"), (3, "give one per unit")])
def test_a_direction_of_another_length_than_the_layer_is_refused(cnn: nn.Module, length: int, message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(cnn, Direction("conv", torch.ones(length)), (1, 8, 8))


def test_an_interpolation_leads_from_one_unit_to_the_other():
    first, second = UnitActivation("fc:1"), UnitActivation(Unit("conv", 2))
    objectives = interpolate("fc:1", second, 5)
    assert [objective.terms for objective in objectives if isinstance(objective, WeightedSum)] == [
        ((1 - share, first), (share, second)) for share in (0, 0.25, 0.5, 0.75, 1)
    ]


def test_the_ends_of_an_interpolation_are_their_units(cnn: nn.Module):
    features = Maximizer(20, transforms=[]).maximize(cnn, interpolate("fc:1", "-fc:3", 3), (1, 8, 8))
    with torch.no_grad():
        logits = cnn(torch.stack([feature.image for feature in features]))
    assert logits[0, 1] > logits[1, 1] > logits[2, 1]
    assert logits[0, 3] > logits[1, 3] > logits[2, 3]


def test_an_interpolation_has_two_ends():
    with pytest.raises(InputError, match="n_pictures=1"):
        interpolate("fc:1", "fc:2", 1)
