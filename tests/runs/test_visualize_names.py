"""Class names under the pictures of `visualize`."""

from pathlib import Path

import numpy as np
import pytest
from digits import Classifier, Digits
from PIL import Image as PILImage
from visualizing import COMMON, records

from fvlightning.cli import main
from fvlightning.output import contact_sheet, read_manifest, read_record

# The models keep their initial weights on purpose.
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
]
UNITS = ["--units", '["fc:0-1", "conv:0"]']
NAMED = [*COMMON, "--model", f"{__name__}.Named", *UNITS]
UNNAMED = [*COMMON, *UNITS]


class Named(Classifier):
    class_names = ("0", "magpie", *"cdefghij")


class NamedData(Digits):
    class_names = ("0", "jackdaw", *"cdefghij")


def test_class_names_are_on_the_sheet_and_in_the_records():
    assert main(NAMED) == 0
    assert [record.get("class_name") for record in records()] == ["0", "magpie", None]
    assert [read_record(Path("out", record["file"])) for record in records()] == read_manifest("out")
    pictures = [np.asarray(PILImage.open(f"out/fc/{index}.png")) for index in (0, 1)]
    expected = np.asarray(contact_sheet(pictures, ["0", "1 magpie"], "Net, fc"))
    np.testing.assert_array_equal(np.asarray(PILImage.open("out/fc.png")), expected)


def test_pictures_are_kept_whether_names_are_known_or_not(caplog):
    caplog.set_level("INFO")
    assert main(UNNAMED) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*/*.png")}
    plain = Path("out/fc.png").read_bytes()
    assert not any("class_name" in record for record in records())
    for command, names in ((NAMED, ["0", "magpie", None]), (UNNAMED, [None, None, None])):
        caplog.clear()
        assert main(command) == 0
        assert "3 of 3 units are in out already, and kept" in caplog.text
        assert [record.get("class_name") for record in records()] == names
        assert (Path("out/fc.png").read_bytes() == plain) == (command == UNNAMED)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_name_that_is_in_the_file_stays():
    assert main(NAMED) == 0
    named = records(), Path("out/fc.png").read_bytes()
    assert main(UNNAMED) == 0
    assert (records(), Path("out/fc.png").read_bytes()) == named


def test_data_give_names_without_being_read():
    assert main([*NAMED, "--data", f"{__name__}.NamedData"]) == 0
    assert [record.get("class_name") for record in records()] == ["0", "jackdaw", None]


def test_folders_of_images_give_names_without_being_read():
    data = ["--data=ImageFolderDataModule", "--data.data_dir=photos", "--data.image_size=8"]
    # fit would refuse a folder that does not exist; names are not worth a run.
    assert main([*UNNAMED, *data]) == 0
    assert not any("class_name" in record for record in records())
    for name in "jihgfedcba":
        Path("photos/train", name).mkdir(parents=True)
    assert main([*UNNAMED, *data]) == 0
    assert [record.get("class_name") for record in records()] == ["a", "b", None]
