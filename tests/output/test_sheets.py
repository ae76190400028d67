import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from torch import nn

from fvlightning.features import Maximizer
from fvlightning.output import contact_sheet, save_png, to_pixels
from fvlightning.output.sheets import snapshot_strip

TILE, GAP, LABEL = 112, 8, 21


@pytest.mark.parametrize("count", range(1, 65))
def test_sheets_of_squares_are_no_higher_than_wide(count):
    pictures = [np.zeros((TILE, TILE, 3), np.uint8)] * count
    sheet = contact_sheet(pictures, ["0"] * count)
    columns, rows = (sheet.width - GAP) // (TILE + GAP), (sheet.height - GAP) // (TILE + GAP + LABEL)

    assert columns >= rows
    assert rows == math.ceil(count / columns)


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


def test_strip_has_the_name_of_the_class_above() -> None:
    maximizer = Maximizer(2, snapshots=[1])
    (feature,) = maximizer.maximize(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), ["1:2"], (1, 8, 8))
    pictures = [to_pixels(picture) for picture in (feature.snapshots[1], feature.image)]
    expected = contact_sheet(pictures, ["step 1", f"best: step {feature.best_step}"], "1:2 zebra", columns=2)
    np.testing.assert_array_equal(np.asarray(snapshot_strip(feature, True, "zebra")), np.asarray(expected))
