"""Snapshots: how pictures looked after some of the steps."""

from collections.abc import Sequence

from torch import Tensor


class Snapshots:
    """Keeps the pictures of a batch on the CPU, by the number of steps made.

    Args:
        steps: Numbers of steps after which pictures are kept.
        n_pictures: The number of pictures in the initial batch.
    """

    def __init__(self, steps: Sequence[int], n_pictures: int) -> None:
        self._pending = sorted(set(steps))
        self._pictures: list[dict[int, Tensor]] = [{} for _ in range(n_pictures)]

    @property
    def are_pending(self) -> bool:
        """Whether any snapshot is still to come."""
        return bool(self._pending)

    def is_due(self, step: int) -> bool:
        """Whether pictures are kept after `step` steps."""
        return step in self._pending

    def take(self, step: int, rows: Sequence[int], pictures: Tensor) -> None:
        """Keep the displayed pictures ``(b, C, H, W)`` of some rows after `step` steps."""
        self._pending.remove(step)
        for row, picture in zip(rows, pictures.cpu().unbind(), strict=True):
            self._pictures[row][step] = picture.clone()

    def hold(self, rows: Sequence[int], pictures: Tensor) -> None:
        """Keep pictures ``(b, C, H, W)`` that make no more steps, for all snapshots that are still to come."""
        for row, picture in zip(rows, pictures.cpu().unbind(), strict=True):
            self._pictures[row].update({step: picture.clone() for step in self._pending})

    def of(self, row: int, steps: int) -> dict[int, Tensor]:
        """Return the snapshots of a row, ``(C, H, W)`` each, by their step, up to `steps`."""
        return {step: picture for step, picture in self._pictures[row].items() if step <= steps}
