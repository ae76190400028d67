"""The random numbers that the views are drawn by."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Draws:
    """The random numbers of a batch of pictures, each picture's from its own generator, on the pictures' device.

    They are drawn for many steps at once: one transfer to the device, and no wait for it, in every `block` steps.

    Args:
        generators: One a picture, on the CPU.
        n_draws: How many numbers one step of one picture takes.
        device: Where they are wanted.
        block: For how many steps they are drawn at once.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], n_draws: int, device: torch.device, block: int = 32
    ) -> None:
        self._generators = list(generators)
        self._n_draws = n_draws
        self._device = device
        self._block = block
        self._drawn = torch.empty(0, len(self._generators), n_draws)
        self._next = block

    def step(self) -> Tensor:
        """Return the next step's numbers, ``(B, n_draws)``, uniform in [0, 1)."""
        if self._next == self._block:
            shape = (self._block, self._n_draws)
            drawn = torch.stack([torch.rand(shape, generator=generator) for generator in self._generators], dim=1)
            self._drawn = drawn.to(self._device, non_blocking=True)
            self._next = 0
        self._next += 1
        return self._drawn[self._next - 1]

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all pictures but those at `rows`."""
        self._generators = [self._generators[row] for row in rows]
        self._drawn = self._drawn[:, list(rows)]
