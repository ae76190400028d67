"""Learning rates that change from step to step."""

import json
import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn, optim
from torch.optim import lr_scheduler

from fvlightning.errors import InputError
from fvlightning.features import CosineWithWarmup, Maximizer, PixelImage
from fvlightning.features.loop.optimizer import OptimizedRows

SHAPE = (1, 8, 8)
SCHEDULES: dict[str, Any] = {
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=8),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.8),
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=9),
    "ours": partial(CosineWithWarmup, warmup=2),
}
constant_rate = partial(lr_scheduler.ConstantLR, factor=1.0)


def rates(scheduler: Any, steps: int) -> list[float]:
    """The learning rates that gradient descent has in each step, by how far it goes against a gradient of 1."""
    rows = OptimizedRows(torch.zeros(2, 3), partial(optim.SGD, lr=0.5), scheduler=scheduler, steps=steps)
    places = [0.0]
    for _ in range(steps):
        rows.step(torch.ones(2, 3))
        places.append(rows.batch[1, 2].item())
    return [before - after for before, after in pairwise(places)]


def test_the_warm_up_rises_in_a_line_and_the_cosine_falls_to_the_end():
    found = rates(partial(CosineWithWarmup, warmup=4), 10)
    cosine = [0.25 * (1 + math.cos(math.pi * step / 7)) for step in range(1, 7)]
    assert found == pytest.approx([0.125, 0.25, 0.375, 0.5, *cosine], abs=1e-6)


def test_without_a_warm_up_it_is_half_a_cosine():
    assert rates(partial(CosineWithWarmup, warmup=0), 5) == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * step / 6)) for step in range(1, 6)], abs=1e-6
    )


def test_a_warm_up_longer_than_all_steps_only_rises():
    assert rates(partial(CosineWithWarmup, warmup=10), 3) == pytest.approx([0.05, 0.1, 0.15], abs=1e-6)


def test_the_warm_up_is_a_quarter_of_the_steps_by_default_and_ten_at_most():
    for steps, warmup in ((3, 0), (8, 2), (60, 10)):
        assert rates(CosineWithWarmup, steps) == rates(partial(CosineWithWarmup, warmup=warmup), steps)


def test_the_default_optimiser_has_a_schedule_and_a_given_one_a_constant_rate():
    assert Maximizer(8).settings["scheduler"] == {"class": "CosineWithWarmup", "warmup": 2, "steps": 8}
    assert Maximizer(8, optimizer=partial(optim.Adam, lr=0.05)).settings["scheduler"] is None


def test_a_number_of_steps_that_is_given_stays():
    given, own = (rates(partial(CosineWithWarmup, warmup=1, steps=steps), 6) for steps in (3, None))
    assert given[3:] == pytest.approx([0, 0, 0], abs=1e-6)
    assert own[3] > 0.1


@pytest.mark.parametrize("name", SCHEDULES)
def test_pictures_with_a_schedule_stand_alone(wide_cnn: nn.Module, name: str):
    maximizer = Maximizer(8, scheduler=SCHEDULES[name], image=PixelImage())
    together = maximizer.maximize(wide_cnn, "fc:*", (1, 12, 12))
    alone = maximizer.maximize(wide_cnn, "fc:3", (1, 12, 12))[0]
    torch.testing.assert_close(alone.parameters, together[3].parameters, atol=1e-4, rtol=0)
    constant = Maximizer(8, scheduler=constant_rate, image=PixelImage()).maximize(wide_cnn, "fc:3", (1, 12, 12))[0]
    assert not torch.allclose(constant.parameters, alone.parameters, atol=1e-3)


def test_rows_that_leave_do_not_disturb_the_schedule():
    kept, whole = (
        OptimizedRows(torch.zeros(3, 2), partial(optim.Adam, lr=0.1), scheduler=SCHEDULES["ours"], steps=8)
        for _ in range(2)
    )
    for step in range(8):
        if step == 4:
            kept.keep([1])
        kept.step(torch.ones(len(kept.batch), 2))
        whole.step(torch.ones(3, 2))
    torch.testing.assert_close(kept.batch[0], whole.batch[1])


def test_settings_tell_schedules_apart_and_are_plain():
    described = [
        Maximizer(8, scheduler=scheduler).settings["scheduler"]
        for scheduler in (constant_rate, *SCHEDULES.values(), partial(CosineWithWarmup, warmup=3))
    ]
    assert len({json.dumps(one, sort_keys=True) for one in described}) == len(described)
    assert described[-1] == {"class": "CosineWithWarmup", "warmup": 3, "steps": 8}


def test_schedules_that_follow_a_metric_are_refused(cnn: nn.Module):
    with pytest.raises(InputError, match="CosineWithWarmup"):
        Maximizer(2, scheduler=lr_scheduler.ReduceLROnPlateau).maximize(cnn, "fc:0", SHAPE)


def test_settings_that_a_schedule_refuses_are_told(cnn: nn.Module):
    with pytest.raises(InputError, match="T_max"):
        Maximizer(2, scheduler=lr_scheduler.CosineAnnealingLR).maximize(cnn, "fc:0", SHAPE)
    for settings in ({"warmup": -1}, {"steps": 0}):
        (name,) = settings
        with pytest.raises(InputError, match=rf"CosineWithWarmup\({name}="):
            Maximizer(2, scheduler=partial(CosineWithWarmup, **settings)).maximize(cnn, "fc:0", SHAPE)


def test_views_and_schedules_are_set_from_yaml(cnn: nn.Module):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Maximizer, "maximizer")
    parsed = parser.parse_string(
        """
        maximizer:
          class_path: fvlightning.Maximizer
          init_args:
            steps: 3
            snapshots: [1, 2]
            transforms:
              - class_path: fvlightning.features.RandomResizedCrop
                init_args: {side: [0.4, 1.1], flip: true}
              - class_path: fvlightning.features.GaussianNoise
                init_args: {std: [0.0, 0.3]}
              - class_path: fvlightning.features.Blur
                init_args: {sigma: 0.5}
            scheduler:
              class_path: fvlightning.features.CosineWithWarmup
              init_args: {warmup: 1}
        """
    )
    maximizer = parser.instantiate(parsed).maximizer
    (feature,) = maximizer.maximize(cnn, "fc:0", SHAPE)
    assert list(feature.snapshots) == [1, 2]
    assert feature.settings["scheduler"] == {"class": "CosineWithWarmup", "warmup": 1, "steps": 3}
    assert [view["class"] for view in feature.settings["transforms"]] == [
        "RandomResizedCrop",
        "GaussianNoise",
        "Blur",
    ]
