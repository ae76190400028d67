"""Pictures of classes by their log-odds: the logit minus the log-sum-exp of the other logits."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import GaussianNoise, Maximizer, Objective, PixelImage, RandomAffine, Scale, objective_of
from fvlightning.features.capture import Activations
from fvlightning.features.units import LayerCall

SHAPE = (1, 12, 12)
SETTINGS: dict[str, Any] = {"image": PixelImage(), "transforms": [RandomAffine(), GaussianNoise(0.05)]}


@dataclass(frozen=True)
class NaiveLogOdds(Objective):
    """The logit of a class minus a share of the log-sum-exp of the others, one picture after the other."""

    index: int
    share: float

    @property
    def layers(self) -> frozenset[LayerCall]:
        return frozenset({LayerCall("fc")})

    def __call__(self, activations: Activations) -> Tensor:
        scores = []
        for logits in activations[LayerCall("fc")].values:
            others = [logits[place] for place in range(len(logits)) if place != self.index]
            scores.append(logits[self.index] - self.share * torch.stack(others).exp().sum().log())
        return torch.stack(scores)

    def __str__(self) -> str:
        return f"fc:{self.index}"  # the text seeds the picture


@pytest.mark.parametrize("transforms_per_step", [1, 3])
@pytest.mark.parametrize("scales", [(), (Scale(12, 6), Scale(12, 6))])
def test_pictures_maximise_the_logit_minus_a_share_of_the_others(
    wide_cnn: nn.Module, transforms_per_step: int, scales: tuple[Scale, ...]
):
    settings = SETTINGS | {"transforms_per_step": transforms_per_step, "scales": scales}
    features = Maximizer(12, **settings, log_odds=0.4).maximize(wide_cnn, "fc:*", SHAPE)
    naive = Maximizer(12, **settings).maximize(wide_cnn, [NaiveLogOdds(index, 0.4) for index in range(5)], SHAPE)
    plain = Maximizer(12, **settings).maximize(wide_cnn, "fc:*", SHAPE)
    for feature, expected, logit in zip(features, naive, plain, strict=True):
        torch.testing.assert_close(feature.parameters, expected.parameters, atol=1e-4, rtol=0)
        assert (feature.parameters - logit.parameters).abs().max() > 1e-2


def test_scores_are_logits(wide_cnn: nn.Module):
    (feature,) = Maximizer(12, **SETTINGS, log_odds=1.0).maximize(wide_cnn, "fc:2", SHAPE)
    with torch.no_grad():
        logits = wide_cnn.eval()(feature.image[None])[0]
    assert feature.score == pytest.approx(logits[2].item(), abs=1e-5)


def test_log_odds_improve_the_odds_of_every_class(wide_cnn: nn.Module):
    settings: dict[str, Any] = {"image": PixelImage(), "transforms": []}
    with torch.no_grad():
        wide_cnn.fc.weight *= 20  # so that one class can be certain

    def odds(share: float) -> Tensor:
        features = Maximizer(64, **settings, log_odds=share).maximize(wide_cnn, "fc:*", SHAPE)
        with torch.no_grad():
            logits = wide_cnn.eval()(torch.stack([feature.image for feature in features]))
        return logits.log_softmax(1).diagonal()

    assert (odds(1.0) > odds(0.0)).all()


def test_units_that_are_no_classes_are_the_same_with_log_odds(wide_cnn: nn.Module):
    units = ["conv1:2", "conv2:1@3,4", "-fc:1", objective_of("fc:2 - 0.5*fc:3"), "fc", "conv1"]
    plain = Maximizer(6, **SETTINGS).maximize(wide_cnn, units, SHAPE)
    features = Maximizer(6, **SETTINGS, log_odds=0.5).maximize(wide_cnn, [*units, "fc:0"], SHAPE)
    for feature, other in zip(features, plain, strict=False):
        torch.testing.assert_close(feature.parameters, other.parameters, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [1, 3])
def test_hidden_neurons_and_single_outputs_are_the_same_with_log_odds(size: int):
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.Tanh(), nn.Linear(4, size))
    for unit, is_class in (("1:2", False), ("3:0", size > 1)):
        features = [Maximizer(6, **SETTINGS, log_odds=share).maximize(network, unit, SHAPE)[0] for share in (0.0, 0.5)]
        difference = (features[0].parameters - features[1].parameters).abs().max()
        assert bool(difference > 1e-3) == is_class


def test_pictures_of_classes_stand_alone(wide_cnn: nn.Module):
    maximizer = Maximizer(40, **SETTINGS, log_odds=0.5, patience=2, min_delta=0.05, batch_size=3)
    together = maximizer.maximize(wide_cnn, ["fc:*", "-fc:1"], SHAPE)
    for place, unit in ((0, "fc:0"), (4, "fc:4"), (5, "-fc:1")):
        (alone,) = maximizer.maximize(wide_cnn, unit, SHAPE)
        torch.testing.assert_close(alone.parameters, together[place].parameters, atol=1e-4, rtol=0)
        assert alone.steps == together[place].steps


def test_a_class_whose_logit_is_constant_is_dead(wide_cnn: nn.Module):
    with torch.no_grad():
        wide_cnn.fc.weight[1] = 0
    features = Maximizer(6, **SETTINGS, log_odds=0.5).maximize(wide_cnn, "fc:0-1", SHAPE)
    assert [feature.status for feature in features] == ["ok", "dead"]


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_shares_out_of_range_are_refused(share: float):
    with pytest.raises(InputError, match="log_odds="):
        Maximizer(log_odds=share)
    assert Maximizer(log_odds=0.5).settings != Maximizer().settings


def test_units_of_early_layers_need_no_output_of_the_network():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 2))
    maximizer = Maximizer(4, **SETTINGS, log_odds=0.5)
    (feature,) = maximizer.maximize(network, "0:1", (1, 20, 20))
    (plain,) = Maximizer(4, **SETTINGS).maximize(network, "0:1", (1, 20, 20))
    torch.testing.assert_close(feature.parameters, plain.parameters)


def test_a_non_finite_class_fails_alone(wide_cnn: nn.Module):
    plain = Maximizer(6, **SETTINGS, log_odds=0.5).maximize(wide_cnn, "fc:*", SHAPE)
    with torch.no_grad():
        wide_cnn.fc.bias[3] = torch.nan
    features = Maximizer(6, **SETTINGS, log_odds=0.5).maximize(wide_cnn, "fc:*", SHAPE)
    assert [feature.status for feature in features] == ["ok", "ok", "ok", "non-finite", "ok"]
    assert all(torch.isfinite(feature.history).all() for feature in features if feature.unit != plain[3].unit)
