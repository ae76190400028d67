"""The best picture so far, early stopping, and units that fail, each picture by itself."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn, optim

from fvlightning.features import (
    L1,
    Feature,
    GaussianNoise,
    Maximizer,
    PixelImage,
    RandomAffine,
    RawInput,
    TotalVariation,
)

SHAPE = (1, 8, 8)


class Units(nn.Module):
    """Functions of a picture's mean brightness, each a unit: pictures (B, C, H, W) -> (B, n)."""

    def __init__(self, *functions: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, pictures: Tensor) -> Tensor:
        brightness = pictures.flatten(1).mean(1)
        return torch.stack([function(brightness) for function in self.functions], dim=1)


def network_of(*functions: Callable[[Tensor], Tensor]) -> nn.Module:
    """Its layer '0' is the units."""
    return nn.Sequential(Units(*functions))


def rising(brightness: Tensor) -> Tensor:
    return brightness


def capped(brightness: Tensor) -> Tensor:
    return brightness.clamp(max=0.55)


def silent(brightness: Tensor) -> Tensor:
    return torch.zeros_like(brightness)


def pixels(steps: int, **settings: object) -> Maximizer:
    """Of a linear unit the brightness rises by about 0.0125 in each of the first steps."""
    return Maximizer(steps, image=PixelImage(), **settings)


VIEWS = {"no views": [], "views": [RandomAffine()]}


def of(features: list[Feature], index: int) -> Feature:
    (feature,) = (feature for feature in features if feature.unit.index == index)
    return feature


@pytest.mark.parametrize("views", VIEWS)
def test_a_picture_that_stops_leaves_the_batch_and_the_other_goes_on_as_it_does_alone(views: str):
    network = network_of(rising, capped, rising)
    maximizer = pixels(60, patience=5, transforms=VIEWS[views])
    together = maximizer.maximize(network, ["0:*"], SHAPE)
    assert [feature.steps for feature in together][::2] == [60, 60]
    assert together[1].steps < 30
    for feature in together:
        (alone,) = maximizer.maximize(network, [feature.name], SHAPE)
        torch.testing.assert_close(feature.parameters, alone.parameters, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(feature.history, alone.history)
        assert (feature.steps, feature.best_step) == (alone.steps, alone.best_step)
        assert feature.history.isfinite().all()


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("patience", [1, 2, 5, 9])
def test_a_picture_that_stopped_early_is_the_best_that_it_was(views: str, patience: int):
    """Also where it stopped between two looks at the clean picture: not the noise that it started from."""
    maximizer = pixels(60, patience=patience, transforms=VIEWS[views])
    (feature,) = maximizer.maximize(network_of(capped), ["0:0"], SHAPE)
    assert patience < feature.steps < 30
    assert 0 < feature.best_step <= feature.steps
    if patience > 2:
        assert feature.score == pytest.approx(0.55, abs=0.01)
    else:
        assert feature.score > feature.history[0]


def test_patience_begins_behind_the_warmup_of_the_views():
    """Of 61 steps those from 30 on count; the last one before them is what they have to improve on."""
    views = [RandomAffine(), GaussianNoise(0.0, warmup=0.5)]
    (feature,) = pixels(61, patience=3, transforms=views).maximize(network_of(capped), ["0:0"], SHAPE)
    assert feature.steps == 33


@pytest.mark.parametrize("views", VIEWS)
def test_min_delta_is_what_counts_as_an_improvement(views: str):
    kept_on, stopped = (
        pixels(40, patience=4, min_delta=min_delta, transforms=VIEWS[views]).maximize(
            network_of(rising), ["0:0"], SHAPE
        )[0]
        for min_delta in (0.0, 0.2)
    )
    assert kept_on.steps == 40
    assert stopped.steps == 5, "the first score is an improvement on nothing"


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("settings", [{}, {"patience": 5}, {"patience": 1}, {"patience": 5, "batch_size": 2}])
@pytest.mark.parametrize("functions", [[rising, capped, rising], [capped, capped], [rising]])
def test_progress_adds_up_to_pictures_times_steps(views: str, settings: dict[str, int], functions: list):
    made: list[int] = []
    maximizer = pixels(50, transforms=VIEWS[views], repeats=2, **settings)
    maximizer.maximize(network_of(*functions), ["0:*"], SHAPE, on_step=made.append)
    assert sum(made) == 50 * 2 * len(functions)
    assert min(made) > 0


def test_pictures_that_stopped_cost_nothing_more():
    """All have stopped after some 10 steps: 1,000 would be seen."""
    calls = 0

    class Counts(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return pictures

    network = nn.Sequential(Counts(), Units(capped))
    pixels(1000, patience=3, transforms=[RandomAffine()]).maximize(network, ["1:0"], SHAPE)
    assert calls < 60


def test_without_views_the_best_step_is_kept_where_the_optimiser_overshoots():
    maximizer = Maximizer(30, image=RawInput(), transforms=[], optimizer=partial(optim.SGD, lr=0.02, momentum=0.95))
    network = network_of(lambda brightness: -((brightness - 0.4) ** 2) * 100)
    (feature,) = maximizer.maximize(network, ["0:0"], SHAPE)
    assert 0 < feature.best_step < 30
    assert feature.score == pytest.approx(feature.history.max().item(), abs=1e-5)
    assert feature.history[feature.best_step] == feature.history.max()
    assert feature.score > feature.history[-1]


def test_with_views_the_clean_score_only_gets_better_with_the_steps():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    wild = partial(Maximizer, image=RawInput(), optimizer=partial(optim.Adam, lr=3.0), transforms=[RandomAffine(0.3)])
    scores = [wild(steps).maximize(network, ["2:0"], SHAPE)[0].score for steps in (16, 32, 48, 64)]
    assert scores == sorted(scores)


def test_the_best_is_judged_with_the_penalties():
    """Brightness gains 1, and costs 3: the best picture is the darkest."""
    maximizer = pixels(40, transforms=[], penalties=[L1(3 / 64)])
    (feature,) = maximizer.maximize(network_of(rising), ["0:0"], SHAPE)
    assert feature.best_step == 40
    assert feature.score < 0.3


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("penalties", [[], [TotalVariation(0.1)]])
def test_a_dead_unit_is_reported_as_dead_and_the_others_are_not(views: str, penalties: list):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([2.0, -100.0, 2.0]))
    features = Maximizer(20, transforms=VIEWS[views], penalties=penalties).maximize(network, ["1:*"], SHAPE)
    assert [feature.status for feature in features] == ["ok", "dead", "ok"]
    assert features[1].score == 0


def test_a_dead_unit_is_dead_after_a_single_step_too():
    (feature,) = Maximizer(1).maximize(network_of(silent, rising), ["0:0"], SHAPE)
    assert feature.status == "dead"


class Detached(nn.Module):
    """Through it no gradient comes: a decision, a table that does not depend on the picture."""

    def forward(self, pictures: Tensor) -> Tensor:
        return (pictures.flatten(1) > 0.5).float()


def test_a_unit_to_which_no_gradient_leads_is_dead_and_the_others_go_on():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), Detached())
    features = Maximizer(3).maximize(network, ["0:0", "1:3", "0:1"], SHAPE)
    assert [feature.status for feature in features] == ["ok", "dead", "ok"]


