import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from torch import nn

from fvlightning.features import Maximizer
from fvlightning.output import card_parts, contact_sheet, save_png, to_pixels
from fvlightning.output.sheets import snapshot_strip

TILE, GAP = 112, 8


@pytest.mark.parametrize("count", range(1, 65))
def test_sheets_of_squares_are_no_higher_than_wide(count):
    pictures = [np.zeros((TILE, TILE, 3), np.uint8)] * count
    is_black = (np.asarray(contact_sheet(pictures, ["0"] * count)) == 0).all(-1)
    columns, rows = (int(line.sum() / TILE) for line in (is_black[GAP], is_black[:, GAP]))

    assert columns >= rows
    assert rows == math.ceil(count / columns)


def test_sheets_of_ten_to_25_fill_a_card_with_readable_labels():
    for count in range(10, 26):
        pictures = [np.full((28, 28, 3), 255, np.uint8)] * count
        sheet = contact_sheet(pictures, ["0"] * count)
        is_ink = (np.asarray(sheet) < 200).all(-1)[:, GAP : GAP + TILE].any(1)
        label_height = int(is_ink.argmin() if is_ink[0] else is_ink[is_ink.argmax() :].argmin())

        # TensorBoard shrinks a picture to 375 x 215 pixels on the page that it opens with, and to 350 on another.
        scale = min(375 / sheet.width, 215 / sheet.height, 350 / sheet.width)
        assert TILE * scale > 35
        assert label_height * scale > 5


def test_a_sheet_of_more_than_25_has_parts():
    assert card_parts([str(unit) for unit in range(25)]) == {}
    units = [str(unit) for unit in range(30, 90)]
    parts = card_parts(units)

    assert list(parts) == ["30-54", "55-79", "80-89"]
    assert [unit for part in parts.values() for unit in units[part]] == units


def test_sheet_holds_every_picture(tmp_path: Path) -> None:
    colors = np.arange(7 * 3, dtype=np.uint8).reshape(7, 1, 1, 3) * 10
    pictures = list(np.broadcast_to(colors, (7, 28, 28, 3)))
    sheet = contact_sheet(pictures, [str(i) for i in range(7)], "a layer")
    seen = {tuple(color) for color in np.asarray(sheet).reshape(-1, 3)}
    assert {tuple(color) for color in colors.reshape(7, 3)} <= seen
    save_png(sheet, tmp_path / "new" / "sheet.png")
    with PILImage.open(tmp_path / "new" / "sheet.png") as saved:
        assert saved.size == sheet.size


def test_sheet_of_many_large_pictures_is_of_a_sensible_size() -> None:
    picture = np.full((224, 224, 3), 100, dtype=np.uint8)
    for count, widest, side in ((12, 1200, 224), (128, 3200, 180), (512, 3200, 90)):
        sheet = np.asarray(contact_sheet([picture] * count, [str(index) for index in range(count)]))
        assert sheet.shape[1] <= widest
        assert sheet.shape[0] < 1.5 * sheet.shape[1]
        # Every picture is there, and at least this large.
        assert (sheet == 100).all(-1).sum() >= count * side**2


def test_long_labels_stay_under_their_pictures() -> None:
    picture = np.full((112, 112, 3), 100, dtype=np.uint8)
    label = "blocks.2.0.conv_pw:3 + 0.25*classifier:851"
    sheet = np.asarray(contact_sheet([picture] * 2, [label, "a" * 300], columns=2))
    assert sheet.shape[1] == 2 * (112 + 8) + 8
    between = sheet[:, 8 + 112 : 8 + 112 + 8]
    assert (between == 255).all()


def test_labels_of_several_lines_keep_them_and_stay_under_their_pictures() -> None:
    picture = np.full((112, 112, 3), 100, dtype=np.uint8)

    def lines(label: str) -> int:
        sheet = np.asarray(contact_sheet([picture] * 2, [label, "0"], columns=2, largest_font=14))
        assert (sheet[:, 8 + 112 : 8 + 112 + 8] == 255).all()
        is_ink = (sheet[8 + 112 :, 8 : 8 + 112] < 150).all(-1).any(1)
        return int((is_ink[1:] & ~is_ink[:-1]).sum())

    assert [lines(label) for label in ("one", "one\nmore", "one\nmore\nhas")] == [1, 2, 3]
    # A line that is too long for its picture becomes several.
    assert lines("one\n" + "more " * 8) > 2


def test_strip_has_the_name_of_the_class_above() -> None:
    maximizer = Maximizer(2, snapshots=[1])
    (feature,) = maximizer.maximize(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), ["1:2"], (1, 8, 8))
    pictures = [to_pixels(picture) for picture in (feature.snapshots[1], feature.image)]
    expected = contact_sheet(pictures, ["step 1", f"best: step {feature.best_step}"], "1:2 zebra", columns=2)
    np.testing.assert_array_equal(np.asarray(snapshot_strip(feature, True, "zebra")), np.asarray(expected))
