"""Settings: in range, frozen, and described as plain values."""

import inspect
import json
import math
import re
from dataclasses import FrozenInstanceError, fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from fvlightning.errors import InputError
from fvlightning.features import (
    L2,
    Alignment,
    CosineWithWarmup,
    Diversity,
    FourierImage,
    Maximizer,
    PixelImage,
    RandomAffine,
    Scale,
    Settings,
)

SHAPE = (1, 8, 8)
# They say how many pictures are made, and how, but not what a picture looks like.
NOT_DESCRIBED = {"repeats", "batch_size", "snapshots"}


def described(**settings: Any) -> dict[str, Any]:
    return Maximizer(**settings).settings.describe()


def test_settings_are_the_arguments_of_a_maximizer_and_frozen():
    settings = Maximizer(steps=7).settings
    assert {field.name for field in fields(Settings)} == set(inspect.signature(Maximizer).parameters)
    for field in fields(Settings):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{field.name}'"):
            setattr(settings, field.name, None)


def test_all_settings_but_the_steps_are_keywords():
    assert Maximizer(7).settings.steps == 7
    with pytest.raises(TypeError, match="positional argument"):
        Maximizer(7, PixelImage())
    with pytest.raises(TypeError, match="positional argument"):
        Settings(7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "Maximizer(steps=0): must be at least 1"),
        ({"steps": -5}, "Maximizer(steps=-5): must be at least 1"),
        ({"repeats": 0}, "Maximizer(repeats=0): must be at least 1"),
        ({"batch_size": 0}, "Maximizer(batch_size=0): must be at least 1"),
        ({"patience": 0}, "Maximizer(patience=0): must be at least 1"),
        ({"transforms_per_step": 0}, "Maximizer(transforms_per_step=0): must be at least 1"),
        (
            {"transforms": [], "transforms_per_step": 2},
            "Maximizer(transforms_per_step=2): needs transforms, or all copies are alike; leave it out",
        ),
        ({"open_relu_steps": -1}, "Maximizer(open_relu_steps=-1): must be at least 0"),
        ({"snapshots": [0, 3]}, "Maximizer(snapshots=[0, 3]): must be numbers of steps, each at least 1"),
        ({"joint_objectives": [Diversity()]}, "Maximizer(repeats=1): must be at least 2 for joint objectives"),
        ({"pooling": "max"}, "Maximizer(pooling='max'): must be 'mean' or 'rms'"),
        ({"log_odds": -0.1}, "Maximizer(log_odds=-0.1): must be at least 0 and at most 1"),
        ({"log_odds": 1.1}, "Maximizer(log_odds=1.1): must be at least 0 and at most 1"),
        ({"log_odds": math.nan}, "Maximizer(log_odds=nan): must be at least 0 and at most 1"),
        ({"min_delta": -0.1}, "Maximizer(min_delta=-0.1): must be at least 0"),
        ({"min_delta": math.nan}, "Maximizer(min_delta=nan): must be at least 0"),
        (
            {"scales": [Scale(9, 1, blur=2)]},
            "Maximizer(scales=...): the blur of the first round must be 0, not 2",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused_also_when_they_are_replaced(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Maximizer(**settings)
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Maximizer().replace(**settings)


@pytest.mark.parametrize("warmup", [16, 1.0, -0.1, math.nan])
def test_a_transform_whose_warmup_is_not_a_share_of_the_run_is_refused(warmup: float):
    transform = RandomAffine()
    transform.warmup = warmup
    with pytest.raises(InputError, match=rf"^RandomAffine\(warmup={warmup}\): must be in \[0, 1\)$"):
        Maximizer(transforms=[transform])


def test_the_description_holds_plain_values():
    settings = described()
    assert json.loads(json.dumps(settings))["image"] == settings["image"]
    assert settings["image"]["class"] == "FourierImage"
    assert [transform["class"] for transform in settings["transforms"]] == ["RandomResizedCrop", "GaussianNoise"]
    assert set(settings) == {field.name for field in fields(Settings)} - NOT_DESCRIBED


OTHERS: list[dict[str, Any]] = [
    {"steps": 7},
    {"image": PixelImage()},
    {"image": FourierImage(decay=1.5)},
    {"optimizer": partial(optim.Adam, lr=0.1)},
    {"optimizer": partial(optim.SGD, lr=0.05)},
    {"optimizer": partial(optim.SGD, lr=0.05), "normalize_gradients": True},
    {"normalize_gradients": False},
    {"scheduler": partial(CosineWithWarmup, warmup=3)},
    {"scheduler": partial(lr_scheduler.ExponentialLR, gamma=0.8)},
    {"transforms": []},
    {"transforms": [RandomAffine(degrees=5)]},
    {"transforms_per_step": 2},
    {"penalties": [L2(0.1)]},
    {"patience": 5},
    {"patience": 5, "min_delta": 0.1},
    {"pooling": "rms"},
    {"open_relu_steps": 2},
    {"joint_objectives": [Diversity()], "repeats": 2},
    {"joint_objectives": [Alignment()]},
    {"scales": [Scale(9, 128), Scale(12, 128)]},
    {"scales": [Scale(12, 256)]},
    {"scales": [Scale(9, 128), Scale(12, 128, blur=1)]},
    {"scales": [Scale(9, 128), Scale(12, 128)], "steps": 20},
    {"initial_picture": torch.zeros(SHAPE)},
    {"initial_picture": torch.ones(SHAPE)},
    {"importance": True},
    {"log_odds": 0.1},
    {"seed": 1},
]


def test_the_description_tells_every_setting_apart_that_changes_a_picture():
    assert {name for other in OTHERS for name in other} | NOT_DESCRIBED == {field.name for field in fields(Settings)}
    texts = [json.dumps(described(**settings), sort_keys=True) for settings in [{}, *OTHERS]]
    assert len(set(texts)) == len(texts)


def test_settings_that_change_no_picture_are_not_described():
    assert described(batch_size=3, snapshots=[1], repeats=2) == described()


@pytest.mark.parametrize("settings", OTHERS, ids=lambda settings: " ".join(settings))
def test_the_same_settings_have_the_same_description(settings: dict[str, Any]):
    assert described(**settings) == described(**settings)


def test_a_feature_has_the_description(cnn: nn.Module):
    maximizer = Maximizer(2, image=PixelImage())
    (feature,) = maximizer.maximize(cnn, "fc:0", SHAPE)
    assert feature.settings == maximizer.settings.describe()
    (feature,) = maximizer.maximize(cnn, "fc:0", SHAPE, steps=3)
    assert feature.settings == maximizer.replace(steps=3).settings.describe()


def test_defaults_of_steps_optimizer_and_normalisation():
    assert Maximizer().settings.steps == 256
    assert Maximizer(scales=[Scale(9, 20), Scale(12, 12)]).settings.steps == 32
    assert Maximizer(7, scales=[Scale(9, 20), Scale(12, 12)]).settings.steps == 7
    optimizer = described()["optimizer"]
    assert (optimizer["class"], optimizer["lr"], optimizer["eps"]) == ("AdamW", 0.2, 1e-3)
    assert Maximizer().settings.normalizes_gradients
    sgd = partial(optim.SGD, lr=0.1)
    assert not Maximizer(optimizer=sgd).settings.normalizes_gradients
    assert Maximizer(optimizer=sgd, normalize_gradients=True).settings.normalizes_gradients


def test_the_default_optimizer_has_a_schedule_and_a_given_one_a_constant_rate():
    assert described(steps=8)["scheduler"] == {"class": "CosineWithWarmup", "warmup": 2, "steps": 8}
    assert described(steps=8, optimizer=partial(optim.Adam, lr=0.05))["scheduler"] is None


def test_schedules_are_described_by_their_settings():
    schedulers = [
        partial(lr_scheduler.ConstantLR, factor=1.0),
        partial(lr_scheduler.CosineAnnealingLR, T_max=8),
        partial(lr_scheduler.ExponentialLR, gamma=0.8),
        partial(lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=9),
        partial(CosineWithWarmup, warmup=2),
        partial(CosineWithWarmup, warmup=3),
    ]
    schedules = [described(steps=8, scheduler=scheduler)["scheduler"] for scheduler in schedulers]
    assert len({json.dumps(schedule, sort_keys=True) for schedule in schedules}) == len(schedulers)
    assert schedules[-1] == {"class": "CosineWithWarmup", "warmup": 3, "steps": 8}


def test_replacing_leaves_the_maximizer_and_all_other_settings_alone():
    class Named(Maximizer):
        name = "before"

    maximizer = Named(7, penalties=[L2(0.1)])
    maximizer.name = "after"
    settings, description = maximizer.settings, maximizer.settings.describe()
    other = maximizer.replace(steps=9, batch_size=3)
    assert maximizer.settings is settings
    assert maximizer.settings.describe() == description
    assert (other.settings.steps, other.settings.batch_size) == (9, 3)
    assert other.settings.describe() == description | {
        "steps": 9,
        "scheduler": {"class": "CosineWithWarmup", "warmup": 2, "steps": 9},
    }
    for field in fields(Settings):
        if field.name not in ("steps", "batch_size"):
            assert getattr(other.settings, field.name) is getattr(settings, field.name)
    assert isinstance(other, Named)
    assert other.name == "after"
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        maximizer.replace(step=9)


def test_pictures_after_replacing_are_those_of_a_maximizer_made_so(cnn: nn.Module):
    (replaced,) = Maximizer(3, image=PixelImage()).replace(steps=5, image=FourierImage()).maximize(cnn, "fc:0", SHAPE)
    (expected,) = Maximizer(5).maximize(cnn, "fc:0", SHAPE)
    assert torch.equal(replaced.parameters, expected.parameters)
    assert replaced.settings == expected.settings


def test_the_default_optimizer_follows_the_weight_decay_of_a_replaced_image():
    pixels, fourier = PixelImage(), FourierImage()
    assert pixels.weight_decay != fourier.weight_decay
    maximizer = Maximizer(image=pixels)
    assert maximizer.settings.describe()["optimizer"]["weight_decay"] == pixels.weight_decay
    assert maximizer.replace(image=fourier).settings.describe()["optimizer"]["weight_decay"] == fourier.weight_decay


def test_only_joint_objectives_across_units_join_them():
    assert not Maximizer().settings.joins_units
    assert not Maximizer(joint_objectives=[Diversity()], repeats=2).settings.joins_units
    assert Maximizer(joint_objectives=[Diversity(), Alignment()], repeats=2).settings.joins_units


def test_the_warmup_is_the_longest_of_the_transforms():
    transforms = [RandomAffine(), RandomAffine(), RandomAffine()]
    transforms[0].warmup, transforms[1].warmup = 0.2, 0.5
    assert Maximizer(transforms=transforms).settings.warmup == 0.5
    assert Maximizer(transforms=[]).settings.warmup == 0


def test_milestones_of_a_schedule_tell_settings_apart_and_functions_go_by_their_names():
    def described(scheduler: Any) -> dict[str, Any]:
        maximizer = Maximizer(4, optimizer=partial(optim.SGD, lr=0.1), scheduler=scheduler)
        return json.loads(json.dumps(maximizer.settings.describe()))["scheduler"]

    first, second = (described(partial(lr_scheduler.MultiStepLR, milestones=[step])) for step in (1, 2))
    assert (first["milestones"], second["milestones"]) == ({"1": 1}, {"2": 1})
    assert described(partial(lr_scheduler.LambdaLR, lr_lambda=math.exp))["lr_lambdas"] == ["exp"]
