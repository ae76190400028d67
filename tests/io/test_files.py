from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from fvlightning.errors import InputError
from fvlightning.features import Direction, Maximizer, Objective, Unit, UnitActivation
from fvlightning.output import (
    contact_sheet,
    on_grey,
    save_animation,
    save_png,
    snapshot_strip,
    to_pixels,
    unit_file,
    unit_label,
    with_alpha,
    write_atomically,
)
from fvlightning.output.features import with_class


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"old")

    def fails(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"no space left in .*: free some, and run the same command again"):
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


@pytest.mark.parametrize(
    ("objective", "file"),
    [
        (UnitActivation("fc:7") - 0.5 * UnitActivation("conv2:3@1,2"), "sums/fc=7-0.5xconv2=3@1,2"),
        (UnitActivation("blocks.2.0.relu#1:7") + UnitActivation("fc:1"), "sums/blocks.2.0.relu#1=7+fc=1"),
    ],
)
def test_file_of_a_sum(objective: Objective, file: str) -> None:
    assert unit_file(objective).as_posix() == f"{file}.png"
    assert unit_file(objective, 2).as_posix() == f"{file}_2.png"
    assert unit_label(objective, 2, "dead") == f"{objective} #2 (dead)"


def test_file_of_a_long_or_strange_text_is_its_own_and_can_be_written(tmp_path: Path) -> None:
    terms = [UnitActivation(f"blocks.{index}.conv_pw:{index}") for index in range(30)]
    long = terms[0] + terms[1]
    for term in terms[2:]:
        long = long + term
    others = [long + UnitActivation("fc:1"), long + UnitActivation("fc:2"), Direction("fc", [1.0, 2.0], 1.0)]
    others += [UnitActivation("a/b\\:0") + UnitActivation("c:0"), UnitActivation("a<b>:0") + UnitActivation("c:0")]
    names = [unit_file(objective).name for objective in others]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) < 100
        assert not set(name) & set('<>:"/\\|?* ')
        (tmp_path / name).write_bytes(b"")


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


def test_sheet_of_many_large_pictures_is_of_a_sensible_size() -> None:
    picture = np.full((224, 224, 3), 100, dtype=np.uint8)
    for count, widest, side in ((12, 1200, 224), (128, 3200, 180), (512, 3200, 90)):
        sheet = np.asarray(contact_sheet([picture] * count, [str(index) for index in range(count)]))
        assert sheet.shape[1] <= widest
        assert sheet.shape[0] < 1.5 * sheet.shape[1]
        # Every picture is there, of at least that side.
        assert (sheet == 100).all(-1).sum() >= count * side**2


def test_long_labels_stay_under_their_pictures() -> None:
    picture = np.full((112, 112, 3), 100, dtype=np.uint8)
    label = "blocks.2.0.conv_pw:3 + 0.25*classifier:851"
    sheet = np.asarray(contact_sheet([picture] * 2, [label, "a" * 300], columns=2))
    assert sheet.shape[1] == 2 * (112 + 8) + 8
    between = sheet[:, 8 + 112 : 8 + 112 + 8]
    assert (between == 255).all()


@pytest.mark.parametrize(
    ("unit", "name", "label"),
    [
        ("207", "golden retriever", "207 golden retriever"),
        ("-classifier:207", "golden retriever", "-classifier:207 golden retriever"),
        ("fc:17", "7", "fc:17 7"),
        ("-7", "7", "-7"),
        ("fc:7", "7", "fc:7"),
        ("fc:7", None, "fc:7"),
    ],
)
def test_label_of_a_class(unit: str, name: str | None, label: str) -> None:
    assert with_class(unit, name) == label


def test_strip_of_a_class_has_its_name_above() -> None:
    maximizer = Maximizer(2, snapshots=[1])
    (feature,) = maximizer.maximize(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), ["1:2"], (1, 8, 8))
    pictures = [to_pixels(picture) for picture in (feature.snapshots[1], feature.image)]
    expected = contact_sheet(pictures, ["step 1", f"best: step {feature.best_step}"], "1:2 zebra", columns=2)
    np.testing.assert_array_equal(np.asarray(snapshot_strip(feature, True, "zebra")), np.asarray(expected))


def test_alpha_keeps_the_colours_and_shows_grey_paper() -> None:
    colors = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    importance = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    for pixels in (colors[:, :2], colors):  # one picture, and two channels side by side
        shown = with_alpha(pixels, importance)
        np.testing.assert_array_equal(shown[..., :3], pixels)
        np.testing.assert_array_equal(shown[:, :2, 3], [[0, 255], [128, 255]])
        paper = on_grey(shown)
        np.testing.assert_array_equal(paper[0, 0], [128, 128, 128])
        np.testing.assert_array_equal(paper[1, 1], pixels[1, 1])
        np.testing.assert_allclose(paper[1, 0], 128 - 128 / 255 * (128.0 - pixels[1, 0]), atol=0.5)
