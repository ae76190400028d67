"""Sets of images that live in memory, batched by slicing.

A small set fits into memory as bytes. Indexing a whole batch out of one tensor costs microseconds, where decoding,
converting and collating image by image costs more than training a small network does.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override


class ImageSet(Dataset[tuple[Tensor, Tensor]]):
    """Images of one size and their labels; a tensor of indices gives a whole batch.

    Attributes:
        labels: Class indices, int64 of shape `(N,)`.
    """

    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8 of shape `(B, C, H, W)`, and labels `(B,)` at `index`, int64 of shape `(B,)`."""

    @abstractmethod
    def subset(self, indices: Tensor) -> Self:
        """Return the images at `indices`, int64 of shape `(M,)`, in that order."""

    def training_batch(self, indices: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images and labels, with the random numbers that `fvlightning.data.augment` varies each image by.

        Args:
            indices: int64 of shape `(B,)`.
            draws: Whole numbers of shape `(B, N_DRAWS)`.
        """
        images, labels = self[indices]
        return images, labels, draws


class TensorImages(ImageSet):
    """Images and labels in memory."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        """Keep the tensors, without a copy.

        Args:
            images: Pictures as bytes, uint8 of shape `(N, C, H, W)`.
            labels: Class indices, int64 of shape `(N,)`.
        """
        assert images.dtype == torch.uint8, f"images must be uint8, got {images.dtype}"
        assert images.ndim == 4, f"images must be (N, C, H, W), got {tuple(images.shape)}"
        assert labels.dtype == torch.int64, f"labels must be int64, got {labels.dtype}"
        assert labels.shape == images.shape[:1], f"{len(images)} images, labels of shape {tuple(labels.shape)}"
        self.images = images
        self.labels = labels

    @override
    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels at `index`: `(B, C, H, W)` and `(B,)` for a slice or a tensor `(B,)`."""
        return self.images[index], self.labels[index]

    @override
    def subset(self, indices: Tensor) -> "TensorImages":
        """Return a copy of the images at `indices`, int64 of shape `(M,)`, in that order."""
        return TensorImages(self.images[indices], self.labels[indices])


class ShuffledBatchSampler(DistributedSampler[Tensor]):
    """Yield one rank's indices for training, a batch at a time, as tensors, in a new order every epoch.

    It is a `DistributedSampler`, so Lightning calls `set_epoch` on it and does not put one of its own in its place. The
    permutation and each rank's part are those of torch's `DistributedSampler`: seeded by `seed + epoch`, every
    `num_replicas`-th index. Each rank has equally many, so a few indices come twice where the size of the set is no
    multiple of `num_replicas`: a rank that took one step more than the others would wait for them for ever.
    """

    def __init__(self, dataset: ImageSet, batch_size: int, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        """Sample for one rank of `num_replicas`.

        Args:
            dataset: The set that is sampled; only its length is used.
            batch_size: Indices in a batch, of one rank. The last batch is smaller where the numbers do not divide.
            num_replicas: Number of ranks.
            rank: The rank whose indices are given, in `[0, num_replicas)`.
            seed: Seed of the permutations.
        """
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed)
        self.size = len(dataset)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield int64 tensors of shape `(B,)`."""
        order = torch.randperm(self.size, generator=self._generator())
        part = _padded_part(order, self.num_replicas, self.rank)
        for start in range(0, len(part), self.batch_size):
            yield part[start : start + self.batch_size]

    def _generator(self) -> torch.Generator:
        """Return the generator of this epoch, at its start."""
        return torch.Generator().manual_seed(self.seed + self.epoch)


class OrderedBatchSampler(DistributedSampler[Tensor], SequentialSampler):
    """Yield one rank's indices for evaluation, a batch at a time, as tensors, in their order.

    Each index comes exactly once, so that a metric that is summed over the ranks is that of the set. All ranks have
    equally many batches, whose sizes differ by one at most; only where that would leave a rank with an empty batch do
    a few indices come twice.

    It is a `SequentialSampler` too, by which Lightning knows that it does not shuffle (`overfit_batches`).
    """

    def __init__(self, dataset: ImageSet, batch_size: int, num_replicas: int = 1, rank: int = 0) -> None:
        """Sample for one rank of `num_replicas`.

        Args:
            dataset: The set that is sampled, not empty; only its length is used.
            batch_size: Indices in a batch, of one rank, at most.
            num_replicas: Number of ranks.
            rank: The rank whose indices are given, in `[0, num_replicas)`.
        """
        DistributedSampler.__init__(self, dataset, num_replicas, rank, shuffle=False)
        self.size = len(dataset)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]  # `SequentialSampler` is one of int
        """Yield int64 tensors of shape `(B,)`."""
        order = torch.arange(self.size)
        if self.size // self.num_replicas >= len(self):
            part = order[self.rank :: self.num_replicas]
        else:
            part = _padded_part(order, self.num_replicas, self.rank)
        yield from part.tensor_split(len(self))


def _padded_part(order: Tensor, num_replicas: int, rank: int) -> Tensor:
    """Return the part of `order` that is this rank's, its start repeated until all ranks have equally many."""
    total = -(-len(order) // num_replicas) * num_replicas
    repeats = -(-total // max(len(order), 1))
    return order.repeat(repeats)[rank:total:num_replicas]


def batch_loader(
    dataset: Dataset[Any], sampler: ShuffledBatchSampler | OrderedBatchSampler, num_workers: int = 0
) -> DataLoader[Any]:
    """Return a loader of batches `(B, C, H, W)` uint8 and `(B,)` int64, one for each item of `sampler`.

    Args:
        dataset: The set; it is indexed with the items of `sampler`.
        sampler: Gives the indices of whole batches.
        num_workers: Processes that read. None for images in memory: a worker would spend more on sending a batch than
            on indexing it.
    """
    # As `sampler` with automatic batching off, since the sampler's items are batches already.
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=num_workers > 0 and torch.cuda.is_available(),
    )


def to_unit_range(images: Tensor) -> Tensor:
    """Turn bytes into pictures: uint8 of any shape to float32 in [0, 1], 255 to 1."""
    return images.to(torch.float32).div_(255)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, of the values in [0, 1].

    Counted by value, so it is exact and makes no float copy of the set.

    Args:
        images: Bytes, uint8 of shape `(N, C, H, W)`, N at least 1.

    Returns:
        C means and C standard deviations (of the population). A channel of one value has the deviation 0.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        means.append(mean.item())
        deviations.append((share * (values - mean).square()).sum().sqrt().item())
    return tuple(means), tuple(deviations)
