import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fvlightning.data.augment import DRAW_LIMIT
from fvlightning.data.decoding import (
    UnreadableImageError,
    central_window,
    fit,
    image_size,
    random_window,
    read_image,
)


def pixels(path, channels=3):
    return np.asarray(read_image(path, channels)).tolist()


def test_grey_becomes_rgb_and_rgb_becomes_grey(tmp_path):
    Image.new("L", (3, 2), 77).save(tmp_path / "grey.png")
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red.png")

    assert pixels(tmp_path / "grey.png") == [[[77, 77, 77]] * 3] * 2
    assert pixels(tmp_path / "red.png", channels=1) == [[76] * 3] * 2  # 0.299 of 255, ITU-R BT.601


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.save(tmp_path / "clear.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "opaque.png")
    palette.save(tmp_path / "palette.png", transparency=1)
    Image.new("LA", (1, 1), (10, 0)).save(tmp_path / "la.png")

    assert pixels(tmp_path / "clear.png") == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    assert pixels(tmp_path / "opaque.png") == [[[0, 0, 255], [0, 255, 0]]]
    assert pixels(tmp_path / "palette.png") == [[[0, 0, 255], [255, 255, 255]]]
    assert pixels(tmp_path / "la.png") == [[[255, 255, 255]]]


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_16_bits_of_grey_are_scaled_to_8(tmp_path, name):
    Image.fromarray(np.array([[0, 257, 0x7FFF, 0xFFFF]], dtype=np.uint16)).save(tmp_path / name)

    assert pixels(tmp_path / name, channels=1) == [[0, 1, 127, 255]]


def test_16_bits_of_rgb_are_scaled_to_8(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x0101, 0x0202, 0xFEFE)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)  # 2 x 1 pixels, 16 bits, RGB
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)

    assert pixels(tmp_path / "colour.png") == [[[0, 128, 255], [1, 2, 254]]]


def test_photographs_are_turned_upright(tmp_path):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    image.save(tmp_path / "turned.jpg", exif=exif)

    upright = np.asarray(read_image(tmp_path / "turned.jpg", 1))
    assert image_size(tmp_path / "turned.jpg") == upright.shape == (32, 16)
    assert upright[:14].min() > 200
    assert upright[18:].max() < 50


def text(path):
    path.write_text("no image")


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.mkdir()


def missing(path):
    pass


def floats(path):
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(path, format="TIFF")


def integers(path):
    Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)).save(path, format="TIFF")


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text, "it is no image"),
        (empty, "it is no image"),
        (folder, "Is a directory"),
        (missing, "No such file"),
        (floats, "its pixels are floats"),
        (integers, "its pixels have 32 bits"),
        (truncated, "truncated"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, make, reason):
    make(tmp_path / "file")
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_image(tmp_path / "file", 3)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "window"),
    [
        ((10, 10), (5, 5), (0, 0, 10, 10)),
        ((20, 10), (5, 5), (5, 0, 10, 10)),
        ((10, 20), (5, 5), (0, 5, 10, 10)),
        ((10, 20), (10, 5), (0, 7, 10, 5)),
        ((4, 8), (20, 40), (0, 0, 4, 8)),
        ((1, 1000), (32, 32), (0, 499, 1, 1)),
    ],
)
def test_central_window(source, target, window):
    assert central_window(source, target) == window


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
