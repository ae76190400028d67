"""LightningDataModules, and the in-memory sets that they share."""

from fvlightning.data.base import InMemoryDataModule, Splits
from fvlightning.data.mnist import MNISTDataModule
from fvlightning.data.splits import stratified_split
from fvlightning.data.tensors import (
    OrderedBatchSampler,
    ShuffledBatchSampler,
    TensorImages,
    channel_statistics,
    to_unit_range,
)

__all__ = [
    "InMemoryDataModule",
    "MNISTDataModule",
    "OrderedBatchSampler",
    "ShuffledBatchSampler",
    "Splits",
    "TensorImages",
    "channel_statistics",
    "stratified_split",
    "to_unit_range",
]
