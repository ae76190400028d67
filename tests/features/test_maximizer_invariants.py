"""Each picture stands alone, and the maximizer is invisible to the network and to the program around it."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    Feature,
    FourierImage,
    LayerCall,
    LayerEnergy,
    Maximizer,
    Objective,
    PixelImage,
    Target,
    TotalVariation,
    Unit,
    UnitActivation,
)

Untouched = Callable[[nn.Module], AbstractContextManager[None]]

SHAPE = (1, 12, 12)
MAXIMIZERS: dict[str, Callable[..., Maximizer]] = {
    "default": partial(Maximizer, 16),
    "pixels and penalty": partial(Maximizer, 16, image=PixelImage(max_rms=0.3), penalties=[TotalVariation(0.01)]),
    "no transforms": partial(Maximizer, 16, transforms=[]),
    "adafactor": partial(Maximizer, 16, optimizer=partial(optim.Adafactor, lr=0.05)),
    "patience": partial(Maximizer, 40, patience=3, min_delta=0.05),
}


def pictures_of(maximizer: Maximizer, features: list[Feature]) -> Tensor:
    """Return the pictures before they are rounded to 8 bits, which turns a difference of 1e-7 into one of 1/255."""
    return maximizer.settings.image(torch.stack([feature.parameters for feature in features]), SHAPE)


def assert_same(maximizer: Maximizer, first: list[Feature], second: list[Feature], atol: float = 1e-4) -> None:
    assert [feature.name for feature in first] == [feature.name for feature in second]
    torch.testing.assert_close(pictures_of(maximizer, first), pictures_of(maximizer, second), atol=atol, rtol=0)
    assert [feature.best_step for feature in first] == [feature.best_step for feature in second]
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one.history, other.history, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", MAXIMIZERS)
def test_the_same_seed_gives_the_same_pictures_bit_for_bit(wide_cnn: nn.Module, name: str):
    first = MAXIMIZERS[name]().maximize(wide_cnn, ["conv2:0-3", "fc:*"], SHAPE)
    torch.manual_seed(123)
    torch.rand(7)
    second = MAXIMIZERS[name]().maximize(wide_cnn, ["conv2:0-3", "fc:*"], SHAPE)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.parameters, other.parameters)
        assert torch.equal(one.history, other.history)
        assert one.score == other.score


@pytest.mark.parametrize("name", MAXIMIZERS)
def test_a_unit_alone_is_the_same_as_among_32_others(wide_cnn: nn.Module, name: str):
    maximizer = MAXIMIZERS[name]()
    together = maximizer.maximize(wide_cnn, ["conv2:*"], SHAPE)
    assert len(together) == 33
    for index in (0, 7, 32):
        alone = maximizer.maximize(wide_cnn, [f"conv2:{index}"], SHAPE)
        assert_same(maximizer, alone, [together[index]])


def test_a_picture_has_the_same_bits_beside_units_of_other_layers(wide_cnn: nn.Module):
    # With conv1 among the layers, the batch norm behind it cannot become part of it.
    (alone,) = Maximizer(16).maximize(wide_cnn, ["fc:2"], SHAPE)
    *_, among_others = Maximizer(16).maximize(wide_cnn, ["conv1:0", "conv2:*", "fc:2"], SHAPE)
    assert torch.equal(alone.parameters, among_others.parameters)
    assert torch.equal(alone.history, among_others.history)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_pictures_do_not_depend_on_the_batch_size(wide_cnn: nn.Module, batch_size: int):
    units = ["fc:*", "conv2:30-32", "-conv2:1", "conv2", "conv2:0@3,4"]
    expected = Maximizer(16).maximize(wide_cnn, units, SHAPE)
    features = Maximizer(16, batch_size=batch_size).maximize(wide_cnn, units, SHAPE)
    assert_same(Maximizer(), features, expected)


def test_pictures_do_not_depend_on_the_kinds_of_units_in_their_batch(wide_cnn: nn.Module):
    maximizer = Maximizer(16)
    fc = [UnitActivation(Unit("fc", index)) for index in range(4)]
    objectives: list[Objective] = [Target(fc[0], 2), fc[1] - 3 * fc[2], LayerEnergy(LayerCall("fc")), fc[3]]
    together = maximizer.maximize(wide_cnn, [*objectives], SHAPE)
    alone = [maximizer.maximize(wide_cnn, [objective], SHAPE)[0] for objective in objectives]
    assert_same(maximizer, together, alone)


def test_repeats_and_seeds_give_other_pictures_but_the_first_repeat_stays(wide_cnn: nn.Module):
    maximizer = Maximizer(16, repeats=3)
    repeats = maximizer.maximize(wide_cnn, ["fc:0"], SHAPE)
    other_seed = Maximizer(16, seed=1).maximize(wide_cnn, ["fc:0"], SHAPE)
    pictures = pictures_of(maximizer, repeats + other_seed)
    for i in range(4):
        for j in range(i):
            assert (pictures[i] - pictures[j]).abs().max() > 0.01
    assert_same(maximizer, [repeats[0]], Maximizer(16).maximize(wide_cnn, ["fc:0"], SHAPE))


def partly_frozen(network: nn.Module) -> None:
    network.train()
    network.bn.eval()
    network.conv1.weight.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)


UNITS = ["fc:0", "conv1:0-1", "conv2:0@1,1", "bn:2"]


@pytest.mark.parametrize("prepare", [nn.Module.train, nn.Module.eval, partly_frozen])
def test_the_network_and_the_random_numbers_are_left_as_they_were(
    wide_cnn: nn.Module, untouched: Untouched, prepare: Callable[..., None]
):
    prepare(wide_cnn)
    with untouched(wide_cnn):
        Maximizer(3).maximize(wide_cnn, UNITS, SHAPE)


def test_they_are_as_they_were_between_the_features_of_a_stream_that_is_given_up(
    wide_cnn: nn.Module, untouched: Untouched
):
    partly_frozen(wide_cnn)
    with untouched(wide_cnn):
        with untouched(wide_cnn):
            stream = Maximizer(3).stream(wide_cnn, UNITS, SHAPE)
            next(stream)
        stream.close()


def test_they_are_as_they_were_after_an_exception(wide_cnn: nn.Module, untouched: Untouched):
    partly_frozen(wide_cnn)

    def interrupt(_: int) -> None:
        torch.rand(3), random.random()
        raise KeyboardInterrupt

    with untouched(wide_cnn), pytest.raises(KeyboardInterrupt):
        Maximizer(3).maximize(wide_cnn, UNITS, SHAPE, on_step=interrupt)
    with untouched(wide_cnn), pytest.raises(InputError, match="cannot take a picture of shape"):
        Maximizer(3).maximize(wide_cnn, UNITS, (2, 12, 12))


def test_training_goes_on_bit_for_bit_as_without_pictures():
    """Weights, batch statistics and dropout, with gradients that are accumulated while pictures are made."""

    def train(makes_pictures: bool) -> dict[str, Tensor]:
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(400, 3)
        )
        optimizer = optim.Adam(network.parameters())
        for step in range(6):
            (network(torch.rand(8, 1, 12, 12)).square().mean() / 2).backward()
            if makes_pictures:
                Maximizer(2).maximize(network, ["0:0", "5:1"], SHAPE)
            if step % 2:
                optimizer.step()
                optimizer.zero_grad()
        return {**network.state_dict(), "draw": torch.rand(3)}

    plain, visualized = train(makes_pictures=False), train(makes_pictures=True)
    assert all(torch.equal(plain[name], visualized[name]) for name in plain)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_pictures_are_the_same_where_gradients_are_off(
    wide_cnn: nn.Module, untouched: Untouched, mode: Callable[[], Any]
):
    expected = Maximizer(3).maximize(wide_cnn, ["fc:0", "conv1:1"], SHAPE)
    with mode():
        with untouched(wide_cnn):
            features = Maximizer(3).maximize(wide_cnn, ["fc:0", "conv1:1"], SHAPE)
        again = Maximizer(3).maximize(
            wide_cnn, ["fc:0"], SHAPE, warm_starts={("fc:0", 0): features[0].parameters.clone()}, steps=1
        )
    for feature, one in zip(features, expected, strict=True):
        assert torch.equal(feature.image, one.image)
        assert not feature.image.is_inference()
    assert again[0].status == "ok"


def test_pictures_in_colour_stand_alone_as_well():
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3))
    maximizer = Maximizer(16, image=FourierImage())
    together = maximizer.maximize(network, ["2:*"], (3, 9, 14))
    alone = [maximizer.maximize(network, [f"2:{index}"], (3, 9, 14))[0] for index in range(4)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.parameters, other.parameters, atol=1e-4, rtol=1e-3)
        assert one.image.shape == (3, 9, 14)
