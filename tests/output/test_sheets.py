import math

import numpy as np
import pytest

from fvlightning.output import contact_sheet

TILE, GAP, LABEL = 112, 8, 21


@pytest.mark.parametrize("count", range(1, 65))
def test_sheets_of_squares_are_no_higher_than_wide(count):
    pictures = [np.zeros((TILE, TILE, 3), np.uint8)] * count
    sheet = contact_sheet(pictures, ["0"] * count)
    columns, rows = (sheet.width - GAP) // (TILE + GAP), (sheet.height - GAP) // (TILE + GAP + LABEL)

    assert columns >= rows
    assert rows == math.ceil(count / columns)
