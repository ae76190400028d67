"""The pictures that are to be made: what each starts from, and which share a batch."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    Alignment,
    Diversity,
    Feature,
    FourierImage,
    Maximizer,
    PixelImage,
    RawInput,
    Target,
    Unit,
    UnitActivation,
)
from fvlightning.features.loop.jobs import Job, group_jobs, list_jobs, mark_classes
from fvlightning.features.scales import Round

SHAPE = (1, 8, 8)


def jobs_of(network: nn.Module, units: Any, warm: tuple[tuple[str, int], ...] = (), **settings: Any) -> list[Job]:
    warm_starts = {key: torch.zeros(SHAPE) for key in warm}
    return list_jobs(Maximizer(**settings).settings, network, units, SHAPE, warm_starts)


def test_there_is_a_job_for_each_unit_and_repeat_with_its_warm_start(cnn: nn.Module):
    jobs = jobs_of(cnn, ["fc:0-1", "-conv:2"], warm=(("fc:1", 0), ("-conv:2", 1), ("fc:4", 0)), repeats=2)
    assert [(str(job.unit), job.repeat, job.warm_start is not None) for job in jobs] == [
        ("fc:0", 0, False),
        ("fc:0", 1, False),
        ("fc:1", 0, True),
        ("fc:1", 1, False),
        ("-conv:2", 0, False),
        ("-conv:2", 1, True),
    ]


def test_units_are_pooled_as_the_settings_say_and_objectives_stay_as_they_are(cnn: nn.Module):
    objective = UnitActivation("conv:1")
    jobs = jobs_of(cnn, ["conv:0", objective], pooling="rms")
    assert [job.objective for job in jobs] == [UnitActivation("conv:0", "rms"), objective]


def starts_of(features: list[Feature]) -> dict[tuple[str, int], Tensor]:
    return {(feature.name, feature.repeat): feature.parameters for feature in features}


def test_a_warm_start_goes_on_where_the_last_pictures_ended(cnn: nn.Module):
    """With an optimiser that has no state, 6 and 10 steps are the same as 16."""
    maximizer = Maximizer(6, optimizer=partial(optim.SGD, lr=0.1), transforms=[], repeats=2)
    first = maximizer.maximize(cnn, ["fc:0", "conv:1"], SHAPE)
    second = maximizer.maximize(cnn, ["fc:0", "conv:1"], SHAPE, warm_starts=starts_of(first), steps=10)
    whole = maximizer.maximize(cnn, ["fc:0", "conv:1"], SHAPE, steps=16)
    assert [feature.best_step for feature in whole] == [16] * 4, "the picture only gets better"
    for before, after, expected in zip(first, second, whole, strict=True):
        torch.testing.assert_close(after.parameters, expected.parameters)
        torch.testing.assert_close(torch.cat([before.history, after.history]), expected.history)


def test_pictures_without_a_warm_start_start_anew(cnn: nn.Module):
    cold = Maximizer(3).maximize(cnn, ["fc:0-1"], SHAPE)
    mixed = Maximizer(3).maximize(cnn, ["fc:0-1"], SHAPE, warm_starts=starts_of(cold[:1]))
    torch.testing.assert_close(mixed[1].parameters, cold[1].parameters)
    assert not torch.allclose(mixed[0].parameters, cold[0].parameters)


def test_the_parameters_of_a_warm_start_are_left_alone(cnn: nn.Module):
    starts = starts_of(Maximizer(3).maximize(cnn, ["fc:0"], SHAPE))
    before = {key: value.clone() for key, value in starts.items()}
    Maximizer(3).maximize(cnn, ["fc:0"], SHAPE, warm_starts=starts)
    assert all(torch.equal(value, before[key]) for key, value in starts.items())


def test_a_warm_start_of_another_size_is_refused(cnn: nn.Module):
    starts = starts_of(Maximizer(1, image=PixelImage()).maximize(cnn, ["fc:0"], SHAPE))
    message = (
        r"^cannot go on from the picture of fc:0: its parameters have the shape \(1, 8, 8\), FourierImage of "
        r"\(1, 8, 8\) has \(1, 8, 5, 2\); start anew$"
    )
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(cnn, ["fc:0"], SHAPE, warm_starts=starts)


@pytest.mark.parametrize("image", [FourierImage(), PixelImage()])
@pytest.mark.parametrize("shape", [(8, 8), (64,), (1, 1, 8, 8), (1, 8, 0)])
def test_pictures_have_channels_rows_and_columns(image: Any, shape: tuple[int, ...]):
    """The network would take any of the first three; neither the parametrisation nor the transforms can make them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(InputError, match=r"Image cannot take a picture of shape \(.*\); give \(C, H, W\)$"):
        Maximizer(1, image=image).maximize(network, ["1:0"], shape)


