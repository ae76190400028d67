"""Sets of the hub that are in the cache, and sets that cannot be read: each ends in one line that names the fix."""

import sys

import pytest
import torch
from datasets import Value
from shards import CLASSES, draw, table, write_parquet

from fvlightning.data import HuggingFaceDataModule
from fvlightning.errors import InputError


def unknown_class(folder):
    write_parquet(folder, train=table(draw("train"), [0, 1] * 9), validation=table(draw("validation"), [0, 1, 2] * 2))
    return {}


def some_without_labels(folder):
    write_parquet(folder, train=table(draw("train"), [0, -1] * 9))
    return {}


def numbers_of_rows(folder):
    write_parquet(folder, train=table(draw("train"), [100_000 * number for number in range(18)], Value("int64")))
    return {}


def without_train(folder):
    rows = table(draw("train"), [0, 1] * 9)
    write_parquet(folder, test=rows)
    return {}


def without_rows(folder):
    write_parquet(folder, train=table([], [], Value("int64")))
    return {}


def damaged_shard(folder):
    write_parquet(folder, train=table(draw("train"), [0, 1] * 9))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    return {}


def nothing(folder):
    folder.mkdir()
    return {}


def other_format(folder):
    unknown_class(folder)
    return {"path": "webdataset"}


def pattern_without_files(folder):
    unknown_class(folder)
    return {"data_files": {"train": "train*", "val": "tset*"}}


def full_disk(folder):
    write_parquet(folder, train=table(draw("train"), [0, 1] * 9))
    return {"cache_dir": "/proc/cache"}


def no_folder(folder):
    return {}


def no_files(folder):
    return {"data_dir": None}


def path_of_a_file(folder):
    folder.write_text("")
    return {"path": str(folder), "data_dir": None}


def path_of_nothing(folder):
    return {"path": str(folder), "data_dir": None}


def configuration(folder):
    some_without_labels(folder)
    return {"path": str(folder), "name": "large", "data_dir": None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unknown_class, "has val images of classes that the training images do not have: 'owl'; remove them"),
        (some_without_labels, "9 of 18 train images of .* have no label in label; remove them, or set label_column"),
        (numbers_of_rows, "'label' of .* goes up to 1700000, too far for classes; set another one"),
        (without_train, "set has test but no train; say which files to train on: data_files {train: PATTERN}"),
        (without_rows, 'cannot read .*set: .*"train" corresponds to no data!; its files have no rows: set data_files'),
        (damaged_shard, "cannot read .*set: .*; see that there are such files, .* of the format parquet"),
        (nothing, "cannot read .*set: .*; see that there are such files, .* of the format parquet"),
        (other_format, "cannot read .*set: .*; see that there are such files, .* of the format webdataset"),
        (pattern_without_files, r"set: no files for val; see the patterns in data_files"),
        (full_disk, "cannot read .*set: .*; set cache_dir to a folder that can be written to, with room for a copy"),
        (no_folder, "data_dir: there is no folder '.*set'; give one with parquet files"),
        (no_files, "path: parquet is a format; set data_dir, the folder of the files, or data_files"),
        (path_of_a_file, r"path: .*set is a file; give a folder, a set of the hub \(OWNER/NAME\), or a format"),
        (path_of_nothing, r"path: .*set does not exist; give a folder, a set of the hub"),
        (configuration, "cannot read .*set: BuilderConfig 'large' not found. Available: .*; set name to one of them"),
    ],
)
def test_sets_that_cannot_be_used_are_refused(tmp_path, ready, make, message):
    settings = {"path": "parquet", "data_dir": tmp_path / "set"} | make(tmp_path / "set")
    with pytest.raises(InputError, match=message) as caught:
        ready(**settings)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer_is_asked_once(ready, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://localhost:9")
    with pytest.raises(
        InputError, match=r"no folder 'parket', and http://localhost:9 cannot be reached \(.*\); offline"
    ):
        ready("parket")
    with pytest.raises(
        InputError, match=r"set HF_HUB_OFFLINE=1 if the set is in the cache already. Did you mean 'parq"
    ):
        HuggingFaceDataModule("parket").class_names  # noqa: B018
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"cannot read own/pets: .*it is not in the cache, and HF_HUB_OFFLINE is set: giv"
    ):
        ready("own/pets")


def test_a_set_of_the_hub_that_is_in_the_cache_is_read_offline(tmp_path, ready, monkeypatch):
    folder = write_parquet(tmp_path / "pets", train=table(draw("train"), [0, 1] * 9))
    copied = ready(folder).splits.train
    (tmp_path / "cache" / "pets").rename(tmp_path / "cache" / "own___pets")  # where the library keeps that set
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    assert HuggingFaceDataModule("own/pets", cache_dir=tmp_path / "cache").class_names == CLASSES
    assert torch.equal(ready("own/pets").splits.train.images, copied.images)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs datasets; run pip install 'fvlightning\[hub\]'$"):
        HuggingFaceDataModule("parquet", data_dir="x").setup()


def test_a_folder_that_is_not_read_is_named(sets, ready):
    with pytest.warns(UserWarning, match="data_dir has no effect: .*parquet is read, and not .*tars"):
        ready(sets / "parquet", data_dir=sets / "tars")
