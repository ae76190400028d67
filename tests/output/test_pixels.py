from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from fvlightning.output import from_pixels, on_grey, resized, save_animation, save_png, to_pixels
from fvlightning.output.pixels import with_alpha


def test_alpha_keeps_the_colours_and_blends_with_grey() -> None:
    colors = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    importance = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    for pixels in (colors[:, :2], colors):  # one picture, and two channels side by side
        with_channel = with_alpha(pixels, importance)
        np.testing.assert_array_equal(with_channel[..., :3], pixels)
        np.testing.assert_array_equal(with_channel[:, :2, 3], [[0, 255], [128, 255]])
        blended = on_grey(with_channel)
        np.testing.assert_array_equal(blended[0, 0], [128, 128, 128])
        np.testing.assert_array_equal(blended[1, 1], pixels[1, 1])
        np.testing.assert_allclose(blended[1, 0], 128 - 128 / 255 * (128.0 - pixels[1, 0]), atol=0.5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pixels_are_turned_back_into_the_picture(channels: int):
    picture = torch.arange(channels * 20).view(channels, 4, 5) / 255
    pixels = with_alpha(to_pixels(picture), torch.rand(4, 5))
    torch.testing.assert_close(from_pixels(pixels, channels), picture)


def test_pixels_are_enlarged_smoothly_or_by_repeating_them():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[:, 1] = 200
    repeated = resized(pixels, 6, 4, enlarge_smoothly=False)
    np.testing.assert_array_equal(repeated, pixels.repeat(2, 0).repeat(2, 1))
    smooth = resized(pixels, 6, 4)
    assert smooth.shape == (4, 6, 3)
    assert len(np.unique(smooth)) > 2
    for smoothly in (True, False):
        np.testing.assert_array_equal(resized(pixels, 3, 2, enlarge_smoothly=smoothly), pixels)
        np.testing.assert_array_equal(resized(repeated, 3, 2, enlarge_smoothly=smoothly), resized(repeated, 3, 2))


def test_animation_plays_the_frames_in_order(tmp_path: Path) -> None:
    frames = []
    for level, width in ((0, 16), (120, 16), (240, 12)):
        frames.append(tmp_path / f"{level}.png")
        save_png(np.full((16, width, 3), level, dtype=np.uint8), frames[-1])
    frames.insert(1, tmp_path / "damaged.png")
    frames[1].write_bytes(frames[0].read_bytes()[:50])
    with pytest.warns(UserWarning, match=r"film.webp' leaves out '.*damaged.png': "):
        save_animation(frames, tmp_path / "film.webp")
    with PILImage.open(tmp_path / "film.webp") as film:
        levels = []
        for frame in range(film.n_frames):
            film.seek(frame)
            pixels = np.asarray(film.convert("RGB"))
            assert pixels.shape == (16, 16, 3)
            levels.append(pixels[:, :8].mean())
    np.testing.assert_allclose(levels, [0, 120, 240], atol=4)
