import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fvlightning.data import stratified_split
from fvlightning.errors import InputError


@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=200), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_parts_are_disjoint_complete_of_the_size_asked_for_and_stratified(labels, share, seed):
    targets = torch.tensor(labels)
    size = round(share * len(labels))

    kept, held_out = stratified_split(targets, size, seed)

    assert len(held_out) == size
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held_out.tolist() == sorted(held_out.tolist())
    for label in set(labels):
        exact = labels.count(label) * size / len(labels)
        assert abs(targets[held_out].tolist().count(label) - exact) < 1


def test_the_seed_decides_which_images_are_held_out():
    targets = torch.arange(1000) % 10
    first, again, other = (stratified_split(targets, 100, seed)[1] for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # A draw, not the first of each class.
    assert first.float().mean() == pytest.approx(500, abs=100)


@pytest.mark.parametrize("size", [-1, 11])
def test_a_size_that_the_set_does_not_have_is_refused(size):
    with pytest.raises(InputError, match=f"cannot hold out {size} of 10 images; give a number from 0 to 10"):
        stratified_split(torch.zeros(10, dtype=torch.int64), size, 0)
