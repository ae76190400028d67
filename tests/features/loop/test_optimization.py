"""The optimisation of a batch: transformed pictures, the best picture so far, and pictures that stop early."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from toy_networks import BrightnessUnits, Cramped

from fvlightning.features import (
    L1,
    L2,
    ColorJitter,
    CosineWithWarmup,
    GaussianNoise,
    Maximizer,
    PixelImage,
    RandomAffine,
    RandomResizedCrop,
    RawInput,
    Target,
    TotalVariation,
    Transform,
    ZoomingCrop,
)

SHAPE = (1, 8, 8)
WIDE_SHAPE = (1, 12, 12)
TRANSFORMS: dict[str, list[Transform]] = {"plain": [], "transformed": [RandomAffine()]}


def network_of(*functions: Callable[[Tensor], Tensor]) -> nn.Module:
    """Its layer '0' is units of a picture's brightness."""
    return nn.Sequential(BrightnessUnits(*functions))


def rising(brightness: Tensor) -> Tensor:
    return brightness


def capped(brightness: Tensor, at: float = 0.55) -> Tensor:
    return brightness.clamp(max=at)


def pixels(steps: int, **settings: Any) -> Maximizer:
    """The brightness of a picture of `rising` grows by about 0.0125 in each of the first steps."""
    if "optimizer" not in settings:
        settings["optimizer"] = partial(optim.AdamW, lr=0.1, betas=(0.8, 0.99), eps=1e-3, weight_decay=0)
        settings = {"normalize_gradients": True, "scheduler": CosineWithWarmup} | settings
    return Maximizer(steps, image=PixelImage(), **settings)


class Darken(Transform):
    """Multiplies each picture by its draw, and remembers both."""

    n_draws = 1
    derived = frozenset({"seen"})

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        self.seen.append((pictures.detach(), draws))
        return pictures * (0.5 + draws[:, :, None, None])


class Halve(Transform):
    """Gives half of the light, in place or not."""

    n_draws = 0

    def __init__(self, in_place: bool) -> None:
        self.in_place = in_place

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures.mul_(0.5) if self.in_place else pictures * 0.5


def test_a_transform_may_write_into_its_pictures(wide_cnn: nn.Module):
    in_place, expected = (
        Maximizer(3, transforms=[Halve(in_place)], penalties=[L2(0.1)]).maximize(wide_cnn, "fc:1", WIDE_SHAPE)[0]
        for in_place in (True, False)
    )
    torch.testing.assert_close(in_place.history, expected.history)


