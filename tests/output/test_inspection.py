"""Sheets and curves of what a layer makes of an image."""

import numpy as np
import torch
from PIL import Image as PILImage

from fvlightning.output.inspection import laid_over, maps_sheets, means_figure, strongest_sheet


def test_maps_have_a_common_scale_or_their_own_and_sheets_of_144():
    maps = torch.zeros(300, 4, 4)
    maps[0], maps[299, 0, 0] = 1.0, 10.0
    sheets = maps_sheets(maps, "layer")
    assert list(sheets) == ["_0-143", "_144-287", "_288-299"]
    dark, brightest = (68, 1, 84), (253, 231, 36)  # the ends of viridis
    assert brightest not in colours(sheets["_144-287"])
    assert {dark, brightest} <= colours(sheets["_288-299"])
    assert brightest in colours(maps_sheets(maps[:2], "layer", own_scale=True)[""])
    # With negative values zero is white, and NaN black rather than a value.
    signed = maps_sheets(torch.tensor([[[-1.0, 0.0], [torch.nan, 1.0]]]), "layer")[""]
    assert {(5, 48, 97), (103, 0, 31), (0, 0, 0)} <= colours(signed)


def test_a_map_lies_over_its_place_in_the_image():
    image = np.full((32, 48, 3), 100, np.uint8)
    one = torch.zeros(2, 3)
    one[1, 2] = 1.0
    blended = laid_over(image, one, 1.0, signed=True).astype(int)
    is_grey = (blended == blended[..., :1]).all(-1)
    assert is_grey[:8].all()
    assert is_grey[:, :24].all()
    # From the centre of the patch on, the strongest red covers three quarters of the image, which is paler.
    strongest, pale = np.array([103, 0, 31]), 255 * 0.3 + 100 * 0.7
    np.testing.assert_array_equal(
        blended[24:, 40:], np.broadcast_to(np.rint(0.75 * strongest + 0.25 * pale), (8, 8, 3))
    )


def test_sheet_of_the_strongest_has_each_picture_and_white_paper_under_the_image():
    image, *pictures = (np.full((112, 112, 3), shade, np.uint8) for shade in (7, 9, 11))
    means, maps = torch.tensor([1.0, 2.0, 3.0]), torch.rand(3, 4, 4)
    names = {2: "2", 1: "1"}
    full = strongest_sheet(image, names, means, maps, pictures, title="title")
    assert {(7, 7, 7), (9, 9, 9), (11, 11, 11)} <= colours(full)
    without_maps = strongest_sheet(image, names, means, None, pictures, title="title", own_scale=True)
    without_pictures = strongest_sheet(image, names, means, maps, [], title="title", own_scale=True)
    assert full.width == without_maps.width == without_pictures.width
    assert full.height > without_pictures.height >= without_maps.height


def test_numbers_of_neighbours_do_not_cover_each_other():
    means = torch.arange(100.0)
    (axes,) = means_figure(means, [99, 98, 97, 50], "layer").axes
    curve, marks = axes.lines
    np.testing.assert_array_equal(curve.get_ydata(), means)
    assert list(marks.get_xdata()) == [99, 98, 97, 50]
    assert [text.get_text() for text in axes.texts] == ["99", "50", "99: 99\n98: 98\n97: 97\n50: 50"]


def colours(sheet: PILImage.Image) -> set[tuple[int, ...]]:
    # The legend has few pixels of each.
    return {colour for count, colour in sheet.getcolors(2**24) if count > 300}
