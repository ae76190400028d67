"""Parquet files and tar shards against an image folder with the same files."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from finetuning import kill_at_step
from shards import CLASSES, draw, table, write_parquet

from fvlightning.cli import main
from fvlightning.data import ImageFolderDataModule, read_pictures


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


def test_libraries_are_imported_when_they_are_used():
    # TensorBoard's writer imports TensorFlow where that is installed.
    code = (
        "import sys; import fvlightning.output; from fvlightning import HuggingFaceDataModule;"
        "HuggingFaceDataModule('x', image_size=8);"
        "print({'datasets', 'pyarrow', 'huggingface_hub', 'torch.utils.tensorboard'} & set(sys.modules))"
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
