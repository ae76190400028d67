"""Pictures on their way."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn, optim

from fvlightning.features import Maximizer, PixelImage, RandomAffine, Transform

SHAPE = (1, 12, 12)
# A rate that does not depend on the number of steps.
OPTIMIZER = partial(optim.Adam, lr=0.05)


@pytest.mark.parametrize("transforms", [[], [RandomAffine()]], ids=["plain", "transformed"])
def test_snapshots_are_what_a_shorter_run_ends_with(wide_cnn: nn.Module, transforms: list[Transform]):
    settings: dict[str, Any] = {"transforms": transforms, "optimizer": OPTIMIZER}
    features = Maximizer(32, **settings, snapshots=[1, 7, 32, 500]).maximize(wide_cnn, "fc:0-2", SHAPE)
    plain = Maximizer(32, **settings).maximize(wide_cnn, "fc:0-2", SHAPE)
    for feature, other in zip(features, plain, strict=True):
        assert list(feature.snapshots) == [1, 7, 32], "in order, without the one after the last step"
        assert other.snapshots == {}
        assert torch.equal(feature.parameters, other.parameters)
        for picture in feature.snapshots.values():
            assert picture.shape == SHAPE
            assert torch.equal(picture, (picture * 255).round() / 255)
    for step in (1, 7):
        shorter = Maximizer(step, **settings).maximize(wide_cnn, "fc:0-2", SHAPE)
        assert any(feature.best_step == step for feature in shorter)
        for feature, other in zip(shorter, features, strict=True):
            if feature.best_step == step:
                assert (feature.image - other.snapshots[step]).abs().max() < 2 / 255


def test_a_picture_that_has_stopped_stays_in_the_snapshots_as_it_was(wide_cnn: nn.Module):
    settings = {"patience": 3, "min_delta": 0.01, "transforms": [], "image": PixelImage(), "optimizer": OPTIMIZER}
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
