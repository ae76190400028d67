"""LightningDataModules, the sets of images that they share, and the reader of any data."""

from fvlightning.data.base import ImageDataModule, InMemoryDataModule, Splits
from fvlightning.data.cifar10 import CIFAR10DataModule
from fvlightning.data.encoded import EncodedDataModule
from fvlightning.data.file_images import report_unreadable
from fvlightning.data.hugging_face import HuggingFaceDataModule
from fvlightning.data.image_folder import ImageFolderDataModule
from fvlightning.data.mnist import MNISTDataModule
from fvlightning.data.reading import PictureBatch, pictures_by_class, read_pictures
from fvlightning.data.selection import PictureSelection
from fvlightning.data.shape_features import ShapeFeatures, measure_shapes, shows_class
from fvlightning.data.shapes import ShapesDataModule
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import ImageSet, ShuffledBatchSampler, TensorImages, batch_loader

__all__ = [
    "CIFAR10DataModule",
    "EncodedDataModule",
    "HuggingFaceDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "ImageSet",
    "InMemoryDataModule",
    "MNISTDataModule",
    "PictureBatch",
    "PictureSelection",
    "ShapeFeatures",
    "ShapesDataModule",
    "ShuffledBatchSampler",
    "Splits",
    "TensorImages",
    "batch_loader",
    "measure_shapes",
    "pictures_by_class",
    "read_pictures",
    "report_unreadable",
    "shows_class",
    "stratified_split",
]
