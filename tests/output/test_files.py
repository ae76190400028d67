from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from fvlightning.features import Unit
from fvlightning.output import contact_sheet, save_animation, save_png, unit_file, write_atomically


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"old")

    def fails(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "picture.png", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    assert (tmp_path / "picture.png").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("unit", "repeat", "file"),
    [
        ("conv2:3", 0, "conv2/3.png"),
        ("-layer1.0.conv1:3@4,5", 2, "layer1.0.conv1/-3@4,5_2.png"),
        ("relu#1:7", 0, "relu#1/7.png"),
        ("conv2", 0, "conv2/layer.png"),
    ],
)
def test_file_of_a_unit(unit: str, repeat: int, file: str) -> None:
    assert unit_file(Unit.parse(unit), repeat).as_posix() == file


def test_sheet_holds_every_picture(tmp_path: Path) -> None:
    colors = np.arange(7 * 3, dtype=np.uint8).reshape(7, 1, 1, 3) * 10
    pictures = list(np.broadcast_to(colors, (7, 28, 28, 3)))
    sheet = contact_sheet(pictures, [str(i) for i in range(7)], "a layer")
    seen = {tuple(color) for color in np.asarray(sheet).reshape(-1, 3)}
    assert {tuple(color) for color in colors.reshape(7, 3)} <= seen
    save_png(sheet, tmp_path / "new" / "sheet.png")
    with PILImage.open(tmp_path / "new" / "sheet.png") as saved:
        assert saved.size == sheet.size


def test_animation_plays_the_frames_in_order(tmp_path: Path) -> None:
    frames = []
    for level, width in ((0, 16), (120, 16), (240, 12)):
        frames.append(tmp_path / f"{level}.png")
        save_png(np.full((16, width, 3), level, dtype=np.uint8), frames[-1])
    save_animation(frames, tmp_path / "film.webp", frame_ms=200)
    with PILImage.open(tmp_path / "film.webp") as film:
        levels = []
        for frame in range(film.n_frames):
            film.seek(frame)
            pixels = np.asarray(film.convert("RGB"))
            assert pixels.shape == (16, 16, 3)
            levels.append(pixels[:, :8].mean())
    np.testing.assert_allclose(levels, [0, 120, 240], atol=4)
