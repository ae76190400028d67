"""How images become pictures of one size, and random windows of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from fvlightning.data._augment import DRAW_LIMIT
from fvlightning.data.file_images import fit, random_window


def test_an_image_of_the_right_size_is_not_touched():
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)

    assert torch.equal(fit(Image.fromarray(noise), (6, 8)), torch.from_numpy(noise).permute(2, 0, 1))
    assert fit(Image.fromarray(noise[..., 0]), (6, 8)).tolist() == [noise[..., 0].tolist()]


def test_fitting_cuts_off_the_sides_and_averages_pixels():
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (20, 0, 40, 20))

    small = fit(image, (5, 5))
    assert small.shape == (1, 5, 5)
    assert small[0, 2, [0, 4]].tolist() == [0, 255]
    assert 100 < small[0, 2, 2] < 155


def test_random_windows_have_the_areas_shapes_and_places_asked_for():
    draws = torch.randint(DRAW_LIMIT, (2000, 4), generator=torch.Generator().manual_seed(0)).tolist()
    windows = np.array([random_window((300, 400), (0.2, 0.6), draw) for draw in draws])
    top, left, height, width = windows.T
    share = height * width / (300 * 400)

    assert min(top) == 0
    assert min(left) == 0
    assert max(top + height) == 300
    assert max(left + width) == 400
    assert share.min() > 0.19
    assert share.max() < 0.61
    assert share.mean() == pytest.approx(0.4, abs=0.01)
    assert (width / height).min() == pytest.approx(3 / 4, abs=0.02)
    assert (width / height).max() == pytest.approx(4 / 3, abs=0.02)
    assert np.median(width / height) == pytest.approx(1, abs=0.03)


def test_a_random_window_of_a_whole_or_long_image_stays_inside():
    last = [DRAW_LIMIT - 1] * 4

    assert random_window((10, 10), (1.0, 1.0), [0, DRAW_LIMIT // 2, 0, 0]) == (0, 0, 10, 10)
    for source in ((1, 1), (1, 500), (500, 3)):
        for draws in (last, [0] * 4):
            top, left, height, width = random_window(source, (0.01, 1.0), draws)
            assert 0 <= top <= top + height <= source[0]
            assert 0 <= left <= left + width <= source[1]
            assert min(height, width) >= 1
