import numpy as np
import pytest

from fvlightning.analysis import PictureMeasures
from fvlightning.output import contact_sheet
from fvlightning.runs._comparison_files import comparison_sheet


@pytest.mark.parametrize("colour", [0.12, None])
def test_labels_have_the_class_in_the_first_column_and_the_measures_in_all(colour: float | None):
    pixels = [np.full((240, 240, 3), level, np.uint8) for level in (10, 60, 110, 160, 210, 250)]
    units = [("fc:1", 0), ("fc:1", 1), ("conv:0", 0)]
    columns = {
        space: [PictureMeasures(ratio, None, 0.07, slope, 0.25, colour, None, 1.0, *unit) for unit in units]
        for space, ratio, slope in (("natural", 1.0, -2.6), ("fourier", 2.5, None))
    }
    sheet = comparison_sheet(columns, {"natural": pixels[:3], "fourier": pixels[3:]}, "net", {"fc:1": "magpie"})
    ending = "" if colour is None else ", colour 0.12"
    natural, fourier = (f"slope {slope}, TV 0.07\ncontrast 0.25{ending}" for slope in ("-2.60", "-"))
    labels = []
    for name in ("fc:1 magpie", "fc:1 magpie #1", "conv:0"):
        labels += [f"{name}\n{natural}", f"activation 2.50 x natural\n{fourier}"]
    groups = {"natural": 1, "fourier": 1}
    expected = contact_sheet(
        [pixels[place] for place in (0, 3, 1, 4, 2, 5)], labels, "net", groups=groups, largest_font=16
    )
    np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))


def test_small_pictures_are_enlarged_until_their_figures_fit_below():
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    columns = {"fourier": [PictureMeasures(None, None, 0.0712, -2.61, 0.25, 0.12, None, 1.0, "conv:0", 0)]}
    sheet = np.asarray(comparison_sheet(columns, {"fourier": [picture]}, "", {}))
    assert sheet.shape[1] == 168 + 16
    enlarged = picture.repeat(6, 0).repeat(6, 1)
    assert any(np.array_equal(sheet[top : top + 168, 8:-8], enlarged) for top in range(60))
