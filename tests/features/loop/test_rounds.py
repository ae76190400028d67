"""Pictures that grow from round to round."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    CosineWithWarmup,
    CPPNImage,
    FourierImage,
    LaplacianImage,
    MagnitudeConstrainedImage,
    Maximizer,
    Parametrization,
    PixelImage,
    RandomAffine,
    RawInput,
    Scale,
)

SHAPE = (1, 12, 12)
SCALES = [Scale(9, 20), Scale(12, 12), Scale(15, 18)]


@pytest.fixture
def network() -> nn.Module:
    """Takes pictures of one channel and any size from 7 pixels on; layers conv (6), last (4)."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(1, 6, 3))
    network.add_module("tanh", nn.Tanh())
    network.add_module("last", nn.Conv2d(6, 4, 5))
    return network


def pixels(**settings: Any) -> Maximizer:
    return Maximizer(**{"image": PixelImage(), "transforms": [], "scales": SCALES, **settings})


def test_rounds_are_single_runs_whose_picture_is_resized_for_the_next(network: nn.Module):
    """Without transforms and momentum, nothing else is random or remembered."""
    settings = {"optimizer": partial(optim.SGD, lr=2.0)}
    image = PixelImage()
    (feature,) = pixels(**settings).maximize(network, "last:1", SHAPE)
    start, histories, best_step = None, [], 0
    for before, scale in zip([SCALES[0], *SCALES], SCALES, strict=False):
        shape = (1, scale.side, scale.side)
        if start is not None:
            start = {("last:1", 0): image.resize(start[None], (1, before.side, before.side), shape)[0]}
        single = Maximizer(scale.steps, image=image, transforms=[], **settings)
        (part,) = single.maximize(network, "last:1", shape, warm_starts=start)
        start, best_step = part.parameters, sum(map(len, histories)) + part.best_step
        histories.append(part.history)
    assert feature.image.shape == (1, 15, 15)
    assert feature.best_step == best_step == 50
    assert feature.steps == feature.settings["steps"] == 50
    torch.testing.assert_close(feature.parameters, part.parameters)
    torch.testing.assert_close(feature.history, torch.cat(histories))
    assert feature.score == part.score


class Sees(nn.Module):
    """Notes the sizes of the pictures in batches of more than two: smaller ones measure the layers and the memory."""

    def __init__(self, note: Callable[[tuple[int, ...]], None]) -> None:
        super().__init__()
        self.note = note

    def forward(self, pictures: Tensor) -> Tensor:
        if len(pictures) > 2:
            self.note(tuple(pictures.shape[2:]))
        return pictures


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [((1, 12, 12), [(9, 9), (12, 12), (15, 15)]), ((1, 20, 10), [(18, 9), (24, 12), (30, 15)])],
)
def test_the_network_sees_the_size_of_the_round_whose_side_is_the_shorter(image_shape: tuple, expected: list):
    sizes: list[tuple[int, ...]] = []
    network = nn.Sequential(Sees(sizes.append), nn.Conv2d(1, 3, 3))
    features = pixels().maximize(network, "1:*", image_shape)
    assert list(dict.fromkeys(sizes)) == expected
    assert {feature.image.shape for feature in features} == {(1, *expected[-1])}


@pytest.mark.parametrize("image", [FourierImage(), PixelImage("clip"), LaplacianImage(), MagnitudeConstrainedImage()])
@pytest.mark.parametrize("transforms", [[], [RandomAffine()]])
def test_scores_are_those_of_the_picture_and_the_last_rounds_are_better(
    network: nn.Module, image: Parametrization, transforms: list
):
    features = pixels(image=image, transforms=transforms).maximize(network, "last:*", (1, 11, 13))
    for feature in features:
        with torch.no_grad():
            score = network(feature.image[None])[0, feature.unit.index].mean().item()
        assert feature.image.shape == (1, 15, 18)
        assert feature.score == pytest.approx(score, abs=1e-5)
        assert feature.score > feature.history[0]
        assert 32 <= feature.best_step <= feature.steps == 50