def test_inputs_that_are_not_pictures_have_no_transforms():
    network = nn.Sequential(nn.Linear(2, 3))
    message = r"^inputs of shape \(2,\) are not pictures; leave out transforms \(transforms=\[\]\)$"
    with pytest.raises(InputError, match=message):
        Maximizer(1, image=RawInput()).maximize(network, ["0:0"], (2,))
    (feature,) = Maximizer(1, image=RawInput(), transforms=[]).maximize(network, ["0:0"], (2,))
    assert feature.image.shape == (2,)


def test_the_layer_of_a_joint_objective_is_checked(cnn: nn.Module):
    with pytest.raises(InputError, match=r"^no layer 'cnv' in Sequential"):
        jobs_of(cnn, "fc:0", joint_objectives=[Alignment(layer="cnv")])


def test_classes_are_the_units_of_the_output_that_are_maximised(cnn: nn.Module):
    units = ["fc:0", "-fc:1", "fc", "conv:2", UnitActivation(Unit("fc", 3)), Target("fc:4", 1.0)]
    marked = mark_classes(cnn, jobs_of(cnn, units), SHAPE)
    assert [job.class_unit for job in marked] == [Unit("fc", 0), None, None, None, None, None]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[[0], [1], [4], [5]], [[2], [3]]]),
        ({"joint_objectives": [Diversity()]}, [[[0, 1], [4, 5]], [[2, 3]]]),
        ({"joint_objectives": [Alignment()]}, [[[0, 2, 4], [1, 3, 5]]]),
        ({"joint_objectives": [Alignment(), Diversity()]}, [[[0, 1, 2, 3, 4, 5]]]),
    ],
    ids=["alone", "repeats together", "units together", "all together"],
)
def test_pictures_of_the_same_layers_share_a_group_and_joint_ones_a_set(
    cnn: nn.Module, settings: dict[str, Any], expected: list[list[list[int]]]
):
    jobs = jobs_of(cnn, ["fc:0", "conv:0", "fc:1"], repeats=2)
    assert group_jobs(Maximizer(repeats=2, **settings).settings, jobs, [Round(SHAPE, 3)]) == expected


def test_sets_with_warm_starts_alone_are_a_group_of_their_own_if_they_skip_something(cnn: nn.Module):
    jobs = jobs_of(cnn, ["fc:0-2"], warm=(("fc:0", 0), ("fc:2", 0), ("fc:2", 1)), repeats=2)
    settings = Maximizer().settings
    for skipping in ([Round(SHAPE, 1), Round(SHAPE, 1, 1)], [Round(SHAPE, 1, skipped=1)]):
        assert group_jobs(settings, jobs, skipping) == [[[0], [4], [5]], [[1], [2], [3]]]
    assert group_jobs(settings, jobs, [Round(SHAPE, 1)]) == [[[0], [1], [2], [3], [4], [5]]]
    joint = Maximizer(repeats=2, joint_objectives=[Diversity()])
    assert group_jobs(joint.settings, jobs, [Round(SHAPE, 1, skipped=1)]) == [[[0, 1], [2, 3]], [[4, 5]]]
