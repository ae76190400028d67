"""Image files are read as they are seen, and pictures fitted to shapes."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError, central_window, fit_picture, image_size, read_image, to_tensor


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


def pixels_of(height: int, width: int) -> np.ndarray:
    """Two slopes and a constant, (H, W, 3), uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + y * 150 // height, 60 + x * 150 // width, np.full_like(x, 90)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16", "YCbCr"])
def test_images_of_every_mode_are_read(tmp_path: Path, mode: str):
    grey = Image.fromarray(pixels_of(8, 20)[..., 1])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    image.save(path)
    expected = torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)
    for channels in (1, 3):
        pixels = to_tensor(read_image(str(path), channels))
        assert pixels.shape == (channels, 8, 20)
        assert pixels.dtype == torch.uint8
        tolerance = {"1": 1, "P": 0.2}.get(mode, 0.02)
        torch.testing.assert_close(pixels / 255, expected.expand(channels, -1, -1), atol=tolerance, rtol=0)


def test_a_palette_with_degrees_of_transparency_is_read(tmp_path: Path):
    Image.fromarray(pixels_of(8, 8)).convert("P").save(tmp_path / "p.png", transparency=bytes(range(256)))
    assert read_image(tmp_path / "p.png").size == (8, 8)


@pytest.mark.parametrize("size", [(8, 20), (20, 8)])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "bmp", "gif"])
def test_the_size_is_that_of_the_pixels(tmp_path: Path, size: tuple[int, int], kind: str):
    path = tmp_path / f"x.{kind}"
    Image.fromarray(pixels_of(*size)).save(path)
    assert image_size(path) == size == to_tensor(read_image(path)).shape[1:]


def text(path: Path) -> None:
    path.write_text("no image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    pass


def floats(path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(path, format="TIFF")


def integers(path: Path) -> None:
    Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)).save(path, format="TIFF")


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text, "it is not an image"),
        (empty, "it is not an image"),
        (folder, "Is a directory"),
        (missing, "No such file or directory"),
        (floats, "its pixels are floats of unknown range"),
        (integers, "its pixels have 32 bits and an unknown range"),
        (truncated, "truncated"),
    ],
)
def test_the_error_of_an_unreadable_file_is_one_line_with_its_name_and_the_reason(
    tmp_path: Path, make: Any, reason: str
):
    make(tmp_path / "file")
    with pytest.raises(
        UnreadableImageError, match=rf"cannot read '.*/file' as an image: .*{reason}.*; give a"
    ) as caught:
        read_image(tmp_path / "file")

    assert reason in caught.value.reason
    assert "file'" not in caught.value.reason
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_the_size_of_what_is_not_an_image_is_an_error(tmp_path: Path):
    text(tmp_path / "file")
    with pytest.raises(UnreadableImageError, match=r"cannot read '.*/file' as an image: it is not an image"):
        image_size(tmp_path / "file")


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
def test_the_central_window_has_the_proportions_of_the_target(source, target, window):
    assert central_window(source, target) == window


def test_the_central_window_shrinks_on_all_sides():
    assert central_window((40, 80), (10, 10), 0.75) == (5, 25, 30, 30)
    assert central_window((2, 2), (1, 1), 0.01) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("size", "image_shape", "box"),
    [
        ((40, 80), (3, 10, 10), (0, 20, 40, 60)),
        ((80, 40), (3, 10, 20), (30, 0, 50, 40)),
        ((7, 9), (3, 7, 9), (0, 0, 7, 9)),
        ((10, 10), (3, 25, 15), (0, 2, 10, 8)),
    ],
)
def test_the_middle_of_a_picture_is_cut_out_in_the_proportions(size: tuple, image_shape: tuple, box: tuple):
    picture = torch.rand(3, *size)
    top, left, bottom, right = box
    expected = nn.functional.interpolate(
        picture[None, :, top:bottom, left:right], image_shape[1:], mode="bicubic", antialias=True
    )[0].clamp(0, 1)
    torch.testing.assert_close(fit_picture(picture, image_shape), expected)


def test_channels_are_fitted_by_brightness_or_copies():
    picture = torch.rand(3, 4, 4)
    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    torch.testing.assert_close(fit_picture(picture, (1, 4, 4))[0], grey)
    torch.testing.assert_close(fit_picture(grey[None], (3, 4, 4)), grey.expand(3, -1, -1))
    with pytest.raises(InputError, match=r"a picture of 3 channels does not fit the shape \(4, 4, 4\); give one of 4"):
        fit_picture(picture, (4, 4, 4))