@pytest.mark.parametrize("settings", [{}, {"transforms": []}, {"batch_size": 1}], ids=str)
def test_a_network_may_write_into_its_pictures(cnn: nn.Module, settings: dict[str, Any]):
    class Centred(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.cnn, self.in_place = cnn, in_place

        def forward(self, pictures: Tensor) -> Tensor:
            return self.cnn(pictures.sub_(0.5) if self.in_place else pictures - 0.5)

    maximizer = Maximizer(8, penalties=[L2(0.1)], **settings)
    (feature,), (expected,) = (maximizer.maximize(Centred(in_place), "cnn.fc:1", SHAPE) for in_place in (True, False))
    assert feature.score == expected.score
    assert torch.equal(feature.image, expected.image)


def test_each_transformed_picture_has_its_own_draw_and_the_score_is_their_mean(wide_cnn: nn.Module):
    darken = Darken()
    (feature,) = Maximizer(3, transforms=[darken], transforms_per_step=4).maximize(wide_cnn, "fc:1", WIDE_SHAPE)
    assert len(darken.seen) == 3
    for step, (pictures, draws) in enumerate(darken.seen):
        assert pictures.shape == (4, *WIDE_SHAPE)
        assert len(draws.unique()) == 4
        with torch.no_grad():
            scores = wide_cnn.eval()(pictures * (0.5 + draws[:, :, None, None]))[:, 1]
        assert feature.history[step].item() == pytest.approx(scores.mean().item(), abs=1e-5)


@pytest.mark.parametrize("patience", [None, 2])
def test_pictures_that_are_transformed_several_times_stand_alone(wide_cnn: nn.Module, patience: int | None):
    transforms = [RandomResizedCrop((0.5, 1.0)), GaussianNoise(), ColorJitter()]
    maximizer = pixels(40, transforms=transforms, transforms_per_step=3, patience=patience, min_delta=0.05)
    objectives = ["fc:*", Target("fc:0", 1.0)]
    together = maximizer.maximize(wide_cnn, objectives, WIDE_SHAPE)
    for place in (0, 4):
        (alone,) = maximizer.maximize(wide_cnn, f"fc:{place}", WIDE_SHAPE)
        torch.testing.assert_close(alone.parameters, together[place].parameters, atol=1e-4, rtol=0)
        assert alone.steps == together[place].steps
    (alone,) = maximizer.maximize(wide_cnn, objectives[1:], WIDE_SHAPE)
    torch.testing.assert_close(alone.parameters, together[5].parameters, atol=1e-4, rtol=0)


def test_the_best_step_is_kept_where_the_optimizer_overshoots():
    maximizer = Maximizer(30, image=RawInput(), transforms=[], optimizer=partial(optim.SGD, lr=0.02, momentum=0.95))
    network = network_of(lambda brightness: -((brightness - 0.4) ** 2) * 100)
    (feature,) = maximizer.maximize(network, ["0:0"], SHAPE)
    assert 0 < feature.best_step < 30
    assert feature.score == pytest.approx(feature.history.max().item(), abs=1e-5)
    assert feature.history[feature.best_step] == feature.history.max()
    assert feature.score > feature.history[-1]


def test_with_transforms_the_clean_score_only_gets_better_with_the_steps():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    wild = partial(Maximizer, image=RawInput(), optimizer=partial(optim.Adam, lr=3.0), transforms=[RandomAffine(0.3)])
    scores = [wild(steps).maximize(network, ["2:0"], SHAPE)[0].score for steps in (16, 32, 48, 64)]
    assert scores == sorted(scores)


def test_the_best_picture_is_judged_with_the_penalties():
    """Brightness gains 1 and costs 3: the best picture is the darkest."""
    maximizer = pixels(40, transforms=[], penalties=[L1(3 / 64)])
    (feature,) = maximizer.maximize(network_of(rising), ["0:0"], SHAPE)
    assert feature.best_step == 40
    assert feature.score < 0.3


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("patience", [1, 2, 5, 9])
def test_a_picture_that_stops_early_is_its_best(kind: str, patience: int):
    """Also if it stops between two checks of the clean picture: never the noise that it started from."""
    maximizer = pixels(60, patience=patience, transforms=TRANSFORMS[kind])
    (feature,) = maximizer.maximize(network_of(capped), ["0:0"], SHAPE)
    assert patience < feature.steps < 30
    assert 0 < feature.best_step <= feature.steps
    if patience > 2:
        assert feature.score == pytest.approx(0.55, abs=0.01)
    else:
        assert feature.score > feature.history[0]


def test_patience_begins_after_the_warmup_of_the_transforms():
    """Steps 30 to 60 of 61 count; they have to improve on step 29."""
    transforms = [RandomAffine(), GaussianNoise(0.0, warmup=0.5)]
    (feature,) = pixels(61, patience=3, transforms=transforms).maximize(network_of(capped), ["0:0"], SHAPE)
    assert feature.steps == 33


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_min_delta_is_the_smallest_improvement_that_counts(kind: str):
    goes_on, stops = (
        pixels(40, patience=4, min_delta=min_delta, transforms=TRANSFORMS[kind]).maximize(
            network_of(rising), ["0:0"], SHAPE
        )[0]
        for min_delta in (0.0, 0.2)
    )
    assert goes_on.steps == 40
    assert stops.steps == 5, "the first score is an improvement on nothing"


# Units that stop rising at different brightnesses, and so at different steps.
CAPS = torch.linspace(0.51, 0.63, 8)[torch.randperm(8, generator=torch.Generator().manual_seed(3))].tolist()
BROKEN = 5
LEAVING: dict[str, dict[str, Any]] = {
    "plain": {"transforms": []},
    "transformed twice": {
        "transforms": [RandomAffine()],
        "transforms_per_step": 2,
        "penalties": [TotalVariation(1e-3)],
    },
    "transforms that change": {"transforms": [ZoomingCrop()]},
    "cosine": {"transforms": [], "scheduler": partial(CosineWithWarmup, warmup=4), "normalize_gradients": True},
    "importance and snapshots": {"transforms": [], "importance": True, "snapshots": [2, 20, 40]},
    "repeats": {"transforms": [RandomAffine()], "repeats": 2},
    "a picture that fails": {"transforms": []},
    "a transformed picture that fails": {"transforms": [RandomAffine()]},
}


def capped_units(broken: bool = False) -> nn.Module:
    """Return 8 units; the score of a broken one is not a number from its cap on."""

    def broken_unit(brightness: Tensor) -> Tensor:
        return torch.where(brightness >= CAPS[BROKEN], torch.nan, brightness)

    functions: list[Callable[[Tensor], Tensor]] = [partial(capped, at=cap) for cap in CAPS]
    if broken:
        functions[BROKEN] = broken_unit
    return network_of(*functions)


def impatient(name: str, steps: int, **settings: Any) -> Maximizer:
    optimizer = partial(optim.Adam, lr=0.02)
    return pixels(steps, **{"patience": 3, "optimizer": optimizer} | LEAVING[name] | settings)


@pytest.mark.parametrize("name", LEAVING)
def test_pictures_that_leave_the_batch_and_those_that_stay_are_what_they_are_alone(name: str):
    network = capped_units(broken="fails" in name)
    # 44 steps, of which the last 12 come after the last check for pictures that have stopped.
    together = impatient(name, 44).maximize(network, ["0:*"], SHAPE)
    alone = impatient(name, 44, batch_size=1).maximize(network, ["0:*"], SHAPE)
    assert len({feature.steps for feature in alone}) > 4, "they stop at different steps"
    failed = {feature.name for feature in together if feature.status == "non-finite"}
    assert failed == ({f"0:{BROKEN}"} if "fails" in name else set())
    for feature, expected in zip(together, alone, strict=True):
        assert (feature.name, feature.repeat, feature.status) == (expected.name, expected.repeat, expected.status)
        assert (feature.steps, feature.best_step) == (expected.steps, expected.best_step)
        torch.testing.assert_close(feature.parameters, expected.parameters, atol=1e-4, rtol=0)
        torch.testing.assert_close(feature.history, expected.history, atol=1e-4, rtol=1e-3, equal_nan=True)
        assert feature.score == pytest.approx(expected.score, abs=1e-3)
        assert feature.settings == expected.settings
        assert list(feature.snapshots) == list(expected.snapshots) == list(LEAVING[name].get("snapshots", []))
        for step, picture in feature.snapshots.items():
            assert (picture - expected.snapshots[step]).abs().max() < 2 / 255
        if feature.importance is not None:
            torch.testing.assert_close(feature.importance, expected.importance, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_picture_goes_on_to_the_end_when_another_leaves(kind: str):
    network = network_of(rising, capped, rising)
    maximizer = pixels(60, patience=5, transforms=TRANSFORMS[kind])
    together = maximizer.maximize(network, ["0:*"], SHAPE)
    assert [feature.steps for feature in together][::2] == [60, 60]
    assert together[1].steps < 30
    for feature in together:
        (alone,) = maximizer.maximize(network, [feature.name], SHAPE)
        torch.testing.assert_close(feature.parameters, alone.parameters, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(feature.history, alone.history)
        assert (feature.steps, feature.best_step) == (alone.steps, alone.best_step)
        assert feature.history.isfinite().all()


@pytest.mark.parametrize("name", LEAVING)
def test_progress_adds_up_to_pictures_times_steps_when_pictures_leave(name: str):
    made: list[int] = []
    network = capped_units(broken="fails" in name)
    features = impatient(name, 37, batch_size=5).maximize(network, ["0:*"], SHAPE, on_step=made.append)
    assert sum(made) == 37 * len(features)
    assert min(made) > 0


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("settings", [{}, {"patience": 5}, {"patience": 1}, {"patience": 5, "batch_size": 2}], ids=str)
@pytest.mark.parametrize("functions", [[rising, capped, rising], [capped, capped], [rising]], ids=len)
def test_progress_adds_up_to_pictures_times_steps(kind: str, settings: dict[str, Any], functions: list[Any]):
    made: list[int] = []
    maximizer = pixels(50, transforms=TRANSFORMS[kind], repeats=2, **settings)
    maximizer.maximize(network_of(*functions), ["0:*"], SHAPE, on_step=made.append)
    assert sum(made) == 50 * 2 * len(functions)
    assert min(made) > 0


def test_pictures_that_have_stopped_cost_nothing_more():
    network = Cramped(network_of(partial(capped, at=0.52), partial(capped, at=0.7), rising))
    features = pixels(48, patience=3, transforms=[]).maximize(network, "network.0:*", SHAPE)
    assert [feature.steps <= 16 for feature in features] == [True, False, False]
    assert [feature.steps <= 32 for feature in features] == [True, True, False]
    sizes = network.sizes[network.sizes.index(3) :]
    # The clean pictures are judged once more before some leave; those that leave get their scores from the network.
    assert sizes == [3] * 16 + [3, 1] + [2] * 16 + [2, 1] + [1] * 16 + [1, 1]


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_the_run_ends_when_all_have_stopped(kind: str):
    network = Cramped(network_of(capped))
    pixels(1000, patience=3, transforms=TRANSFORMS[kind]).maximize(network, ["network.0:0"], SHAPE)
    assert len(network.sizes) < 60


def test_a_picture_is_handed_out_before_those_of_its_batch_that_go_on():
    network = Cramped(network_of(capped, rising))
    stream = pixels(100, patience=3, transforms=[]).stream(network, "network.0:*", SHAPE)
    place, feature = next(stream)
    assert (place, feature.name) == (0, "network.0:0")
    before = len(network.sizes)
    assert [(place, feature.name) for place, feature in stream] == [(1, "network.0:1")]
    assert len(network.sizes) > before + 50


class Noted(Transform):
    """Notes the progress of each step."""

    n_draws = 0
    derived = frozenset({"seen"})

    def __init__(self) -> None:
        self.seen: list[float] = []

    def at(self, progress: float) -> "Noted":
        self.seen.append(progress)
        return self

    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        return pictures


def test_fewer_steps_of_a_warm_start_are_the_last_of_the_schedule_and_the_transforms():
    network, sgd = network_of(rising), partial(optim.SGD, lr=0.5)
    schedule = partial(CosineWithWarmup, warmup=4, steps=20)
    (whole,) = pixels(20, optimizer=sgd, scheduler=schedule, transforms=[]).maximize(network, "0:0", SHAPE)
    (first,) = pixels(15, optimizer=sgd, scheduler=schedule, transforms=[]).maximize(network, "0:0", SHAPE)
    starts, noted = {(first.name, 0): first.parameters}, Noted()
    later = pixels(20, optimizer=sgd, scheduler=partial(CosineWithWarmup, warmup=4), transforms=[noted])
    (last,) = later.maximize(network, "0:0", SHAPE, warm_starts=starts, steps=5)
    torch.testing.assert_close(last.parameters, whole.parameters)
    assert noted.seen == pytest.approx([step / 19 for step in range(15, 20)])
    noted.seen.clear()
    later.maximize(network, "0:0", SHAPE, steps=5)
    assert noted.seen == pytest.approx([step / 4 for step in range(5)])
