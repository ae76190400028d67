"""What a maximizer takes and gives."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    L2,
    Feature,
    FourierImage,
    LayerCall,
    Maximizer,
    Objective,
    PixelImage,
    RandomAffine,
    RawInput,
    Scale,
    TotalVariation,
    Unit,
    UnitActivation,
)

SHAPE = (1, 8, 8)


def test_a_feature_for_each_unit_and_repeat_in_the_order_given(cnn: nn.Module):
    features = Maximizer(2, repeats=2).maximize(cnn, ["fc:1", "conv:3@0,5", "-fc:0", Unit("conv")], SHAPE)
    assert [(feature.name, feature.repeat) for feature in features] == [
        (name, repeat) for name in ["fc:1", "conv:3@0,5", "-fc:0", "conv"] for repeat in (0, 1)
    ]
    for feature in features:
        assert feature.image.shape == SHAPE
        assert 0 <= feature.image.min() <= feature.image.max() <= 1
        assert torch.equal(feature.image, (feature.image * 255).round() / 255)
        assert feature.history.shape == (2,)
        assert (feature.steps, feature.seed, feature.status) == (2, 0, "ok")
        assert not feature.image.requires_grad
        assert not feature.parameters.requires_grad


def test_objectives_keep_their_place_among_texts(cnn: nn.Module):
    units = [
        UnitActivation(Unit("fc", 1)),
        "fc:0",
        UnitActivation(Unit("conv", 1)) - UnitActivation(Unit("fc", 2)),
        "conv:0",
    ]
    features = Maximizer(1).maximize(cnn, units, SHAPE)
    assert [feature.name for feature in features] == ["fc:1", "fc:0", "conv:1 - fc:2", "conv:0"]


def test_one_unit_need_not_be_in_a_list(cnn: nn.Module):
    for unit in ("fc:1", Unit("fc", 1), UnitActivation(Unit("fc", 1))):
        (feature,) = Maximizer(1).maximize(cnn, unit, SHAPE)
        assert feature.name == "fc:1"


def test_a_stream_hands_out_each_batch_when_it_is_done_with_the_place_of_each_feature(cnn: nn.Module):
    made: list[int] = []
    stream = Maximizer(1, batch_size=2).stream(cnn, ["fc:0", "conv:0", "fc:1-3"], SHAPE, on_step=made.append)
    place, feature = next(stream)
    assert (place, feature.name, made) == (0, "fc:0", [2])
    rest = [(place, feature.name) for place, feature in stream]
    assert sorted([(0, "fc:0"), *rest]) == [(0, "fc:0"), (1, "conv:0"), (2, "fc:1"), (3, "fc:2"), (4, "fc:3")]


@pytest.mark.parametrize("text", ["fc:1", "-fc:1", "conv:2", "conv:2@0,5", "conv", "-conv"])
def test_scores_go_up_and_are_those_of_the_picture(cnn: nn.Module, text: str):
    (feature,) = Maximizer(40).maximize(cnn, [text], SHAPE)
    unit = Unit.parse(text)
    with torch.no_grad():
        maps = cnn.conv(feature.image[None])[0] if unit.layer == "conv" else cnn(feature.image[None])[0]
        activation = maps.square().mean() if unit.index is None else maps[(unit.index, *unit.position)].mean()
    assert feature.score == pytest.approx(-activation.item() if unit.minimize else activation.item(), abs=1e-5)
    assert feature.score > feature.history[0]
    assert feature.best_step > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_score_is_had_again_from_the_picture_as_saved(tmp_path: Path, channels: int):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 8 * 7, 4))
    features = Maximizer(30, penalties=[TotalVariation(0.01)]).maximize(network, ["3:*", "-0:*"], (channels, 10, 9))
    for feature in features:
        pixels = (feature.image * 255).to(torch.uint8)
        PILImage.fromarray(pixels[0].numpy() if channels == 1 else pixels.permute(1, 2, 0).numpy()).save(
            tmp_path / "x.png"
        )
        read = torch.from_numpy(np.array(PILImage.open(tmp_path / "x.png"))).reshape(10, 9, channels) / 255
        with torch.no_grad():
            picture = read.permute(2, 0, 1)[None]
            logits = network(picture)[0] if feature.unit.layer == "3" else -network[0](picture)[0].mean((1, 2))
        assert feature.score == pytest.approx(logits[feature.unit.index].item(), abs=1e-5)


def test_penalties_are_subtracted_while_the_score_stays_clean(cnn: nn.Module):
    free, smooth = (
        Maximizer(60, penalties=penalties).maximize(cnn, ["fc:0"], SHAPE)[0]
        for penalties in ([], [TotalVariation(1.0), L2(0.01)])
    )
    assert TotalVariation()(smooth.image[None]) < TotalVariation()(free.image[None]) / 2
    with torch.no_grad():
        assert smooth.score == pytest.approx(cnn(smooth.image[None])[0, 0].item(), abs=1e-5)


def test_pictures_of_networks_with_batch_norm_and_dropout_are_those_of_evaluation(wide_cnn: nn.Module):
    wide_cnn.train()
    (feature,) = Maximizer(5).maximize(wide_cnn, ["fc:0"], (1, 12, 12))
    with torch.no_grad():
        assert feature.score == pytest.approx(wide_cnn.eval()(feature.image[None])[0, 0].item(), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("image", [FourierImage(), PixelImage(), RawInput()])
def test_networks_of_other_precisions(cnn: nn.Module, dtype: torch.dtype, image: Any):
    (expected,) = Maximizer(5, image=image).maximize(cnn, ["fc:0"], SHAPE)
    (feature,) = Maximizer(5, image=image).maximize(cnn.to(dtype), ["fc:0"], SHAPE)
    assert feature.status == "ok"
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    assert feature.image.dtype == feature.parameters.dtype == precision
    assert feature.score == pytest.approx(expected.score, abs=0.05)


def test_settings_are_plain_and_tell_maximizers_apart():
    base = Maximizer().settings
    assert json.loads(json.dumps(base))["image"]["class"] == "FourierImage"
    others = [
        Maximizer(steps=7),
        Maximizer(image=PixelImage()),
        Maximizer(image=FourierImage(decay=1.5)),
        Maximizer(optimizer=partial(optim.Adam, lr=0.1)),
        Maximizer(optimizer=partial(optim.SGD, lr=0.05)),
        Maximizer(transforms=[]),
        Maximizer(transforms=[RandomAffine(degrees=5)]),
        Maximizer(penalties=[L2(0.1)]),
        Maximizer(patience=5),
        Maximizer(patience=5, min_delta=0.1),
        Maximizer(pooling="rms"),
        Maximizer(seed=1),
    ]
    texts = [json.dumps(settings) for settings in [base, *(other.settings for other in others)]]
    assert len(set(texts)) == len(texts)
    assert Maximizer(batch_size=3).settings == base


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"Maximizer\(steps=0\): must be at least 1"),
        ({"steps": -5}, r"steps=-5"),
        ({"repeats": 0}, "repeats=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"patience": 0}, "patience=0"),
        ({"min_delta": -0.1}, "min_delta=-0.1"),
        ({"min_delta": math.nan}, "min_delta=nan"),
        ({"pooling": "max"}, "valid are 'mean' and 'rms'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(**settings)


def test_a_view_whose_warmup_is_no_part_of_the_run_is_refused():
    view = RandomAffine()
    view.warmup = 16
    with pytest.raises(InputError, match=r"RandomAffine.warmup=16: a part of the run"):
        Maximizer(transforms=[view])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 11, "patience": 8}, "of 11 steps 8 count behind the warm-up of the views"),
        ({"steps": 9, "patience": 9, "transforms": []}, "patience=9 stops no picture: of 9 steps 9 count;"),
        ({"steps": 16, "patience": 8, "scales": [Scale(6, 10), Scale(8, 22)]}, "of 11 steps 8 count behind"),
    ],
)
def test_a_patience_that_stops_nothing_warns(cnn: nn.Module, settings: dict[str, Any], message: str):
    with pytest.warns(UserWarning, match=message):
        Maximizer(**settings).maximize(cnn, ["conv:0"], SHAPE)
    Maximizer(**settings | {"patience": settings["patience"] - 1}).maximize(cnn, ["conv:0"], SHAPE)
    Maximizer(**settings).maximize(cnn, ["conv:0"], SHAPE, steps=4)


@pytest.mark.parametrize("settings", [{}, {"transforms": []}, {"batch_size": 1}], ids=str)
def test_a_network_may_write_into_its_pictures(cnn: nn.Module, settings: dict[str, Any]):
    class Centred(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.cnn, self.in_place = cnn, in_place

        def forward(self, pictures: Tensor) -> Tensor:
            return self.cnn(pictures.sub_(0.5) if self.in_place else pictures - 0.5)

    maximizer = Maximizer(8, penalties=[L2(0.1)], **settings)
    (feature,), (expected,) = (maximizer.maximize(Centred(way), "cnn.fc:1", SHAPE) for way in (True, False))
    assert feature.score == expected.score
    assert torch.equal(feature.image, expected.image)


@pytest.mark.parametrize("steps", [0, -1])
def test_the_steps_of_a_single_call_are_checked_too(cnn: nn.Module, steps: int):
    with pytest.raises(InputError, match=f"steps={steps}"):
        Maximizer(2).maximize(cnn, ["fc:0"], SHAPE, steps=steps)


@pytest.mark.parametrize(
    ("units", "shape", "message"),
    [
        ([], SHAPE, "no units"),
        (["cnv:0"], SHAPE, "Did you mean 'conv'"),
        (["fc:5"], SHAPE, "0 to 4"),
        (["fc:0", ""], SHAPE, "malformed"),
        (["fc:0"], (1, 9, 9), "cannot take a picture of shape"),
        ([UnitActivation(Unit("cnv", 0))], SHAPE, "Did you mean 'conv'"),
        ([UnitActivation(Unit("fc", 5))], SHAPE, "0 to 4"),
        ([UnitActivation(Unit("fc", 0)) + UnitActivation(Unit("conv", 0, (6, 0)))], SHAPE, "no position @6,0"),
        ([UnitActivation(Unit("fc", 0))], (1, 9, 9), "cannot take a picture of shape"),
    ],
)
def test_units_and_pictures_that_do_not_fit_the_network(cnn: nn.Module, units: Any, shape: Any, message: str):
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(cnn, units, shape)


@pytest.mark.parametrize("shape", [(8, 8), (64,), (1, 1, 8, 8)])
def test_pictures_have_channels_rows_and_columns(shape: tuple[int, ...]):
    """The network would take any of them; neither the parametrisation nor the views can make them."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    for image in (FourierImage(), PixelImage()):
        with pytest.raises(InputError):
            Maximizer(1, image=image).maximize(network, ["1:0"], shape)


