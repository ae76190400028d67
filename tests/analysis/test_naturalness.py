"""Measures of pictures by their pixels, against loops and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from fvlightning.analysis import spectral_slope, total_variation


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
def test_slope_as_a_loop_over_frequencies_has_it(height: int, width: int):
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


def test_slopes_that_cannot_be_measured():
    assert spectral_slope(torch.rand(2, 3, 7, 7)).isnan().all()
    assert spectral_slope(torch.full((1, 3, 16, 16), 0.3)).item() == pytest.approx(0, abs=1e-5)


def test_total_variation_as_a_loop_over_neighbours_has_it():
    pictures = torch.rand(3, 2, 5, 4, generator=torch.Generator().manual_seed(2))
    for picture, found in zip(pictures.tolist(), total_variation(pictures).tolist(), strict=True):
        down = [abs(a - b) for rows in picture for one, two in pairwise(rows) for a, b in zip(one, two, strict=True)]
        across = [abs(a - b) for rows in picture for row in rows for a, b in pairwise(row)]
        assert found == pytest.approx(sum(down) / len(down) + sum(across) / len(across), abs=1e-6)


def test_total_variation_of_a_board_and_of_one_colour():
    board = (torch.arange(6)[:, None] + torch.arange(8)) % 2
    assert total_variation(board.float().expand(1, 3, 6, 8)).item() == 2
    assert total_variation(torch.full((1, 1, 4, 4), 0.7)).item() == 0
