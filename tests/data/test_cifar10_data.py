import hashlib
import pickle
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from fvlightning.data import CIFAR10DataModule
from fvlightning.errors import InputError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def cifar_dir(tmp_path, monkeypatch):
    """A folder with 200 training and 40 test images in CIFAR-10's files; torchvision is made to expect them."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(number):
        return {
            "data": rng.integers(0, 256, (40, 3072), dtype=np.uint8),
            "labels": [(number + i) % 10 for i in range(40)],
        }

    train = [write(f"data_batch_{number}", batch(number)) for number in range(1, 6)]
    test = [write("test_batch", batch(0))]
    meta = write("batches.meta", {"label_names": NAMES})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return tmp_path


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_images_are_those_that_torchvision_reads(cifar_dir):
    from torchvision.transforms.functional import to_tensor

    data = CIFAR10DataModule(cifar_dir, val_size=0)
    data.prepare_data()
    data.setup()
    for part, train in ((data.splits.train, True), (data.splits.test, False)):
        reference = CIFAR10(cifar_dir, train=train)
        pictures, labels = data.on_after_batch_transfer(part[:], 0)

        assert labels.tolist() == [label for _, label in reference]
        assert torch.equal(pictures, torch.stack([to_tensor(picture) for picture, _ in reference]))


def test_shape_names_splits_and_statistics(cifar_dir):
    data = CIFAR10DataModule(cifar_dir, val_size=50, crop_padding=4, flip=True)
    data.setup()

    assert data.image_shape == (3, 32, 32)
    assert list(data.class_names) == NAMES
    assert [len(part) for part in data.splits] == [150, 50, 40]
    assert data.splits.val.labels.bincount().tolist() == [5] * 10
    assert data.mean == pytest.approx((0.5,) * 3, abs=0.01)
    assert data.std == pytest.approx((12**-0.5,) * 3, abs=0.01)


def test_missing_data_without_a_network_are_reported_with_advice(tmp_path, no_network):
    with pytest.raises(InputError, match=r"no CIFAR-10 in .*: the download failed .*--data \w+ ") as caught:
        CIFAR10DataModule(tmp_path / "nothing").prepare_data()

    assert str(tmp_path / "nothing" / "cifar-10-batches-py") in str(caught.value)
    assert "no network" in str(caught.value)
    # The advice must hold for commands that do not train, too.
    assert "train " not in str(caught.value)
    assert str(caught.value).index("--data ImageFolderDataModule --data.data_dir FOLDER") < str(caught.value).index(
        "--data ShapesDataModule"
    )
    assert "\n" not in str(caught.value)


def test_missing_data_are_refused_if_download_is_off(tmp_path):
    with pytest.raises(InputError, match=r"no CIFAR-10 in .*: download is off"):
        CIFAR10DataModule(tmp_path, download=False).prepare_data()
    with pytest.raises(InputError, match="nothing was downloaded"):
        CIFAR10DataModule(tmp_path).setup()


def test_a_folder_of_images_is_recognised(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match=r"looks like a folder of images: .* --data Image\w+ --data.data_dir /"):
        CIFAR10DataModule(tmp_path, download=False).prepare_data()


def test_a_damaged_file_is_not_unpickled(cifar_dir):
    class Harmful:
        def __reduce__(self):
            return pytest.fail, ("code of the file was run",)

    (cifar_dir / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError, match=r"cannot read .*cifar-10-batches-py: .*damaged or incomplete"):
        CIFAR10DataModule(cifar_dir, val_size=0).setup()
