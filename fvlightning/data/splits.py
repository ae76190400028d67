"""Seeded stratified splits."""

import torch
from torch import Tensor

from fvlightning.errors import InputError


def stratified_split(labels: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split a set into two parts that have, as far as whole images allow, the same mix of classes.

    Each class gives its share of `held_out`, rounded down; what is missing comes from the classes with the largest
    remainders (the smaller class index first where remainders are equal). The images of a class are drawn at random.

    Args:
        labels: Class indices of shape `(N,)`, integers, none of them negative.
        held_out: Number of images in the second part, in `[0, N]`.
        seed: The same seed and labels give the same split.

    Returns:
        The indices of the first part, `(N - held_out,)`, and those of the second, `(held_out,)`; both ascending and
        int64. Together they are each of `0 ... N - 1` once.

    Raises:
        InputError: If `held_out` is not in `[0, N]`.
    """
    total = len(labels)
    if not 0 <= held_out <= total:
        raise InputError(f"cannot hold out {held_out} of {total} images; give a number from 0 to {total}.")
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(labels).tolist()
    # Integers throughout: a rounding error of a float share could cost or add an image.
    quotas = [count * held_out // total if total else 0 for count in counts]
    remainders = [count * held_out % total if total else 0 for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda label: -remainders[label])
    for label in by_remainder[: held_out - sum(quotas)]:
        quotas[label] += 1

    is_held_out = torch.zeros(total, dtype=torch.bool)
    for label, quota in enumerate(quotas):
        members = (labels == label).nonzero().flatten()
        is_held_out[members[torch.randperm(len(members), generator=generator)[:quota]]] = True
    return (~is_held_out).nonzero().flatten(), is_held_out.nonzero().flatten()
