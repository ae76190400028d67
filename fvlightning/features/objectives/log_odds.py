"""The log-odds of a class."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from fvlightning.features.capture import Activations
from fvlightning.features.objectives.base import moved_once
from fvlightning.features.units import LayerCall, Unit


class RivalClasses:
    """The log-sum-exp of the other classes' logits: a logit minus this is ``log(p / (1 - p))`` of the class.

    Args:
        classes: For each picture of a batch, the unit of the network's output that it shows, or None.
    """

    def __init__(self, classes: Sequence[Unit | None]) -> None:
        places: dict[LayerCall, list[tuple[int, int | None]]] = defaultdict(list)
        for row, unit in enumerate(classes):
            if unit is not None:
                places[unit.layer_call].append((row, unit.index))
        self._n_pictures = len(classes)
        self._places = {layer: moved_once(*torch.tensor(pairs).unbind(1)) for layer, pairs in places.items()}

    def __call__(self, activations: Activations, dtype: torch.dtype) -> Tensor:
        """Return the mean over the n transformed pictures of each picture, ``(B,)``, in `dtype`; 0 without a class.

        The activations are those of ``B * n`` pictures, the n of a picture next to each other.
        """
        device = next(iter(activations.values())).tensor.device
        scores = torch.zeros(self._n_pictures, dtype=dtype, device=device)
        for layer, places in self._places.items():
            rows, indices = places(device)
            logits = activations[layer].values.to(dtype)
            logits = logits.reshape(self._n_pictures, -1, logits.shape[1])[rows]
            own_class = indices[:, None, None].expand(-1, logits.shape[1], 1)
            # A non-finite logit must not spoil the other classes: the picture of its own class fails by itself.
            others = logits.masked_fill(~logits.isfinite(), -torch.inf).scatter(2, own_class, -torch.inf)
            scores = scores.index_put((rows,), others.logsumexp(2).mean(1))
        return scores
