"""Scores of pictures, and their gradients to the pixels."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import Objective, Target, Unit, UnitActivation, score

SHAPE = (1, 12, 12)
# Each objective, and the same by hand from the maps of conv2 (33, 8, 8) and the logits of a single picture.
NAIVE: list[tuple[str | Unit | Objective, Callable[[Tensor, Tensor], Tensor]]] = [
    ("fc:1", lambda maps, logits: logits[1]),
    ("-fc:1", lambda maps, logits: -logits[1]),
    ("conv2:3", lambda maps, logits: maps[3].mean()),
    ("conv2:3@2,7", lambda maps, logits: maps[3, 2, 7]),
    ("conv2", lambda maps, logits: maps.square().mean()),
    ("fc:1 - 0.5*conv2:3", lambda maps, logits: logits[1] - 0.5 * maps[3].mean()),
    (Unit("fc", 4), lambda maps, logits: logits[4]),
    (UnitActivation("conv2:3", "rms"), lambda maps, logits: maps[3].square().mean().sqrt()),
    (Target("fc:0", 2.0), lambda maps, logits: -((logits[0] - 2) ** 2)),
]
OBJECTIVES = [objective for objective, _ in NAIVE]


def naive(network: nn.Module, picture: Tensor, place: int) -> tuple[Tensor, Tensor]:
    """Return the score of a picture by one of `OBJECTIVES`, and its gradient, by a forward pass of that picture."""
    leaf = picture.clone().requires_grad_()
    maps = network[:5](leaf[None])
    result = NAIVE[place][1](maps[0], network[5:](maps)[0])
    result.backward()
    assert leaf.grad is not None
    return result.detach(), leaf.grad


def assert_same(values: Tensor, expected: Tensor) -> None:
    assert values.dtype == torch.float32
    assert not values.requires_grad
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-4)


def test_each_picture_is_scored_by_each_objective(wide_cnn: nn.Module):
    pictures = torch.rand(3, *SHAPE)
    scores, gradients = score(wide_cnn, OBJECTIVES, pictures, gradients=True)
    wide_cnn.eval()
    expected = [[naive(wide_cnn, picture, place) for place in range(len(NAIVE))] for picture in pictures]
    assert scores.shape == (3, len(NAIVE))
    assert gradients.shape == (3, len(NAIVE), *SHAPE)
    assert_same(scores, torch.stack([torch.stack([value for value, _ in row]) for row in expected]))
    assert_same(gradients, torch.stack([torch.stack([slope for _, slope in row]) for row in expected]))


def test_paired_pictures_are_scored_by_an_objective_each(wide_cnn: nn.Module):
    pictures = torch.rand(len(NAIVE), *SHAPE)
    scores, gradients = score(wide_cnn, OBJECTIVES, pictures, gradients=True, paired=True)
    wide_cnn.eval()
    expected = [naive(wide_cnn, picture, place) for place, picture in enumerate(pictures)]
    assert scores.shape == (len(NAIVE),)
    assert gradients.shape == (len(NAIVE), *SHAPE)
    assert_same(scores, torch.stack([value for value, _ in expected]))
    assert_same(gradients, torch.stack([slope for _, slope in expected]))


@pytest.mark.parametrize("paired", [False, True])
def test_without_gradients_the_scores_are_the_same_and_come_alone(wide_cnn: nn.Module, paired: bool):
    pictures = torch.rand(len(NAIVE), *SHAPE)
    scores = score(wide_cnn, OBJECTIVES, pictures, paired=paired)
    assert not scores.requires_grad
    expected, _ = score(wide_cnn, OBJECTIVES, pictures, paired=paired, gradients=True)
    torch.testing.assert_close(scores, expected)


def test_an_objective_may_be_given_twice(wide_cnn: nn.Module):
    scores = score(wide_cnn, ["fc:1", "fc:1"], torch.rand(2, *SHAPE))
    assert scores.shape == (2, 2)
    assert torch.equal(scores[:, 0], scores[:, 1])


def test_the_gradient_of_a_unit_that_does_not_depend_on_the_picture_is_zero():
    class Decides(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return (pixels > 0.5).float()

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dead, self.decision, self.linear = nn.Linear(4, 2), Decides(), nn.Linear(4, 2)

        def forward(self, pictures: Tensor) -> Tensor:
            pixels = pictures.flatten(1)
            return self.dead(0 * pixels) + self.decision(pixels)[:, :2] + self.linear(pixels)

    network, pictures = Heads(), torch.rand(3, 1, 2, 2)
    objectives = ["decision:1", "linear:0", "dead:1"]
    scores, gradients = score(network, objectives, pictures, gradients=True)
    assert torch.equal(scores[:, 0], (pictures.flatten(1)[:, 1] > 0.5).float())
    assert gradients.flatten(2).abs().amax((0, 2)).tolist() == [0, network.linear.weight[0].abs().max().item(), 0]
    _, gradients = score(network, ["decision:0"] * 3, pictures, gradients=True, paired=True)
    assert gradients.shape == pictures.shape
    assert not gradients.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_precisions_give_scores_in_single_precision(cnn: nn.Module, dtype: torch.dtype):
    pictures = torch.rand(2, 1, 8, 8)
    expected = score(cnn, ["fc:1", "conv:0"], pictures, gradients=True)
    scores, gradients = score(cnn.to(dtype), ["fc:1", "conv:0"], pictures, gradients=True)
    for values, single in zip((scores, gradients), expected, strict=True):
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, single, atol=0.02, rtol=0.02)


def fail(*_: object) -> None:
    raise KeyError("out of order")


@pytest.mark.parametrize("gradients", [False, True])
def test_the_network_and_the_random_numbers_are_left_as_they_were(
    wide_cnn: nn.Module, untouched: Callable[[nn.Module], AbstractContextManager[None]], gradients: bool
):
    wide_cnn.train()
    wide_cnn.bn.eval()
    wide_cnn.conv1.weight.requires_grad_(False)
    wide_cnn.fc.weight.grad = torch.ones_like(wide_cnn.fc.weight)
    # It draws random numbers in evaluation mode as well.
    wide_cnn.drop.register_forward_hook(lambda *_: (torch.rand(3), random.random(), None)[-1])
    pictures = torch.rand(2, *SHAPE)
    before = pictures.clone()
    with untouched(wide_cnn):
        score(wide_cnn, OBJECTIVES, pictures, gradients=gradients)
    assert torch.equal(pictures, before)
    assert not pictures.requires_grad
    wide_cnn.drop.register_forward_hook(fail)
    with untouched(wide_cnn), pytest.raises(InputError, match=r"KeyError: .out of order. .*test_scoring.py"):
        score(wide_cnn, OBJECTIVES, pictures, gradients=gradients)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_switched_them_off(wide_cnn: nn.Module, mode: Callable[[], Any]):
    pictures = torch.rand(2, *SHAPE)
    expected = score(wide_cnn, ["fc:1"], pictures, gradients=True)
    with mode():
        scored = score(wide_cnn, ["fc:1"], pictures, gradients=True)
    assert all(map(torch.equal, scored, expected))


def test_the_forward_pass_ends_at_the_last_layer_that_is_needed(cnn: nn.Module):
    calls: list[int] = []
    cnn.fc.register_forward_hook(lambda *_: calls.append(1))
    score(cnn, ["conv:0", "relu:1"], torch.rand(2, 1, 8, 8))
    assert not calls


@pytest.mark.parametrize("count", [1, 3])
def test_paired_pictures_need_an_objective_each(cnn: nn.Module, count: int):
    message = rf"^score\(paired=True\): {count} objectives for 2 pictures; give one per picture$"
    with pytest.raises(InputError, match=message):
        score(cnn, ["fc:0"] * count, torch.rand(2, 1, 8, 8), paired=True)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("", "malformed unit ''"),
        ("fc:*", r"unit 'fc:\*' names several units where one is expected"),
        ("fc:1 - -fc:2", "malformed sum 'fc:1 - -fc:2'"),
        ("cnv:0", r"no layer 'cnv' in Sequential; layers: conv, relu, flatten, fc\. Did you mean 'conv'"),
        ("fc#1:0", "no call 1 of layer 'fc'"),
    ],
)
def test_objectives_that_the_network_does_not_have_are_refused(cnn: nn.Module, objective: str, message: str):
    with pytest.raises(InputError, match=f"^{message}"):
        score(cnn, ["fc:0", objective], torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["fc:9"], "no unit 9 in layer 'fc', which has 5 units: 0 to 4"),
        (["conv:0@9,0"], "no position @9,0 in layer 'conv'; its positions are 0-5,0-5"),
        ([], "no units are given; name at least one"),
        (["fc:0-3"], "'fc:0-3' names several units"),
    ],
)
def test_objectives_that_do_not_fit_the_network_are_named(cnn: nn.Module, objectives: list[str], message: str):
    with pytest.raises(InputError, match=message):
        score(cnn, objectives, torch.rand(2, 1, 8, 8))


def test_a_single_objective_needs_no_list(cnn: nn.Module):
    pictures = torch.rand(2, 1, 8, 8)
    assert torch.equal(score(cnn, "fc:1", pictures), score(cnn, ["fc:1"], pictures))


def test_pictures_of_inference_mode_have_gradients(cnn: nn.Module):
    with torch.inference_mode():
        pictures = torch.rand(2, 1, 8, 8)
    _, gradients = score(cnn, ["fc:1"], pictures, gradients=True)
    assert gradients.abs().sum() > 0
