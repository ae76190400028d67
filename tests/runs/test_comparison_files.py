import numpy as np

from fvlightning.analysis import PictureMeasures
from fvlightning.output import contact_sheet
from fvlightning.runs._comparison_files import comparison_sheet


def test_the_first_label_of_a_row_has_the_name_of_the_class():
    pixels = [np.full((40, 40, 3), level, np.uint8) for level in (10, 60, 110, 160, 210, 250)]
    units = [("fc:1", 0), ("fc:1", 1), ("conv:0", 0)]
    columns = {
        space: [PictureMeasures(ratio, None, None, None, None, ratio, unit, repeat) for unit, repeat in units]
        for space, ratio in (("natural", 1.0), ("fourier", 2.5))
    }
    sheet = comparison_sheet(columns, {"natural": pixels[:3], "fourier": pixels[3:]}, "title", {"fc:1": "magpie"})
    labels = ["fc:1 magpie", "fourier 2.50", "fc:1 magpie #1", "fourier 2.50", "conv:0", "fourier 2.50"]
    expected = contact_sheet([pixels[place] for place in (0, 3, 1, 4, 2, 5)], labels, "title", columns=2)
    np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))
