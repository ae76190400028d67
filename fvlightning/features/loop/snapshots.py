"""Pictures on their way: what they were after some of the steps."""

from collections.abc import Sequence

from torch import Tensor


class Snapshots:
    """Keeps pictures that began together on the CPU, by the number of steps that they had made.

    Args:
        steps: After which steps they are wanted.
        n_pictures: How many pictures there are at first.
    """

    def __init__(self, steps: Sequence[int], n_pictures: int) -> None:
        self._pending = sorted(set(steps))
        self._kept: list[dict[int, Tensor]] = [{} for _ in range(n_pictures)]

    @property
    def are_pending(self) -> bool:
        """Whether pictures are wanted after steps that are yet to be made."""
        return bool(self._pending)

    def is_due(self, step: int) -> bool:
        """Whether pictures are wanted after `step` steps."""
        return step in self._pending

    def take(self, step: int, places: Sequence[int], pictures: Tensor) -> None:
        """Keep the pictures after `step` steps.

        Args:
            step: How many steps were made.
            places: ``(b,)``, which of the pictures at first they are.
            pictures: ``(b, C, H, W)`` as they are shown.
        """
        self._pending.remove(step)
        for place, picture in zip(places, pictures.cpu().unbind(), strict=True):
            self._kept[place][step] = picture.clone()

    def hold(self, places: Sequence[int], pictures: Tensor) -> None:
        """Keep pictures that make no more steps: after all steps that are yet to come they are as they are now.

        Args:
            places: ``(b,)``, which of the pictures at first they are.
            pictures: ``(b, C, H, W)`` as they are shown.
        """
        for place, picture in zip(places, pictures.cpu().unbind(), strict=True):
            self._kept[place].update({step: picture.clone() for step in self._pending})

    def of(self, place: int, steps: int) -> dict[int, Tensor]:
        """Return a picture's snapshots, ``(C, H, W)`` each, by their step, up to `steps`."""
        return {step: picture for step, picture in self._kept[place].items() if step <= steps}