def until(limit: float, then: float) -> Callable[[Tensor], Tensor]:
    return lambda brightness: torch.where(brightness > limit, then, brightness)


BREAKS = {"nan": until(0.55, torch.nan), "infinite": until(0.55, torch.inf), "minus infinite": until(0.55, -torch.inf)}


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("kind", BREAKS)
def test_a_unit_that_is_not_finite_is_reported_with_its_picture_from_before_that(views: str, kind: str):
    network = network_of(rising, BREAKS[kind], capped)
    maximizer = pixels(40, transforms=VIEWS[views])
    features = maximizer.maximize(network, ["0:*"], SHAPE)
    assert [feature.status for feature in features] == ["ok", "non-finite", "ok"]
    broken = features[1]
    assert broken.steps < 20
    assert broken.image.isfinite().all()
    assert broken.parameters.isfinite().all()
    assert torch.tensor(broken.score).isfinite()
    assert broken.image.mean() < 0.56
    for index in (0, 2):
        (alone,) = maximizer.maximize(network, [f"0:{index}"], SHAPE)
        torch.testing.assert_close(features[index].parameters, alone.parameters, atol=1e-5, rtol=1e-5)


def test_a_unit_that_is_never_finite_is_reported_with_its_start():
    network = network_of(until(-1, torch.nan), rising)
    features = pixels(20).maximize(network, ["0:*"], SHAPE)
    assert [feature.status for feature in features] == ["non-finite", "ok"]
    assert (features[0].steps, features[0].best_step) == (1, 0)
    assert features[0].image.mean() == pytest.approx(0.5, abs=0.01)


def gradient_breaks(brightness: Tensor) -> Tensor:
    """A finite score whose gradient is not a number from 0.55 on."""
    return brightness + ((0.55 - brightness) * (brightness < 0.55)).sqrt() * 0


@pytest.mark.parametrize("views", VIEWS)
def test_a_gradient_that_is_not_finite_is_reported_too(views: str):
    (feature,) = pixels(40, transforms=VIEWS[views]).maximize(network_of(gradient_breaks), ["0:0"], SHAPE)
    assert feature.status == "non-finite"
    assert feature.history.isfinite().all()
    assert feature.image.isfinite().all()
    assert feature.parameters.isfinite().all()
    assert feature.score == pytest.approx(feature.image.mean().item(), abs=1e-5)
