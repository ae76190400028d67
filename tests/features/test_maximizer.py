"""What a maximizer takes and gives."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn, optim

from fvlightning.errors import InputError
from fvlightning.features import (
    L2,
    FourierImage,
    LayerCall,
    Maximizer,
    Objective,
    PixelImage,
    RawInput,
    Scale,
    TotalVariation,
    Unit,
    UnitActivation,
)

SHAPE = (1, 8, 8)


def test_there_is_a_feature_for_each_unit_and_repeat_in_the_order_given(cnn: nn.Module):
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


def test_a_single_unit_needs_no_list(cnn: nn.Module):
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


def test_without_patience_the_batches_of_a_layer_follow_one_another(cnn: nn.Module):
    places = [place for place, _ in Maximizer(2, batch_size=2).stream(cnn, "conv:0-3", SHAPE)]
    assert places == [0, 1, 2, 3]


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
def test_networks_of_other_precisions_give_close_scores(cnn: nn.Module, dtype: torch.dtype, image: Any):
    (expected,) = Maximizer(5, image=image).maximize(cnn, ["fc:0"], SHAPE)
    (feature,) = Maximizer(5, image=image).maximize(cnn.to(dtype), ["fc:0"], SHAPE)
    assert feature.status == "ok"
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    assert feature.image.dtype == feature.parameters.dtype == precision
    assert feature.score == pytest.approx(expected.score, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"steps": 11, "patience": 7},
            r"^Maximizer\(patience=7\): stops no picture: of 11 steps, 7 count after the warm-up of the transforms; "
            r"give less, or more steps$",
        ),
        (
            {"steps": 9, "patience": 9, "transforms": []},
            r"^Maximizer\(patience=9\): stops no picture: of 9 steps, 9 count; give less, or more steps$",
        ),
        ({"steps": 16, "patience": 7, "scales": [Scale(6, 10), Scale(8, 22)]}, "of 11 steps, 7 count after"),
    ],
    ids=["transforms grow", "plain", "scales"],
)
def test_a_patience_that_stops_no_picture_warns(cnn: nn.Module, settings: dict[str, Any], message: str):
    with pytest.warns(UserWarning, match=message) as warned:
        Maximizer(**settings).maximize(cnn, ["conv:0"], SHAPE)
    assert len(warned) == 1
    # A warning would be an error here.
    Maximizer(**settings | {"patience": settings["patience"] - 1}).maximize(cnn, ["conv:0"], SHAPE)
    Maximizer(**settings).maximize(cnn, ["conv:0"], SHAPE, steps=4)


@pytest.mark.parametrize("steps", [0, -1])
def test_the_steps_of_a_single_call_are_checked(cnn: nn.Module, steps: int):
    with pytest.raises(InputError, match=rf"^Maximizer\.stream\(steps={steps}\): must be at least 1$"):
        Maximizer(2).maximize(cnn, ["fc:0"], SHAPE, steps=steps)


@pytest.mark.parametrize(
    ("units", "shape", "message"),
    [
        ([], SHAPE, "no units are given"),
        (["cnv:0"], SHAPE, r"no layer 'cnv' in Sequential; .* Did you mean 'conv'"),
        (["fc:5"], SHAPE, "fc.*0 to 4"),
        (["fc:0", ""], SHAPE, "malformed unit ''"),
        (["fc:0"], (1, 9, 9), r"Sequential cannot take a picture of shape \(1, 9, 9\)"),
        (5, SHAPE, "^units=5: must be texts, such as 'conv2:0-15', units or objectives$"),
        (["fc:0"], 8, r"^image_shape=8: must be whole numbers, \(C, H, W\)$"),
        (["fc:0"], ("1", "8", "8"), r"^image_shape=\('1', '8', '8'\): must be whole numbers"),
        ([UnitActivation(Unit("cnv", 0))], SHAPE, r"no layer 'cnv' in Sequential; .* Did you mean 'conv'"),
        ([UnitActivation(Unit("fc", 5))], SHAPE, "fc.*0 to 4"),
        ([UnitActivation(Unit("fc", 0)) + UnitActivation(Unit("conv", 0, (6, 0)))], SHAPE, "no position @6,0"),
        ([UnitActivation(Unit("fc", 0))], (1, 9, 9), r"Sequential cannot take a picture of shape \(1, 9, 9\)"),
    ],
)
def test_units_and_pictures_that_do_not_fit_the_network_are_refused(
    cnn: nn.Module, units: Any, shape: Any, message: str
):
    with pytest.raises(InputError, match=message):
        Maximizer(1).maximize(cnn, units, shape)


def test_what_is_no_module_is_refused():
    with pytest.raises(InputError, match=r"^the network must be a torch\.nn\.Module, not 'x'$"):
        Maximizer(1).maximize("x", ["fc:0"], SHAPE)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", [optim.LBFGS, partial(optim.SparseAdam, lr=0.1)])
def test_optimizers_that_need_more_than_gradients_are_refused(cnn: nn.Module, optimizer: Any):
    with pytest.raises(InputError, match=r"^Maximizer\(optimizer=\.\.\.\): cannot optimise pictures by their"):
        Maximizer(1, optimizer=optimizer).maximize(cnn, ["fc:0"], SHAPE)


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


def test_objectives_of_the_users_own_need_no_hash_and_have_different_names(cnn: nn.Module):
    """These names distinguish warm starts and files."""
    features = Maximizer(2).maximize(cnn, [Settable(1.0), Settable(-1.0)], SHAPE)
    assert len({feature.name for feature in features}) == 2


def test_a_maximizer_is_configured_in_yaml(cnn: nn.Module):
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
    assert [transform["class"] for transform in feature.settings["transforms"]] == [
        "RandomResizedCrop",
        "GaussianNoise",
        "Blur",
    ]
