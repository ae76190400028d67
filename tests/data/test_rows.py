"""The columns of images and classes, and images that are rows of a table."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from shards import draw, table, write_parquet

from fvlightning.data import HuggingFaceDataModule
from fvlightning.errors import InputError


@pytest.mark.parametrize(
    ("label_type", "labels", "names"),
    [
        (ClassLabel(names=["n04399382", "n02099601"]), [0, 1], ("teddy", "golden retriever")),
        (ClassLabel(names=["tench, Tinca tinca", "crane"]), [0, 1], ("tench", "crane")),
        (ClassLabel(names=["x, y", "unused"]), [0, 0], ("x, y", "unused")),
        (Value("uint8"), [0, 2], ("0", "1", "2")),
        (Value("string"), ["n02099601", "n01440764"], ("tench", "golden retriever")),
    ],
)
def test_names_of_classes(tmp_path, ready, label_type, labels, names):
    rows = table(draw("train")[:2], labels, label_type)
    settings = {"data_dir": write_parquet(tmp_path / "set", train=rows), "val_size": 0, "test_size": 0}
    if label_type == Value("string"):
        with pytest.raises(InputError, match=r"set has no column that must be the labels; set label_column to one of"):
            ready("parquet", **settings)
        settings["label_column"] = "label"
    early = HuggingFaceDataModule("parquet", cache_dir=tmp_path / "cache", **settings)
    assert early.class_names == names
    data = ready("parquet", **settings)
    assert data.class_names == names
    assert data.splits.train.labels.tolist() == ([1, 0] if labels == ["n02099601", "n01440764"] else labels)


def test_columns_are_chosen_among_several(tmp_path, ready):
    first, second = draw("train")[:6], draw("train")[6:12]
    types = {"photo": Image(), "mask": Image(), "fine": ClassLabel(names=["a", "b"]), "coarse": Value("int64")}
    values = {"photo": first, "mask": second, "fine": [0, 1] * 3, "coarse": [0, 0, 1] * 2}
    rows = Dataset.from_dict(values, features=Features(types))
    settings = {"data_dir": write_parquet(tmp_path / "set", train=rows), "val_size": 0, "test_size": 0}
    columns = (
        r"set image_column to one of its columns: photo \(Image\), mask \(Image\), fine \(ClassLabel\), .*int64\)$"
    )
    with pytest.raises(InputError, match=rf"set has several columns that may be the images; {columns}"):
        ready("parquet", **settings)
    for wrong in ("fine", "missing"):
        with pytest.raises(InputError, match=rf"set has no images in a column '{wrong}'; {columns}"):
            ready("parquet", image_column=wrong, **settings)

    masks = ready("parquet", image_column="mask", **settings).splits.train
    assert masks.labels.tolist() == [0, 1] * 3
    photos = ready("parquet", image_column="photo", label_column="coarse", **settings).splits.train
    assert photos.labels.tolist() == [0, 0, 1] * 2
    assert not torch.equal(masks.images, photos.images)


def test_parquet_of_other_programs_has_bytes_alone(sets, tmp_path, ready):
    images = draw("train")
    for number, values in enumerate((images, [{"bytes": image, "path": None} for image in images])):
        rows = Dataset.from_dict({"image": values, "label": [0, 1] * 9})
        folder = write_parquet(tmp_path / f"set{number}", train=rows)
        choice = {"image_column": "image"} if number == 0 else {}
        data = ready("parquet", data_dir=folder, val_size=0, test_size=0, **choice)
        whole = ready("parquet", data_dir=sets / "parquet", test_size=0)
        assert torch.equal(data.splits.train.images, whole.splits.train.images)


def test_images_that_cannot_be_read_are_named(sets, tmp_path, ready):
    images = draw("train")
    images[3], images[5], images[7] = b"no image", images[5][:60], None
    folder = write_parquet(tmp_path / "set", train=table(images, [0, 1] * 9))
    settings = {"data_dir": folder, "val_size": 0, "test_size": 0}
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        data = ready("parquet", **settings)
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("3 of 18 files cannot be read as images and are left out: ")
    for name in ("train[3] 3.png (it is not an image)", "train[5] 5.png (", "train[7] (there are no bytes)"):
        assert name in message
    assert len(data.splits.train) == 15
    with pytest.raises(InputError, match=r"^2 of 18 files .*train\[3\] 3.png .*; remove them, or set on_error: skip"):
        ready("parquet", on_error="raise", **settings)
    folder = write_parquet(tmp_path / "damaged", train=table([b"no image"] * 4, [0] * 4))
    with pytest.raises(InputError, match=r"^no training image of .*damaged can be read \(train\[0\] 0.png: it is not"):
        ready("parquet", data_dir=folder)
