"""Pictures on their way: what they were after some of the steps."""

from collections.abc import Sequence

from torch import Tensor


class Snapshots:
    """Keeps pictures of a batch on the CPU, by the number of steps that they had made.

    Args:
        steps: After which steps they are wanted.
        n_pictures: How many pictures the batch has at first.
    """

    def __init__(self, steps: Sequence[int], n_pictures: int) -> None:
        self._pending = sorted(set(steps))
        self._held: dict[int, Tensor] = {}
        self._kept: list[dict[int, Tensor]] = [{} for _ in range(n_pictures)]

    def is_due(self, step: int) -> bool:
        """Whether pictures are wanted after `step` steps."""
        return step in self._pending

    def take(self, step: int, places: Sequence[int], pictures: Tensor) -> None:
        """Keep the pictures after `step` steps; those that have left the batch are as they were then.

        Args:
            step: How many steps were made.
            places: ``(b,)``, which of the batch's pictures at first they are.
            pictures: ``(b, C, H, W)`` as they are shown.
        """
        self._pending.remove(step)
        for place, picture in [*zip(places, pictures.cpu().unbind(), strict=True), *self._held.items()]:
            self._kept[place][step] = picture.clone()

    def hold(self, places: Sequence[int], pictures: Tensor) -> None:
        """Keep pictures that leave the batch, for the steps that others have yet to make.

        Args:
            places: ``(b,)``, which of the batch's pictures at first they are.
            pictures: ``(b, C, H, W)`` as they are shown.
        """
        if self._pending:
            self._held.update(zip(places, pictures.cpu().unbind(), strict=True))

    def of(self, place: int, steps: int) -> dict[int, Tensor]:
        """Return a picture's snapshots, ``(C, H, W)`` each, by their step, up to `steps`.

        They are the same whether others in the batch went on after the picture had stopped or not.
        """
        rest = {step: self._held[place] for step in self._pending if step <= steps and place in self._held}
        return self._kept[place] | rest
