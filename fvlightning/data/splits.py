"""Seeded stratified splits."""

import torch
from torch import Tensor

from fvlightning.errors import InputError


def stratified_split(labels: Tensor, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split a set at random into two parts whose mix of classes is the same, as far as whole images allow.

    Each class gives its share of `held_out`, rounded down; the classes with the largest remainders give the missing
    images (the smaller class index first if remainders are equal).

    Args:
        labels: Class indices, integers ``(N,)`` of at least 0.
        held_out: Number of images in the second part.
        seed: The same seed and labels give the same split.

    Returns:
        The indices of the first part, ``(N - held_out,)``, and of the second, ``(held_out,)``: ascending int64.

    Raises:
        InputError: `held_out` is not in ``[0, N]``.
    """
    total = len(labels)
    if not 0 <= held_out <= total:
        raise InputError(f"cannot hold out {held_out} of {total} images; give a number from 0 to {total}")
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
