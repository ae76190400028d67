"""Learning rates that change from step to step."""

import math

import pytest
import torch
from torch import optim

from fvlightning.errors import InputError
from fvlightning.schedules import CosineWithWarmup


def rates(n_steps: int, spread: bool = True, **settings: int) -> list[float]:
    """Return the learning rates of the steps, for an optimiser with a rate of 0.5."""
    optimizer = optim.SGD([torch.zeros(1)], lr=0.5)
    schedule = CosineWithWarmup(optimizer, **settings)
    if spread:
        schedule.spread(n_steps)
    made = []
    for _ in range(n_steps):
        made.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return made


def test_the_warm_up_rises_linearly_and_the_cosine_falls_to_the_end():
    cosine = [0.25 * (1 + math.cos(math.pi * step / 7)) for step in range(1, 7)]
    assert rates(10, warmup=4) == pytest.approx([0.125, 0.25, 0.375, 0.5, *cosine], abs=1e-6)


def test_without_a_warm_up_it_is_half_a_cosine():
    cosine = [0.25 * (1 + math.cos(math.pi * step / 6)) for step in range(1, 6)]
    assert rates(5, warmup=0) == pytest.approx(cosine, abs=1e-6)


def test_a_warm_up_longer_than_all_steps_only_rises():
    assert rates(3, warmup=10) == pytest.approx([0.05, 0.1, 0.15], abs=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(3, 0), (8, 2), (60, 10)])
def test_the_warm_up_is_a_quarter_of_the_steps_by_default_and_at_most_ten(steps: int, warmup: int):
    assert rates(steps) == rates(steps, warmup=warmup)


def test_a_number_of_steps_that_is_given_is_not_changed_by_the_run():
    shorter, as_the_run = rates(6, warmup=1, steps=3), rates(6, warmup=1)
    assert shorter[3:] == pytest.approx([0, 0, 0], abs=1e-6)
    assert as_the_run[3] > 0.1
    assert shorter[:3] == rates(3, warmup=1)


def test_the_rate_stays_constant_until_the_number_of_steps_is_known():
    assert rates(20, spread=False) == pytest.approx([0.05 * step for step in range(1, 10)] + [0.5] * 11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": -1}, r"^CosineWithWarmup\(warmup=-1\): must be at least 0$"),
        ({"steps": 0}, r"^CosineWithWarmup\(steps=0\): must be at least 1, or None for all steps$"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        CosineWithWarmup(optim.SGD([torch.zeros(1)], lr=0.5), **settings)
