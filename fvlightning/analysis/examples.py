"""The images of a set that excite units most and least, in one pass, with memory that does not grow with the set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fvlightning.data import PictureSelection
from fvlightning.features import (
    Activation,
    Capture,
    LayerCall,
    Objective,
    Unit,
    isolated_rng,
    objective_of,
    resolve_objectives,
)
from fvlightning.features.capture import device_and_dtype, frozen
from fvlightning.features.objectives import Pooling
from fvlightning.output import Example, UnitExamples

_N_SAMPLED = 1000
_N_BINS = 20
_N_PARTS = 10


class UnitScorer:
    """Scores of units for pictures: one pass of the network for all layers, one operation for all units of a layer.

    Args:
        network: Any module that takes pictures.
        units: Units and objectives that fit the network (`resolve_objectives`).
        pooling: See `fvlightning.features.UnitActivation`.
    """

    def __init__(self, network: nn.Module, units: Sequence[Unit | Objective], pooling: Pooling = "mean") -> None:
        self._network = network
        self._pooling = pooling
        self._n_units = len(units)
        self._device, self._dtype = device_and_dtype(network)
        columns: dict[LayerCall, list[int]] = defaultdict(list)
        self._objectives: dict[int, Objective] = {}
        for column, unit in enumerate(units):
            if isinstance(unit, Unit) and unit.index is not None and not unit.position and not unit.minimize:
                columns[unit.layer_call].append(column)
            else:
                self._objectives[column] = objective_of(unit, pooling)
        self._layers = {
            layer: (torch.tensor(places), torch.tensor([units[place].index for place in places]))  # type: ignore[union-attr]
            for layer, places in columns.items()
        }
        layers = self._layers.keys() | {layer for one in self._objectives.values() for layer in one.layers}
        self._capture = Capture(network, layers)

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of pictures ``(B, C, H, W)``, and whether an activation is above 0 at any position.

        Both are ``(B, U)``, float32 and bool, on the network's device. An objective is active if its score is above 0.
        """
        for column, objective in self._objectives.items():
            self._objectives[column] = objective.prepared(self._network, pictures.shape[1:])
        with isolated_rng(), frozen(self._network), torch.no_grad():
            activations = self._capture(pictures.to(self._device, self._dtype))
            scores = torch.empty(len(pictures), self._n_units, device=self._device)
            is_active = torch.empty_like(scores, dtype=torch.bool)
            for layer, (columns, indices) in self._layers.items():
                pooled, largest = _pooled(activations[layer], self._pooling)
                scores[:, columns] = pooled[:, indices].float()
                is_active[:, columns] = largest[:, indices] > 0
            for column, objective in self._objectives.items():
                scores[:, column] = objective(activations).float()
                is_active[:, column] = scores[:, column] > 0
        return scores, is_active