@pytest.mark.parametrize("optimizer", [optim.LBFGS, partial(optim.SparseAdam, lr=0.1)])
def test_optimisers_that_need_more_than_gradients_are_refused(cnn: nn.Module, optimizer: Any):
    with pytest.raises(InputError, match="optimizer"):
        Maximizer(1, optimizer=optimizer).maximize(cnn, ["fc:0"], SHAPE)


def starts_of(features: list[Feature]) -> dict[tuple[str, int], Tensor]:
    return {(feature.name, feature.repeat): feature.parameters for feature in features}


def test_a_warm_start_goes_on_where_the_last_pictures_ended(cnn: nn.Module):
    """Of an optimiser without a state, 6 and 10 steps are the same as 16."""
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


def test_the_parameters_that_a_warm_start_is_given_are_left_alone(cnn: nn.Module):
    starts = starts_of(Maximizer(3).maximize(cnn, ["fc:0"], SHAPE))
    before = {key: value.clone() for key, value in starts.items()}
    Maximizer(3).maximize(cnn, ["fc:0"], SHAPE, warm_starts=starts)
    assert all(torch.equal(value, before[key]) for key, value in starts.items())


def test_a_warm_start_of_another_size_is_refused(cnn: nn.Module):
    starts = starts_of(Maximizer(1, image=PixelImage()).maximize(cnn, ["fc:0"], SHAPE))
    with pytest.raises(
        InputError, match=r"picture of fc:0: .*\(1, 8, 8\), FourierImage of \(1, 8, 8\) has \(1, 8, 5, 2\)"
    ):
        Maximizer(1).maximize(cnn, ["fc:0"], SHAPE, warm_starts=starts)


