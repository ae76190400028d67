"""Measures of single pictures, against loops and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fvlightning.analysis.measures import (
    colorfulness,
    contrast,
    pixel_measures,
    robust_activations,
    spectral_slope,
)
from fvlightning.features import LayerCall, LayerEnergy, UnitActivation, score

SHAPE = (3, 12, 12)
OBJECTIVES = [UnitActivation("0:1"), UnitActivation("3:0"), LayerEnergy(LayerCall("0")), -UnitActivation("3:2")]


def noise(decay: float, side: int = 64, count: int = 20) -> torch.Tensor:
    """Return pictures whose power falls as ``f ** -decay``."""
    frequencies = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)).clamp(min=1 / side)
    white = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0))
    pictures = torch.fft.irfft2(torch.fft.rfft2(white) * frequencies ** (-decay / 2), s=(side, side))
    return (0.5 + 0.1 * pictures / pictures.std()).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_slope_of_noise_is_its_exponent(decay: float):
    assert spectral_slope(noise(decay)).mean().item() == pytest.approx(-decay, abs=0.15)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 20)])
def test_slope_equals_that_of_a_loop_over_frequencies(height: int, width: int):
    pictures = torch.rand(3, 2, height, width, generator=torch.Generator().manual_seed(1))
    for picture, slope in zip(pictures.double().numpy(), spectral_slope(pictures).tolist(), strict=True):
        side = min(height, width)
        grey = picture.mean(0)[:side, :side]
        window = [0.5 - 0.5 * math.cos(2 * math.pi * place / (side - 1)) for place in range(side)]
        power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(window, window))) ** 2
        rings: dict[int, list[float]] = {}
        for row in range(side):
            for column in range(side):
                down, across = min(row, side - row), min(column, side - column)
                rings.setdefault(round(math.hypot(down, across)), []).append(power[row, column])
        radii = range(2, side // 2)
        expected, _ = np.polyfit(np.log(radii), [math.log(np.mean(rings[radius])) for radius in radii], 1)
        assert slope == pytest.approx(expected, abs=1e-3)


def test_slope_is_nan_for_small_pictures_and_0_for_one_colour():
    assert spectral_slope(torch.rand(2, 3, 7, 7)).isnan().all()
    assert spectral_slope(torch.full((1, 3, 16, 16), 0.3)).item() == pytest.approx(0, abs=1e-5)


def test_contrast_and_colorfulness_equal_those_of_numpy():
    pictures = (
        torch.rand(4, 3, 9, 13, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.2, 1, 0.6])[:, None, None]
    )
    for picture, measured in zip(pictures.double().numpy(), contrast(pictures).tolist(), strict=True):
        assert measured == pytest.approx(picture.std(), abs=1e-6)
    for (red, green, blue), measured in zip(pictures.double().numpy(), colorfulness(pictures).tolist(), strict=True):
        rg, yb = red - green, (red + green) / 2 - blue
        expected = math.sqrt(rg.var() + yb.var()) + 0.3 * math.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
        assert measured == pytest.approx(expected, abs=1e-6)


def test_contrast_and_colorfulness_of_closed_forms():
    # Half red, half black: rg is 0 or 1, yb is 0 or 1/2.
    half_red = torch.zeros(1, 3, 4, 4)
    half_red[:, 0, :2] = 1
    assert contrast(half_red).item() == pytest.approx(math.sqrt(5) / 6)
    assert colorfulness(half_red).item() == pytest.approx(1.3 * math.sqrt(0.5**2 + 0.25**2))
    grey = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert colorfulness(grey).tolist() == [0, 0]
    assert colorfulness(grey.expand(-1, 3, -1, -1)).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert contrast(torch.full((1, 3, 8, 8), 0.25)).item() == 0
    assert colorfulness(torch.rand(1, 5, 8, 8)).isnan().all()


def test_measures_of_pixels_do_not_depend_on_the_batch():
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    alone = [pixel_measures(picture[None]) for picture in pictures]
    for name, values in pixel_measures(pictures).items():
        torch.testing.assert_close(values, torch.cat([one[name] for one in alone]))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5))


def test_random_crops_of_one_colour_have_the_score_of_the_whole(network: nn.Module):
    grey = torch.full((4, *SHAPE), 0.5)
    scores = score(network, OBJECTIVES, grey, paired=True)
    torch.testing.assert_close(robust_activations(network, OBJECTIVES, grey), scores)


def test_random_crops_of_a_picture_do_not_depend_on_its_batch(network: nn.Module):
    pictures = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    together = robust_activations(network, OBJECTIVES, pictures)
    alone = [robust_activations(network, [one], pictures[i : i + 1]) for i, one in enumerate(OBJECTIVES)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together, score(network, OBJECTIVES, pictures, paired=True), rtol=1e-3)