def _pooled(activation: Activation, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Return what `pooling` and the maximum make of each unit's positions, ``(B, C)`` each."""
    tensor = activation.tensor
    if tensor.ndim == 2:
        return tensor, tensor
    if tensor.ndim == 3:
        tensor = tensor[:, :, activation.prefix_tokens :]
    positions = tuple(range(2, tensor.ndim))
    largest = tensor.amax(positions)
    if pooling == "mean":
        return tensor.mean(positions), largest
    n_positions = tensor[0, 0].numel()
    return torch.linalg.vector_norm(tensor, dim=positions) / n_positions**0.5, largest


class _State(NamedTuple):
    """What is kept of the images so far; S are sampled, and the K most and least are kept. U is the number of units."""

    n_images: Tensor  # (U,), with a finite score
    n_non_finite: Tensor  # (U,)
    n_active: Tensor  # (U,)
    high: Tensor  # (U, K), scores of the strongest
    high_places: Tensor  # (U, K)
    low: Tensor  # (U, K), negative scores of the weakest
    low_places: Tensor  # (U, K)
    sample: Tensor  # (S, U), scores
    sample_places: Tensor  # (S,), on the CPU
    last_place: Tensor  # (), the greatest of all, on the CPU; -1 without any


class RunningExamples:
    """The `k` highest and lowest scores of each unit with the places of their images, and scores of a random sample.

    Images come batch by batch, in any order, and their scores are forgotten: the memory depends on the numbers of units
    and of examples alone. If scores are equal, the lower place comes first. The sample follows a fixed random order
    of all places, so that it does not depend on batches and ranks.

    Args:
        n_units: U, the number of units.
        k: How many images are kept at each end, at least 1.
        device: Where the scores are kept.
    """

    def __init__(self, n_units: int, k: int, device: torch.device | str = "cpu") -> None:
        self.k = k
        counts, scores = torch.zeros(n_units, dtype=torch.int64, device=device), torch.empty(n_units, 0, device=device)
        none, places = scores.new_empty(0, n_units), torch.empty(0, dtype=torch.int64)
        ends = (scores, scores.long()) * 2
        self._state = _State(counts, counts, counts, *ends, none, places, torch.tensor(-1))

    @property
    def last_place(self) -> int:
        """The greatest place of all images, -1 without any."""
        return int(self._state.last_place)

    def add(self, scores: Tensor, is_active: Tensor, places: Tensor) -> None:
        """Add images.

        Args:
            scores: ``(B, U)``; scores that are not finite are counted and left out.
            is_active: Whether the units are active, bool ``(B, U)``.
            places: Numbers of the images in the set, int64 ``(B,)``, each at most once in all batches.
        """
        device = self._state.high.device
        scores, is_active, places = scores.to(device), is_active.to(device), places.cpu()
        is_finite = scores.isfinite()
        rows = places.to(device).expand(len(scores.T), -1)
        n_finite = is_finite.sum(0)
        self._join(
            _State(
                n_finite,
                len(scores) - n_finite,
                (is_active & is_finite).sum(0),
                torch.where(is_finite, scores, -torch.inf).T,
                rows,
                torch.where(is_finite, -scores, -torch.inf).T,
                rows,
                scores,
                places,
                places.max(),
            )
        )

    def merge(self, other: "RunningExamples") -> None:
        """Add the images of another of these, for the same units."""
        self._join(self._moved(other.state_dict()))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is kept, as tensors by name."""
        return self._state._asdict()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` has returned."""
        self._state = self._moved(tensors)

    def _moved(self, tensors: Mapping[str, Tensor]) -> _State:
        return _State(**{name: tensors[name].to(own.device) for name, own in self._state._asdict().items()})

    def _join(self, new: _State) -> None:
        old = self._state
        sample, sample_places = old.sample, old.sample_places
        order = _random_order(torch.cat([sample_places, new.sample_places]))[:_N_SAMPLED]
        if bool((order >= len(sample_places)).any()):
            sample = torch.cat([sample, new.sample])[order.to(sample.device)]
            sample_places = torch.cat([sample_places, new.sample_places])[order]
        # One assignment, so that an interruption leaves the images of whole batches.
        self._state = _State(
            old.n_images + new.n_images,
            old.n_non_finite + new.n_non_finite,
            old.n_active + new.n_active,
            *_highest(old.high, old.high_places, new.high, new.high_places, self.k),
            *_highest(old.low, old.low_places, new.low, new.low_places, self.k),
            sample,
            sample_places,
            torch.maximum(old.last_place, new.last_place),
        )

    def results(self, units: Sequence[Unit | Objective]) -> list[UnitExamples]:
        """Return what is known of each unit; the examples have places and scores only."""
        state = _State(*(tensor.cpu() for tensor in self._state))
        by_place = state.sample_places.argsort()
        sample, sample_places = state.sample[by_place], state.sample_places[by_place]
        results = []
        for row, unit in enumerate(units):
            strongest = _examples(state.high[row], state.high_places[row])
            weakest = _examples(-state.low[row], state.low_places[row])
            is_finite = sample[:, row].isfinite()
            sampled, order = sample[is_finite, row].sort(descending=True, stable=True)
            middles = _middles(len(sampled))
            n_images = int(state.n_images[row])
            low, high = (weakest[0].score, strongest[0].score) if n_images else (None, None)
            results.append(
                UnitExamples(
                    unit=str(unit),
                    n_images=n_images,
                    n_non_finite=int(state.n_non_finite[row]),
                    active=int(state.n_active[row]) / max(n_images, 1),
                    minimum=low,
                    maximum=high,
                    histogram=_histogram(sampled, low, high),
                    strongest=strongest,
                    tenths=_examples(sampled[middles], sample_places[is_finite][order][middles]),
                    weakest=weakest,
                )
            )
        return results


def find_examples(
    network: nn.Module,
    units: Sequence[str | Unit | Objective] | str,
    selection: PictureSelection,
    *,
    k: int = 5,
    pooling: Pooling = "mean",
) -> list[UnitExamples]:
    """Return the places of the pictures that excite units most and least, with their scores, in one pass.

    Args:
        network: Any module that takes pictures.
        units: See `fvlightning.features.resolve_objectives`.
        selection: The pictures of any data.
        k: How many are returned at each end.
        pooling: See `fvlightning.features.UnitActivation`.

    Raises:
        InputError: A unit cannot be used, or there are no pictures.
    """
    resolved = resolve_objectives(network, units, selection.image_shape, pooling)
    running = RunningExamples(len(resolved), k, device_and_dtype(network)[0])
    scorer = UnitScorer(network, resolved, pooling)
    for pictures, _, places in selection.share():
        running.add(*scorer(pictures), places)
    return running.results(resolved)


def _highest(old: Tensor, old_places: Tensor, new: Tensor, new_places: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the `k` highest scores of rows ``(U, K)`` and ``(U, B)``, and their places; of equals the lower place."""
    scores, places = torch.cat([old, new], dim=1), torch.cat([old_places, new_places], dim=1)
    order = places.argsort(dim=1)
    scores, places = scores.gather(1, order), places.gather(1, order)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, order), places.gather(1, order)


def _random_order(places: Tensor) -> Tensor:
    """Return the order of places by a hash that has no collisions (the finaliser of SplitMix64, wrapping around)."""
    hashes = (places + 1) * -7046029254386353131
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        hashes = (hashes ^ (hashes >> shift & (1 << (64 - shift)) - 1)) * factor
    return hashes.argsort()


def _examples(scores: Tensor, places: Tensor) -> tuple[Example, ...]:
    pairs = zip(scores.tolist(), places.tolist(), strict=True)
    return tuple(Example(place, score) for score, place in pairs if abs(score) < float("inf"))


def _middles(count: int) -> list[int]:
    """Return the middle of each tenth of `count` sorted scores; tenths without any are left out."""
    ends = [count * part // _N_PARTS for part in range(_N_PARTS + 1)]
    return [(first + last) // 2 for first, last in pairwise(ends) if last > first]


def _histogram(scores: Tensor, low: float | None, high: float | None) -> tuple[int, ...]:
    if low is None or high is None:
        return (0,) * _N_BINS
    width = (high - low) / _N_BINS or 1.0
    bins = ((scores - low) / width).long().clamp(0, _N_BINS - 1)
    return tuple(torch.bincount(bins, minlength=_N_BINS).tolist())