class Brightness(Objective):
    """An objective of a user's own, which has no text form."""

    @property
    def layers(self) -> frozenset[LayerCall]:
        return frozenset({LayerCall("conv")})

    def __call__(self, activations: Any) -> Tensor:
        return activations[LayerCall("conv")].values.flatten(1).mean(1)


def test_an_objective_of_the_users_own_gives_the_same_picture_again(cnn: nn.Module):
    first, again = (Maximizer(2).maximize(cnn, [Brightness()], SHAPE)[0] for _ in range(2))
    assert torch.equal(first.parameters, again.parameters)


@dataclass
class Settable(Brightness):
    """As `dataclass` makes it, it cannot be hashed."""

    weight: float = 1.0

    def __call__(self, activations: Any) -> Tensor:
        return self.weight * super().__call__(activations)


def test_objectives_of_the_users_own_need_no_hash_and_are_told_apart(cnn: nn.Module):
    """By their names warm starts are handed out, and files are called."""
    features = Maximizer(2).maximize(cnn, [Settable(1.0), Settable(-1.0)], SHAPE)
    assert len({feature.name for feature in features}) == 2


def test_inputs_that_are_no_pictures_have_no_views():
    network = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(InputError, match="transforms"):
        Maximizer(1, image=RawInput()).maximize(network, ["0:0"], (2,))
    (feature,) = Maximizer(1, image=RawInput(), transforms=[]).maximize(network, ["0:0"], (2,))
    assert feature.image.shape == (2,)
