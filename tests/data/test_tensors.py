from collections import Counter

import pytest
import torch
from torch.utils.data.distributed import DistributedSampler

from fvlightning.data.tensors import OrderedBatchSampler, ShuffledBatchSampler, TensorImages


def numbered_images(count, channels=1):
    """Images whose pixels are their index."""
    images = torch.arange(count).to(torch.uint8)[:, None, None, None].expand(count, channels, 2, 3).contiguous()
    return TensorImages(images, torch.arange(count) % 10)


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 10, 64, 65, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_shuffled_batches_are_those_of_torchs_sampler(replicas, count, batch_size):
    images = numbered_images(count)
    for rank in range(replicas):
        reference = DistributedSampler(images, replicas, rank, shuffle=True, seed=5)
        sampler = ShuffledBatchSampler(images, batch_size, replicas, rank, seed=5)
        for epoch in (0, 1):
            reference.set_epoch(epoch)
            sampler.set_epoch(epoch)
            batches = [batch.tolist() for batch in sampler]

            assert [index for batch in batches for index in batch] == list(reference)
            assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
            assert len(sampler) == len(batches)


def test_the_order_changes_with_the_epoch():
    sampler = ShuffledBatchSampler(numbered_images(100), 100)
    (first,) = sampler
    sampler.set_epoch(1)
    (second,) = sampler

    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("count", [3, 10, 64, 65, 100, 129])
@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_ordered_batches_hold_every_image_once_and_are_equally_many(replicas, count, batch_size):
    images = numbered_images(count)
    by_rank = [
        [batch.tolist() for batch in OrderedBatchSampler(images, batch_size, replicas, rank)]
        for rank in range(replicas)
    ]

    for rank, batches in enumerate(by_rank):
        assert [index for batch in batches for index in batch] == list(range(rank, count, replicas))
        assert len(batches) == len(by_rank[0]) == len(OrderedBatchSampler(images, batch_size, replicas, rank))
        assert all(0 < len(batch) <= batch_size for batch in batches)


def test_ordered_batches_repeat_an_image_where_a_rank_would_have_an_empty_batch():
    by_rank = [[b.tolist() for b in OrderedBatchSampler(numbered_images(4), 1, 3, rank)] for rank in range(3)]

    assert by_rank == [[[0], [3]], [[1], [0]], [[2], [1]]]
    assert set(Counter(index for batches in by_rank for (index,) in batches)) == {0, 1, 2, 3}
