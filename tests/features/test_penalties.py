"""Penalties against loops over pixels."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import L1, L2, Penalty, TotalVariation
from fvlightning.features.penalties import total_variation


def loops(picture: Tensor) -> dict[str, float]:
    l1 = squares = variation = 0.0
    for channel in picture.tolist():
        for row, values in enumerate(channel):
            for column, value in enumerate(values):
                l1 += abs(value)
                squares += value * value
                if row:
                    variation += abs(value - channel[row - 1][column])
                if column:
                    variation += abs(value - values[column - 1])
    return {"l1": l1, "l2": math.sqrt(squares), "squares": squares, "variation": variation}


PENALTIES = {"l1": L1(), "l2": L2(), "squares": L2(squared=True), "variation": TotalVariation()}


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 5), (2, 1, 6), (1, 1, 1)])
def test_penalties_equal_loops_over_pixels(name: str, shape: tuple[int, int, int]):
    pictures = torch.randn(4, *shape)
    expected = torch.tensor([loops(picture)[name] for picture in pictures])
    torch.testing.assert_close(PENALTIES[name](pictures), expected)


def test_penalties_have_known_values():
    pictures = torch.arange(375.0).view(5, 3, 5, 5)
    assert TotalVariation()(pictures)[1] == 360
    assert L1()(pictures)[1] == 8400
    assert L2()(pictures)[1].item() == pytest.approx(987.902, abs=5e-4)


@pytest.mark.parametrize("penalty", [L1(2.5), L2(2.5), TotalVariation(2.5)])
def test_the_weight_is_a_factor(penalty: Penalty):
    pictures = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(penalty(pictures), 2.5 * type(penalty)()(pictures))
    assert type(penalty)(0)(pictures).tolist() == [0, 0]


@pytest.mark.parametrize("penalty", PENALTIES.values())
def test_each_picture_has_its_own_penalty_with_finite_gradients(penalty: Penalty):
    pictures = torch.rand(3, 1, 4, 4)
    pictures[0] = 0
    pictures.requires_grad_()
    values = penalty(pictures)
    (gradients,) = torch.autograd.grad(values[1], pictures, retain_graph=True)
    assert gradients[1].any()
    assert not gradients[[0, 2]].any()
    (gradients,) = torch.autograd.grad(values[0], pictures)
    assert not gradients.any(), "a black picture has nothing to penalise"


@pytest.mark.parametrize("weight", [-1, -1e-9, math.nan])
@pytest.mark.parametrize("penalty", [L1, L2, TotalVariation])
def test_a_weight_below_zero_is_refused(penalty: type[Penalty], weight: float):
    with pytest.raises(InputError, match=rf"{penalty.__name__}\(weight={weight}\)"):
        penalty(weight)


def test_mean_total_variation_equals_a_loop_over_neighbours():
    pictures = torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(2))
    for picture, variation in zip(pictures.tolist(), total_variation(pictures, mean=True).tolist(), strict=True):
        down = [abs(a - b) for rows in picture for one, two in pairwise(rows) for a, b in zip(one, two, strict=True)]
        across = [abs(a - b) for rows in picture for row in rows for a, b in pairwise(row)]
        assert variation == pytest.approx(sum(down) / len(down) + sum(across) / len(across), abs=1e-6)


def test_mean_total_variation_of_a_checkerboard_and_of_one_colour():
    board = (torch.arange(6)[:, None] + torch.arange(8)) % 2
    assert total_variation(board.float().expand(1, 3, 6, 8), mean=True).item() == 2
    assert total_variation(torch.full((1, 1, 4, 4), 0.7), mean=True).item() == 0
