"""Parquet files, tar shards and sets of the hub, against an image folder with the same files."""

import io
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from finetuning import kill_at_step
from PIL import Image as PILImage

from fvlightning.cli import main
from fvlightning.data import HuggingFaceDataModule, ImageFolderDataModule, read_pictures
from fvlightning.errors import InputError

CLASSES = ("cat", "dog", "owl")
COUNTS = {"train": 18, "validation": 6}


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    PILImage.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def draw(part):
    """Return noise as encoded images: colours, grey and grey of 16 bits, of two sizes."""
    generator = np.random.default_rng(len(part))
    drawn = []
    for number in range(COUNTS[part]):
        shape = (12, 16) if number % 2 else (14, 14)
        if number % 5 == 3:
            drawn.append(encode(generator.integers(0, 2**16, shape, np.uint16)))
        else:
            drawn.append(encode(generator.integers(0, 256, shape if number % 5 == 4 else (*shape, 3), np.uint8)))
    return drawn


def table(images, labels, label_type=None):
    features = Features({"image": Image(), "label": label_type or ClassLabel(names=list(CLASSES))})
    rows = [image and {"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)]
    return Dataset.from_dict({"image": rows, "label": labels}, features=features)


def write_parquet(folder, **parts):
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        rows.to_parquet(folder / f"{part}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Write the same images as an image folder, parquet files and tar shards."""
    root = tmp_path_factory.mktemp("sets")
    tables = {}
    (root / "tars").mkdir()
    for part, folder in (("train", "train"), ("validation", "val")):
        images = draw(part)
        labels = sorted(number % 3 for number in range(len(images)))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = root / "folder" / folder / CLASSES[label] / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
        tables[part] = table(images, labels)
        for shard, rows in enumerate(np.split(np.arange(len(images)), 2)):
            with tarfile.open(root / "tars" / f"pets-{folder}-{shard:03}.tar", "w") as tar:
                for row in rows:
                    for ending, content in (("png", images[row]), ("cls", b"%d" % labels[row])):
                        entry = tarfile.TarInfo(f"{row:03}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    write_parquet(root / "parquet", **tables)
    return root


@pytest.fixture
def ready(tmp_path):
    """Return a function that makes a data module, without progress bars, and sets it up."""

    def make(path, **settings):
        settings = {"image_size": 8, "cache_dir": tmp_path / "cache"} | settings
        data = HuggingFaceDataModule(str(path), **settings)
        data.prepare_data()
        data.setup()
        return data

    return make


def everything(data):
    """Return the tensors of all parts, and of two epochs of varied training images."""
    tensors = [tensor for part in data.splits for tensor in part[torch.arange(len(part))]]
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        tensors += [tensor for batch in loader for tensor in data.on_after_batch_transfer(batch, 0)]
    return tensors


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ({"path": "parquet", "data_dir": "parquet"}, CLASSES),
        ({"path": "parquet"}, CLASSES),  # a folder, as a copy of a set of the hub is
        ({"path": "webdataset", "data_dir": "tars"}, ("0", "1", "2")),
        (
            {"path": "webdataset", "data_dir": "tars", "data_files": {"train": "*-train-*", "dev": "*-val-*"}},
            ("0", "1", "2"),
        ),
    ],
)
def test_images_are_those_of_an_image_folder(sets, ready, source, names, monkeypatch):
    monkeypatch.chdir(sets)
    if source == {"path": "parquet"}:
        source = {"path": str(sets / "parquet")}
    settings = {"batch_size": 4, "flip": True, "crop_area": (0.3, 1.0), "num_workers": 0, "test_size": 4}
    folder = ImageFolderDataModule(sets / "folder", image_size=8, **settings)
    folder.setup()
    data = ready(**source, **settings)

    assert data.class_names == names
    assert data.image_shape == (3, 8, 8)
    assert (data.mean, data.std) == (folder.mean, folder.std)
    assert [len(part) for part in data.splits] == [14, 6, 4]
    for tensor, same in zip(everything(data), everything(folder), strict=True):
        assert torch.equal(tensor, same)
    for batch, other in zip(read_pictures(data, "val"), read_pictures(folder, "val"), strict=True):
        assert all(torch.equal(*pair) for pair in zip(batch, other, strict=True))


@pytest.mark.parametrize("in_memory", [True, False])
def test_worker_processes_read_the_copy_on_the_disk(sets, ready, in_memory):
    settings = {"batch_size": 4, "crop_padding": 1, "in_memory": in_memory, "num_workers": 2}
    data = ready("parquet", data_dir=sets / "parquet", **settings)
    folder = ImageFolderDataModule(sets / "folder", image_size=8, **settings)
    folder.setup()
    for tensor, same in zip(everything(data), everything(folder), strict=True):
        assert torch.equal(tensor, same)


def test_processes_that_are_spawned_get_the_place_of_the_images_and_not_the_images(sets, ready):
    images = ready("parquet", data_dir=sets / "parquet", in_memory=False).splits.train
    sent = pickle.dumps(images)
    assert len(sent) < sum(map(len, draw("train"))) / 2
    places = torch.arange(len(images))
    assert torch.equal(pickle.loads(sent)[places][0], images[places][0])


def test_a_training_goes_on_within_an_epoch_to_the_same_weights(sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--trainer.enable_progress_bar=false"]
    fit += ["--model=BackboneModule", "--model.model_name=test_resnet", "--model.weights=null", "--model.mixup=0.2"]
    fit += ["--model.input_shape=[3,32,32]", "--checkpoint.every_n_train_steps=1", "--data=HuggingFaceDataModule"]
    fit += ["--data.path=parquet", f"--data.data_dir={sets}/parquet", "--data.cache_dir=cache", "--data.image_size=32"]
    fit += ["--data.batch_size=4", "--data.crop_area=[0.5,1]", "--data.num_workers=1", "--data.test_size=0"]
    states = []
    for place in ("whole", "stopped"):
        args = [*fit, "--trainer.default_root_dir", place]
        if place == "stopped":
            assert main([*args, *kill_at_step("SIGTERM", 7)]) == 143
            step = torch.load(f"{place}/default/version_0/checkpoints/last.ckpt")["global_step"]
            assert step % 5, "the stop is not within an epoch"
        assert main([*args, "--ckpt_path", "last"]) == 0
        checkpoint = torch.load(f"{place}/default/version_0/checkpoints/last.ckpt")
        assert checkpoint["global_step"] == 15
        states.append(checkpoint["state_dict"])
    assert len(states[0]["net.fc.bias"]) == 3  # the network learns of the classes before the images are read
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


def test_nothing_but_one_line_is_printed_and_the_copy_is_made_once(sets, ready, capfd, caplog):
    caplog.set_level("INFO")
    data = ready("webdataset", data_dir=sets / "tars")
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"{sets}/tars is copied once for fast access, to ")
    (copied,) = Path(line.removesuffix(".").rpartition(" ")[2]).glob("*train*.arrow")
    written = copied.stat().st_mtime_ns
    again = ready("webdataset", data_dir=sets / "tars")
    assert torch.equal(data.splits.train.labels, again.splits.train.labels)
    assert copied.stat().st_mtime_ns == written
    assert len(caplog.records) == 1
    assert capfd.readouterr() == ("", "")


def test_the_library_is_imported_when_data_are_read():
    code = (
        "import sys; from fvlightning import HuggingFaceDataModule; HuggingFaceDataModule('x', image_size=8);"
        "print({'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_missing_parts_are_held_out(sets, tmp_path, ready):
    rows = Dataset.from_parquet(str(sets / "parquet" / "train-00000-of-00001.parquet"), cache_dir=tmp_path)
    write_parquet(tmp_path / "set", all=rows)
    data = ready("parquet", data_dir=tmp_path / "set", val_size=6, test_size=3)
    assert [part.labels.bincount().tolist() for part in data.splits] == [[3] * 3, [2] * 3, [1] * 3]

    hidden = table(draw("validation"), [-1] * 6)
    write_parquet(tmp_path / "two", train=rows, test=hidden)
    with pytest.warns(UserWarning, match="the test images of .*two have no labels and are left out"):
        data = ready("parquet", data_dir=tmp_path / "two")
    assert [len(part) for part in data.splits] == [14, 2, 2]


@pytest.mark.parametrize(
    ("label_type", "labels", "names"),
    [
        (ClassLabel(names=["n01440764", "n02099601"]), [0, 1], ("tench", "golden retriever")),
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


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs datasets; run pip install 'fvlightning\[hub\]'$"):
        HuggingFaceDataModule("parquet", data_dir="x").setup()


def test_a_folder_that_is_not_read_is_named(sets, ready):
    with pytest.warns(UserWarning, match="data_dir has no effect: .*parquet is read, and not .*tars"):
        ready(sets / "parquet", data_dir=sets / "tars")