def test_a_cppn_keeps_its_parameters(network: nn.Module):
    image = CPPNImage(num_layers=2, width=4)
    message = r"^Maximizer\(scales=\.\.\.\): no round of 8 pixels: CPPNImage cannot blur .*; leave out the blur$"
    (feature,) = pixels(image=image).maximize(network, "last:0", SHAPE)
    assert feature.image.shape == (1, 15, 15)
    assert feature.parameters.shape == image.initial_parameters((1, 15, 15), torch.Generator()).shape
    with pytest.raises(
        InputError,
        match=message,
    ):
        pixels(image=image, scales=[Scale(7, 2), Scale(8, 2, blur=1)]).maximize(network, "last:0", SHAPE)


def test_each_picture_is_the_same_alone_as_in_a_batch(network: nn.Module):
    maximizer = pixels(image=FourierImage(), transforms=[RandomAffine()], repeats=2, patience=10)
    together = maximizer.maximize(network, ["last:*", "conv:2"], SHAPE)
    for feature in together[::3]:
        (alone,) = [
            other for other in maximizer.maximize(network, feature.name, SHAPE) if other.repeat == feature.repeat
        ]
        torch.testing.assert_close(feature.parameters, alone.parameters, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(feature.history, alone.history)
        assert feature.best_step == alone.best_step


def test_the_transforms_of_a_round_are_not_those_of_the_round_before(network: nn.Module):
    """The scores of pictures that do not move differ only by their transforms."""
    still = {"image": PixelImage(std=2.0), "optimizer": partial(optim.SGD, lr=0.0), "transforms": [RandomAffine()]}
    (feature,) = pixels(scales=[Scale(9, 5), Scale(9, 5)], **still).maximize(network, "last:0", SHAPE)
    assert not torch.isclose(feature.history[:5], feature.history[5:]).any()


def test_optimiser_and_schedule_begin_anew_in_each_round():
    """The brightness of a picture under gradient descent shows the rates: they are those of a run of that length."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    network[0].weight.data.fill_(1)
    maximizer = pixels(
        image=PixelImage("clip", std=0),
        optimizer=partial(optim.SGD, lr=0.36),
        scheduler=partial(CosineWithWarmup, warmup=2),
        scales=[Scale(6, 5), Scale(6, 4)],
    )
    (feature,) = maximizer.maximize(network, "0:0", SHAPE)
    rises = feature.history.diff() * 36 / 0.36

    def rates(steps: int) -> list[float]:
        return [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * step / (steps - 1))) for step in range(1, steps - 1))]

    assert rises.tolist() == pytest.approx([*rates(5), *rates(4)][:-1], abs=1e-4)


def test_the_blur_softens_the_picture_that_a_round_takes_over():
    """At a learning rate of 0 the picture does not change otherwise."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    settings = {"image": PixelImage(std=1.0), "optimizer": partial(optim.SGD, lr=0.0)}
    roughness = []
    for blur in (0.0, 1.0, 3.0):
        scales = [Scale(30, 1), Scale(30, 1, blur=blur)]
        (feature,) = pixels(scales=scales, **settings).maximize(network, "0:0", SHAPE)
        roughness.append(feature.image.diff(dim=-1).abs().mean().item())
    assert roughness[0] > 3 * roughness[1] > 9 * roughness[2]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("patience", [None, 3])
def test_progress_adds_up_to_pictures_times_all_steps(network: nn.Module, batch_size: int, patience: int | None):
    made: list[int] = []
    maximizer = pixels(batch_size=batch_size, patience=patience, min_delta=0.02)
    assert maximizer.settings.steps == 50
    features = maximizer.maximize(network, "last:*", SHAPE, on_step=made.append)
    assert sum(made) == 50 * 4
    assert min(made) > 0
    assert all(feature.steps == len(feature.history) <= 50 for feature in features)
    if patience:
        assert {feature.steps for feature in features} != {50}, "some stop early in a round"
        assert all(feature.best_step <= feature.steps for feature in features)


def test_snapshots_have_the_numbers_of_all_steps_and_the_sizes_of_their_rounds(network: nn.Module):
    (feature,) = pixels(snapshots=[1, 20, 21, 33, 50]).maximize(network, "last:0", SHAPE)
    sides = {step: picture.shape[-1] for step, picture in feature.snapshots.items()}
    assert sides == {1: 9, 20: 9, 21: 12, 33: 15, 50: 15}


def test_a_warm_start_makes_all_its_steps_at_the_last_size(network: nn.Module):
    maximizer = pixels()
    first = maximizer.maximize(network, "last:0-1", SHAPE)
    starts = {(feature.name, 0): feature.parameters for feature in first[:1]}
    made: list[int] = []
    warm, cold = maximizer.maximize(network, "last:0-1", SHAPE, warm_starts=starts, steps=12, on_step=made.append)
    assert sum(made) == 24
    single = Maximizer(SCALES[-1].steps, image=PixelImage(), transforms=[])
    (expected,) = single.maximize(network, "last:0", (1, 15, 15), warm_starts=starts, steps=12)
    torch.testing.assert_close(warm.parameters, expected.parameters)
    torch.testing.assert_close(warm.history, expected.history)
    (alone,) = maximizer.maximize(network, "last:1", SHAPE, steps=12)
    torch.testing.assert_close(cold.parameters, alone.parameters)


class Breaks(nn.Module):
    """Units: the brightness; the same, but infinite for pictures of 12 pixels; and 0."""

    def forward(self, pictures: Tensor) -> Tensor:
        bright = pictures.flatten(1).mean(1)
        broken = torch.full_like(bright, torch.inf) if pictures.shape[-1] == 12 else bright
        return torch.stack([bright, broken, bright * 0], dim=1)


def test_a_picture_that_fails_in_a_round_stays_as_it_was_and_the_others_go_on():
    features = pixels(snapshots=[50]).maximize(nn.Sequential(Breaks()), "0:*", SHAPE)
    assert [feature.status for feature in features] == ["ok", "non-finite", "dead"]
    good, broken, dead = features
    assert (good.steps, broken.steps, dead.steps) == (50, 21, 50)
    assert broken.best_step == 20
    assert broken.image.shape == (1, 15, 15)
    assert math.isfinite(broken.score)
    assert 0.5 < broken.score < good.score
    assert torch.equal(broken.snapshots[50], broken.image)


class Cramped(nn.Module):
    """Has room for 2 pictures of 15 pixels."""

    def forward(self, pictures: Tensor) -> Tensor:
        if len(pictures) > 2 and pictures.shape[-1] >= 15:
            torch.empty(2**50)
        return pictures


def test_every_step_is_counted_once_after_an_out_of_memory_in_the_last_round(network: nn.Module):
    expected = pixels().maximize(network, "last:*", SHAPE)
    made: list[int] = []
    with pytest.warns(UserWarning, match="out of memory with 4 pictures at once: going on with 2"):
        features = pixels().maximize(nn.Sequential(Cramped(), network), "1.last:*", SHAPE, on_step=made.append)
    assert sum(made) == 4 * 50
    assert [feature.unit.index for feature in features] == [feature.unit.index for feature in expected]


@pytest.mark.parametrize(
    ("scales", "unit", "message"),
    [
        ([Scale(9, 1), Scale(6, 1)], "last:0", r"^Maximizer\(scales=\.\.\.\): no round of 6 pixels: .* \(1, 6, 6\)"),
        ([Scale(6, 1), Scale(9, 1)], "last:0", r"^Maximizer\(scales=\.\.\.\): no round of 6 pixels"),
        ([Scale(9, 1), Scale(15, 1)], "conv:0@9,9", r"^Maximizer\(scales=...\): no round of 9 pixels: no position @9"),
    ],
)
def test_sizes_that_the_network_cannot_take_are_refused_before_anything_is_computed(
    network: nn.Module, scales: list[Scale], unit: str, message: str
):
    made: list[int] = []
    with pytest.raises(InputError, match=message):
        pixels(scales=scales).maximize(network, unit, SHAPE, on_step=made.append)
    assert not made


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (SHAPE, r"^Maximizer\(scales=\.\.\.\): no round of 12 pixels: RawInput cannot start from a picture"),
        ((9,), r"^inputs of shape \(9,\) are not pictures \(C, H, W\); leave out scales$"),
    ],
)
def test_raw_inputs_do_not_grow(network: nn.Module, shape: tuple[int, ...], message: str):
    with pytest.raises(InputError, match=message):
        pixels(image=RawInput()).maximize(network, "last:0", shape)
