"""LightningDataModules, and the sets of images that they share."""

from fvlightning.data.augment import CropAndFlip
from fvlightning.data.base import ImageDataModule, Splits
from fvlightning.data.cifar10 import CIFAR10DataModule
from fvlightning.data.file_images import FileImages
from fvlightning.data.image_folder import ImageFolderDataModule
from fvlightning.data.in_memory import InMemoryDataModule
from fvlightning.data.mnist import MNISTDataModule
from fvlightning.data.shape_features import ShapeFeatures, measure_shapes, shows_class
from fvlightning.data.shapes_data import ShapesDataModule
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import (
    ImageSet,
    OrderedBatchSampler,
    ShuffledBatchSampler,
    TensorImages,
    channel_statistics,
    to_unit_range,
)

__all__ = [
    "CIFAR10DataModule",
    "CropAndFlip",
    "FileImages",
    "ImageDataModule",
    "ImageFolderDataModule",
    "ImageSet",
    "InMemoryDataModule",
    "MNISTDataModule",
    "OrderedBatchSampler",
    "ShapeFeatures",
    "ShapesDataModule",
    "ShuffledBatchSampler",
    "Splits",
    "TensorImages",
    "channel_statistics",
    "measure_shapes",
    "shows_class",
    "stratified_split",
    "to_unit_range",
]
