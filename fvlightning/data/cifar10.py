"""Small colour photographs."""

from pathlib import Path

import torch
from torch import Tensor

from fvlightning.data.augment import PaddingMode
from fvlightning.data.download import one_line, socket_timeout
from fvlightning.data.in_memory import InMemoryDataModule
from fvlightning.data.tensors import TensorImages
from fvlightning.errors import InputError

_FOLDER = "cifar-10-batches-py"
_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


class CIFAR10DataModule(InMemoryDataModule):
    """CIFAR-10, 32x32 colour photographs in ten classes (https://www.cs.toronto.edu/~kriz/cifar.html).

    For training, validation and test there are 45,000 and 5,000 images of the official training set, split stratified
    and seeded, and the official test set of 10,000. Copies of the images as single files, in `train/CLASS` and
    `test/CLASS`, are read by `ImageFolderDataModule`.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        batch_size: int = 128,
        val_size: int = 5000,
        seed: int = 0,
        crop_padding: int = 0,
        padding_mode: PaddingMode = "reflect",
        flip: bool = False,
        download: bool = True,
    ) -> None:
        """Check and keep the settings; nothing is read yet.

        Args:
            data_dir: Folder of the set, torchvision's `root`: the files are in `cifar-10-batches-py` below it.
            batch_size: Images in a batch, of each device.
            val_size: Number of training images that are held out for validation; 0 for none.
            seed: Seed of the split, and of the order and the variations of the training images, which change with every
                epoch.
            crop_padding: Pixels that training images are shifted by at most, up or down and left or right; 4 is usual.
            padding_mode: What comes in at the edge: `reflect`, the image mirrored, or `zeros`, black.
            flip: Whether every other training image is mirrored, left and right exchanged.
            download: Whether the set is downloaded where `data_dir` does not have it.

        Raises:
            InputError: If a setting is out of its range.
        """
        super().__init__(
            batch_size=batch_size,
            val_size=val_size,
            seed=seed,
            crop_padding=crop_padding,
            padding_mode=padding_mode,
            flip=flip,
        )
        self.data_dir = Path(data_dir)
        self.download = download
        self.image_shape = (3, 32, 32)
        self.class_names = (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        )

    def prepare_data(self) -> None:
        """Download the set if it is wanted and not there. Lightning calls it on one process.

        Raises:
            InputError: If it is not there and cannot be had.
        """
        if self._is_on_disk():
            return
        if not self.download:
            raise self._missing("download is off")
        from torchvision.datasets import CIFAR10

        try:
            with socket_timeout():
                CIFAR10(self.data_dir, download=True)
        except (OSError, RuntimeError) as error:
            raise self._missing(f"the download failed ({one_line(error)})") from error

    def load(self) -> tuple[TensorImages, TensorImages]:
        """Read the set from the disk.

        Raises:
            InputError: If the files are missing or damaged.
        """
        if not self._is_on_disk():
            raise self._missing("nothing was downloaded")
        return self._read(train=True), self._read(train=False)

    def _is_on_disk(self) -> bool:
        return all((self.data_dir / _FOLDER / name).is_file() for name in _FILES)

    def _read(self, train: bool) -> TensorImages:
        from torchvision.datasets import CIFAR10

        try:
            # It compares the files' checksums with the official ones first: they are pickles, which could hold code.
            source = CIFAR10(self.data_dir, train=train, download=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"cannot read {(self.data_dir / _FOLDER).resolve()}: {one_line(error)}. The files are damaged or "
                "incomplete; delete the folder to have them downloaded again."
            ) from error
        images: Tensor = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        return TensorImages(images, torch.tensor(source.targets, dtype=torch.int64))

    def _missing(self, reason: str) -> InputError:
        if (self.data_dir / "train").is_dir():
            fix = (
                f"{self.data_dir} looks like a folder of images: read it with --data ImageFolderDataModule "
                f"--data.data_dir {self.data_dir}."
            )
        else:
            fix = (
                "Images in files are read with --data ImageFolderDataModule --data.data_dir FOLDER; the files of "
                f"CIFAR-10 itself with data_dir, a folder that has {_FOLDER}; --data ShapesDataModule draws simple "
                "pictures, and needs no download."
            )
        return InputError(f"no CIFAR-10 in {(self.data_dir / _FOLDER).resolve()}: {reason}. {fix}")
