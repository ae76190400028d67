"""What a class has to stand out from: the other classes."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from fvlightning.features.capture.capture import Activations
from fvlightning.features.objectives.base import MovedOnce
from fvlightning.features.units import LayerCall, Unit


class Rivals:
    """What the other classes have together, the logarithm of the sum of their logits' exponentials, for each picture.

    A logit less this is the logarithm of the odds of the class, p / (1 - p).

    Args:
        classes: Of each picture of a batch the unit of the network's output that it is made of, or None.
    """

    def __init__(self, classes: Sequence[Unit | None]) -> None:
        places: dict[LayerCall, list[tuple[int, int]]] = defaultdict(list)
        for row, unit in enumerate(classes):
            if unit is not None:
                assert unit.index is not None
                places[unit.layer_call].append((row, unit.index))
        self._n_pictures = len(classes)
        self._places = {
            layer: MovedOnce(*(torch.tensor(numbers) for numbers in zip(*each, strict=True)))
            for layer, each in places.items()
        }

    def __call__(self, activations: Activations, dtype: torch.dtype) -> Tensor:
        """Return this for each picture, ``(B,)``, the mean over its views, and 0 for pictures that are of no class.

        Args:
            activations: Of ``B * views`` views, those of a picture together.
            dtype: That of the result, in which it is computed.
        """
        device = next(iter(activations.values())).tensor.device
        found = torch.zeros(self._n_pictures, dtype=dtype, device=device)
        for layer, own_places in self._places.items():
            rows, indices = own_places(device)
            logits = activations[layer].values.to(dtype)
            of_views = logits.reshape(self._n_pictures, -1, logits.shape[1])[rows]
            own = indices[:, None, None].expand(-1, of_views.shape[1], 1)
            # A class whose logit is no number fails by itself.
            others = of_views.masked_fill(~of_views.isfinite(), -torch.inf).scatter(2, own, -torch.inf)
            found = found.index_put((rows,), others.logsumexp(2).mean(1))
        return found
