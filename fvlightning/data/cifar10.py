"""Small colour photographs."""

from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from fvlightning.data._download import DownloadedDataModule
from fvlightning.data.tensors import TensorImages


class CIFAR10DataModule(DownloadedDataModule):
    """CIFAR-10: 32x32 colour photographs in ten classes (https://www.cs.toronto.edu/~kriz/cifar.html).

    The official training set is split, stratified and seeded, into 45,000 images for training and 5,000 for validation;
    the official test set has 10,000. `ImageFolderDataModule` reads copies of the images as single files, in
    ``train/CLASS`` and ``test/CLASS``.

    Args:
        data_dir: Folder of the set, torchvision's ``root``: the files are in ``cifar-10-batches-py`` below it.
        batch_size: Images in a batch on each device.
        val_size: Number of training images that are held out for validation; 0 for none.
        **settings: See `DownloadedDataModule` and `ImageDataModule`.
    """

    set_name = "CIFAR-10"
    folder_name = "cifar-10-batches-py"
    file_names = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")

    def __init__(
        self, data_dir: str | Path = "data", *, batch_size: int = 128, val_size: int = 5000, **settings: Any
    ) -> None:
        super().__init__(data_dir, batch_size=batch_size, val_size=val_size, **settings)
        self.image_shape = (3, 32, 32)
        self.class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    @override
    def torchvision_set(self, **options: bool) -> Any:
        from torchvision.datasets import CIFAR10

        # torchvision compares checksums before it unpickles the files, which could hold code.
        return CIFAR10(self.data_dir, **options)

    @override
    def convert(self, torchvision_set: Any) -> TensorImages:
        images = torch.from_numpy(torchvision_set.data).permute(0, 3, 1, 2).contiguous()
        return TensorImages(images, torch.tensor(torchvision_set.targets, dtype=torch.int64))

    @override
    def advise(self) -> str:
        if (self.data_dir / "train").is_dir():
            return (
                f"{self.data_dir} looks like a folder of images: read it with --data ImageFolderDataModule "
                f"--data.data_dir {self.data_dir}"
            )
        return (
            "read image files with --data ImageFolderDataModule --data.data_dir FOLDER, set data_dir to a folder that "
            f"has {self.folder_name}, or draw simple pictures with --data ShapesDataModule, "
            "without a download"
        )
