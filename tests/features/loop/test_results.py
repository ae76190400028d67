"""What is reported of pictures: scores that the saved picture gives again, and units that are dead or fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from toy_networks import BrightnessUnits

from fvlightning.features import Maximizer, PixelImage, RandomAffine, TotalVariation, Transform, Unit

SHAPE = (1, 8, 8)
TRANSFORMS: dict[str, list[Transform]] = {"plain": [], "transformed": [RandomAffine()]}


def network_of(*functions: Callable[[Tensor], Tensor]) -> nn.Module:
    """Its layer '0' is units of a picture's brightness."""
    return nn.Sequential(BrightnessUnits(*functions))


def rising(brightness: Tensor) -> Tensor:
    return brightness


def pixels(steps: int, **settings: Any) -> Maximizer:
    """The brightness of a picture of `rising` grows by about 0.0125 in each of the first steps."""
    return Maximizer(steps, image=PixelImage(), **settings)


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
def test_a_saved_picture_gives_the_reported_score_again(tmp_path: Path, channels: int):
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


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("penalties", [[], [TotalVariation(0.1)]], ids=["free", "penalised"])
def test_a_dead_unit_is_reported_as_dead_and_the_others_are_not(kind: str, penalties: list[TotalVariation]):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    with torch.no_grad():
        network[0].bias.copy_(torch.tensor([2.0, -100.0, 2.0]))
    features = Maximizer(20, transforms=TRANSFORMS[kind], penalties=penalties).maximize(network, ["1:*"], SHAPE)
    assert [feature.status for feature in features] == ["ok", "dead", "ok"]
    assert features[1].score == 0


def test_a_dead_unit_is_dead_after_a_single_step_as_well():
    (feature,) = Maximizer(1).maximize(network_of(torch.zeros_like, rising), ["0:0"], SHAPE)
    assert feature.status == "dead"


def broken_above(limit: float, value: float) -> Callable[[Tensor], Tensor]:
    return lambda brightness: torch.where(brightness > limit, value, brightness)


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_unit_whose_score_becomes_non_finite_is_reported_with_its_best_picture_from_before(kind: str, value: float):
    network = network_of(rising, broken_above(0.55, value), lambda brightness: brightness.clamp(max=0.55))
    maximizer = pixels(40, transforms=TRANSFORMS[kind])
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


def test_a_unit_whose_score_is_never_finite_is_reported_with_its_start():
    network = network_of(broken_above(-1, torch.nan), rising)
    features = pixels(20).maximize(network, ["0:*"], SHAPE)
    assert [feature.status for feature in features] == ["non-finite", "ok"]
    assert (features[0].steps, features[0].best_step) == (1, 0)
    assert features[0].image.mean() == pytest.approx(0.5, abs=0.01)


def broken_gradient(brightness: Tensor) -> Tensor:
    """A finite score whose gradient is not a number from 0.55 on."""
    return brightness + ((0.55 - brightness) * (brightness < 0.55)).sqrt() * 0


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_unit_whose_gradient_becomes_non_finite_is_reported_as_well(kind: str):
    (feature,) = pixels(40, transforms=TRANSFORMS[kind]).maximize(network_of(broken_gradient), ["0:0"], SHAPE)
    assert feature.status == "non-finite"
    assert feature.history.isfinite().all()
    assert feature.image.isfinite().all()
    assert feature.parameters.isfinite().all()
    assert feature.score == pytest.approx(feature.image.mean().item(), abs=1e-5)
