"""Several views of each picture a step, and pictures on their way."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import (
    L2,
    ColorJitter,
    GaussianNoise,
    Maximizer,
    PixelImage,
    RandomAffine,
    RandomResizedCrop,
    Target,
    Transform,
    Unit,
    UnitActivation,
)

SHAPE = (1, 12, 12)


class Record(Transform):
    """Remembers what it is given."""

    n_draws = 1

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        self.seen.append((pictures.detach(), draws))
        return pictures * (0.5 + draws[:, :, None, None])


class Half(Transform):
    """Gives half of the light."""

    n_draws = 0

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures * 0.5


class Halve(Transform):
    """Writes into what it is given."""

    n_draws = 0

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures.mul_(0.5)


def test_a_view_may_write_into_its_pictures(wide_cnn: nn.Module):
    halved, expected = (
        Maximizer(3, transforms=[view], penalties=[L2(0.1)]).maximize(wide_cnn, "fc:1", SHAPE)[0]
        for view in (Halve(), Half())
    )
    torch.testing.assert_close(halved.history, expected.history)


def test_each_view_has_its_own_draw_and_the_score_is_their_mean(wide_cnn: nn.Module):
    record = Record()
    (feature,) = Maximizer(3, transforms=[record], transforms_per_step=4).maximize(wide_cnn, "fc:1", SHAPE)
    for step, (pictures, draws) in enumerate(record.seen):
        assert pictures.shape == (4, *SHAPE)
        assert len(draws.unique()) == 4
        with torch.no_grad():
            scores = wide_cnn.eval()(pictures * (0.5 + draws[:, :, None, None]))[:, 1]
        assert feature.history[step].item() == pytest.approx(scores.mean().item(), abs=1e-5)


@pytest.mark.parametrize("patience", [None, 2])
def test_pictures_with_several_views_stand_alone(wide_cnn: nn.Module, patience: int | None):
    views = [RandomResizedCrop((0.5, 1.0)), GaussianNoise(), ColorJitter()]
    maximizer = Maximizer(
        40, transforms=views, transforms_per_step=3, patience=patience, min_delta=0.05, image=PixelImage()
    )
    objectives = ["fc:*", Target(UnitActivation(Unit("fc", 0)), 1.0)]
    together = maximizer.maximize(wide_cnn, objectives, SHAPE)
    for place in (0, 4):
        (alone,) = maximizer.maximize(wide_cnn, f"fc:{place}", SHAPE)
        torch.testing.assert_close(alone.parameters, together[place].parameters, atol=1e-4, rtol=0)
        assert alone.steps == together[place].steps
    (alone,) = maximizer.maximize(wide_cnn, objectives[1:], SHAPE)
    torch.testing.assert_close(alone.parameters, together[5].parameters, atol=1e-4, rtol=0)


def test_several_views_of_nothing_are_refused():
    with pytest.raises(InputError, match=r"transforms_per_step=2\): without transforms"):
        Maximizer(2, transforms=[], transforms_per_step=2)
    with pytest.raises(InputError, match="transforms_per_step=0"):
        Maximizer(2, transforms_per_step=0)


def test_settings_tell_views_and_open_relus_apart():
    base = Maximizer(2).settings
    assert Maximizer(2, transforms_per_step=2).settings != base
    assert Maximizer(2, open_relu_steps=2).settings != base
    assert Maximizer(2, snapshots=[1]).settings == base, "they change no picture"


@pytest.mark.parametrize("transforms", [[], [RandomAffine()]])
def test_snapshots_are_what_a_shorter_run_ends_with(wide_cnn: nn.Module, transforms: list[Transform]):
    steps = [1, 7, 32, 500]
    # At a rate that does not depend on the number of steps.
    settings: dict[str, Any] = {"transforms": transforms, "optimizer": partial(torch.optim.Adam, lr=0.05)}
    features = Maximizer(32, **settings, snapshots=steps).maximize(wide_cnn, "fc:0-2", SHAPE)
    plain = Maximizer(32, **settings).maximize(wide_cnn, "fc:0-2", SHAPE)
    for feature, other in zip(features, plain, strict=True):
        assert list(feature.snapshots) == [1, 7, 32], "those that were made, in order"
        assert other.snapshots == {}
        assert torch.equal(feature.parameters, other.parameters)
        for picture in feature.snapshots.values():
            assert picture.shape == SHAPE
            assert torch.equal(picture, (picture * 255).round() / 255)
    for step in (1, 7):
        pictures = [feature.snapshots[step] for feature in features]
        for feature, picture in zip(
            Maximizer(step, **settings).maximize(wide_cnn, "fc:0-2", SHAPE), pictures, strict=True
        ):
            if feature.best_step == step:
                assert (feature.image - picture).abs().max() < 2 / 255


def test_a_picture_that_has_stopped_stays_in_the_snapshots_as_it_was(wide_cnn: nn.Module):
    optimizer = partial(torch.optim.Adam, lr=0.05)
    settings = {"patience": 3, "min_delta": 0.01, "transforms": [], "image": PixelImage(), "optimizer": optimizer}
    with torch.no_grad():
        wide_cnn.fc.weight[0] *= 1000  # goes on, while the others do not improve by as much
        wide_cnn.fc.weight[1:] /= 1000
    features = Maximizer(64, snapshots=[2, 40, 64], **settings).maximize(wide_cnn, "fc:*", SHAPE)
    stopped = [feature for feature in features if feature.steps < 32]
    assert len(stopped) == 4
    for feature in stopped:
        assert list(feature.snapshots) == [2, 40, 64]
        (alone,) = Maximizer(64, snapshots=[2, 40, 64, 65], **settings).maximize(wide_cnn, [feature.unit], SHAPE)
        assert list(alone.snapshots) == [2, 40, 64]
        assert (alone.snapshots[64] - feature.snapshots[64]).abs().max() < 2 / 255
        assert torch.equal(feature.snapshots[40], feature.snapshots[64])
        last = Maximizer(feature.steps, **settings | {"patience": None}).maximize(wide_cnn, [feature.unit], SHAPE)[0]
        if last.best_step == feature.steps:
            assert (feature.snapshots[64] - last.image).abs().max() < 2 / 255


def test_snapshots_are_numbers_of_steps():
    with pytest.raises(InputError, match=r"snapshots=\[0, 3\]"):
        Maximizer(snapshots=[0, 3])
    with pytest.raises(InputError, match="open_relu_steps=-1"):
        Maximizer(open_relu_steps=-1)
