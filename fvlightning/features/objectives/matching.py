"""Pictures whose activations are distributed as those of reference images."""

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.errors import InputError, did_you_mean, some_of
from fvlightning.features.capture import Activation, Activations, Capture, device_and_dtype, frozen
from fvlightning.features.objectives._relevance import channel_relevance
from fvlightning.features.objectives.activations import UnitActivation, values_at
from fvlightning.features.objectives.base import Objective, short
from fvlightning.features.rng import isolated_rng
from fvlightning.features.units import LayerCall, Unit
from fvlightning.io import digest_of_file, digest_of_tensors, fit_picture, list_image_files, read_image, to_tensor

_BATCH_SIZE = 16


@dataclass(frozen=True)
class _References:
    """Reference images: files, or a tensor ``(N, C, H, W)`` in [0, 1]."""

    name: str
    digest: str
    images: Sequence[Path] | Tensor = field(compare=False, repr=False)

    def batches(self, image_shape: Sequence[int]) -> Iterator[Tensor]:
        """Yield the pictures ``(B, C, H, W)`` in batches, of the shape ``(C, H, W)``."""
        for first in range(0, len(self.images), _BATCH_SIZE):
            yield torch.stack([_picture(image, image_shape) for image in self.images[first : first + _BATCH_SIZE]])


@dataclass(frozen=True)
class DistributionMatch(Objective):
    """How closely the activations of some layers are distributed as those of reference images, for example of a class.

    ``-Σ over layers of w · mean over channels and ranks of (sort(z) - mean over references of sort(z of reference))²``,
    with z the values of a channel at all positions: minus the squared Wasserstein distance of each channel. It is 0
    where the values are the same, whatever their positions (VITAL, Görgün et al. 2025,
    https://arxiv.org/abs/2503.22399). Where pictures have another number of positions than the references, the values
    of the latter are interpolated between their ranks.

    The references are run once, before the first step (`prepared`), and only their mean sorted values are kept.

    With `relevant_to`, the loss of each channel is multiplied by its relevance to a unit in the references, which is
    the largest product of activation and gradient over the positions, divided by the mean over the layer's channels. So
    the picture need not have what else is in the references, such as backgrounds. The authors compute the relevance of
    each picture and position anew at each step; this one is known before the first.

    Args:
        layers: The layers, or their text forms: ``["block1", "block2"]``.
        references: A folder of image files with its subfolders, such as that of a class; a list of files; the
            ``examples.json`` of ``python -m fvlightning examples``, with `unit`; or pictures ``(N, C, H, W)`` in
            [0, 1]. The middle of each image is taken, in the size of the pictures.
        weights: The weights of the layers. Default: 1 each.
        n_references: The most files of a folder that are read, a random sample that is the same each time.
        unit: The unit of an ``examples.json`` whose strongest images are the references.
        relevant_to: A unit of a layer after these, or of the last of them. Default: all channels count equally.

    Raises:
        InputError: A setting is malformed, or there are no references; when the objective is prepared: a file cannot be
            read, the network does not take the pictures, or a layer does not matter to the unit.
    """

    weights: tuple[tuple[LayerCall, float], ...]
    references: _References
    relevant_to: UnitActivation | None
    targets: Mapping[LayerCall, Tensor] | None = field(default=None, compare=False, repr=False)
    factors: Mapping[LayerCall, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def __init__(
        self,
        layers: Sequence[str | LayerCall],
        references: str | Path | Sequence[str | Path] | Tensor,
        weights: Sequence[float] | None = None,
        *,
        n_references: int = 50,
        unit: str | None = None,
        relevant_to: str | Unit | None = None,
    ) -> None:
        calls = [LayerCall.parse(layer) if isinstance(layer, str) else layer for layer in layers]
        layer_weights = [1.0] * len(calls) if weights is None else list(weights)
        if not calls or len(set(calls)) < len(calls):
            raise InputError(f"DistributionMatch(layers={list(map(str, calls))}): give at least one, each once")
        if len(layer_weights) != len(calls) or not all(0 < weight < math.inf for weight in layer_weights):
            raise InputError(f"DistributionMatch(weights={layer_weights}): must be greater than 0, one for each layer")
        if n_references < 1:
            raise InputError(f"DistributionMatch(n_references={n_references}): must be at least 1")
        object.__setattr__(self, "weights", tuple(zip(calls, layer_weights, strict=True)))
        object.__setattr__(self, "references", _find_references(references, n_references, unit))
        object.__setattr__(self, "relevant_to", None if relevant_to is None else _one_unit(relevant_to))
        object.__setattr__(self, "targets", None)
        object.__setattr__(self, "factors", {})

    @property
    def layers(self) -> frozenset[LayerCall]:
        """The layers."""
        return frozenset(layer for layer, _ in self.weights)

    @property
    @override
    def units(self) -> tuple[Unit, ...]:
        return () if self.relevant_to is None else self.relevant_to.units

    @override
    def prepared(self, network: nn.Module, image_shape: Sequence[int]) -> Objective:
        """Return the objective with the mean sorted activations of the references, ``(C, P)`` by layer."""
        if self.targets is not None:
            return self
        device, dtype = device_and_dtype(network)
        capture = Capture(network, self.layers)
        sums: dict[LayerCall, Tensor] = {}
        relevance: dict[LayerCall, Tensor] = {}
        for pictures in (batch.to(device, dtype) for batch in self.references.batches(image_shape)):
            with isolated_rng(), frozen(network), torch.no_grad():
                for layer, activation in capture(pictures).items():
                    sums[layer] = sums.get(layer, 0) + _sorted(activation).sum(0)
            if self.relevant_to is not None:
                for layer, values in channel_relevance(network, self.layers, self.relevant_to, pictures).items():
                    relevance[layer] = relevance.get(layer, 0) + values.sum(0)
        objective = copy.copy(self)
        count = len(self.references.images)
        object.__setattr__(objective, "targets", {layer: total / count for layer, total in sums.items()})
        if self.relevant_to is not None:
            object.__setattr__(objective, "factors", self._factors(relevance))
        return objective

    def _factors(self, relevance: Mapping[LayerCall, Tensor]) -> dict[LayerCall, Tensor]:
        """Return the relevance of each channel over the mean of its layer's channels, ``(C,)`` by layer."""
        if idle := [layer for layer, _ in self.weights if layer not in relevance or not relevance[layer].any()]:
            raise InputError(
                f"DistributionMatch(relevant_to={str(self.relevant_to)!r}): layer {str(idle[0])!r} does not matter to "
                "it in the references; choose layers before it, and images that excite it"
            )
        return {layer: values / values.mean() for layer, values in relevance.items()}

    @override
    def __call__(self, activations: Activations) -> Tensor:
        if self.targets is None:
            raise InputError("DistributionMatch: has not seen the network; use Maximizer, score or `prepared`")
        losses = []
        for layer, weight in self.weights:
            values = _sorted(activations[layer])
            target = self.targets[layer].to(values)
            if values.shape[2] != target.shape[1]:
                target = F.interpolate(target[None], size=values.shape[2], mode="linear", align_corners=False)[0]
            distances = (values - target).square().mean(2)
            if layer in self.factors:
                distances = distances * self.factors[layer].to(values)
            losses.append(weight * distances.mean(1))
        return -torch.stack(losses).sum(0)

    def __str__(self) -> str:
        terms = (str(layer) if weight == 1 else f"{short(weight)}*{layer}" for layer, weight in self.weights)
        relevance = "" if self.relevant_to is None else f", relevant to {self.relevant_to}"
        return f"DistributionMatch({self.references.name}, {self.references.digest}, {' + '.join(terms)}{relevance})"


def _one_unit(unit: str | Unit) -> UnitActivation:
    parsed = Unit.parse(unit) if isinstance(unit, str) else unit
    if parsed.index is None or parsed.minimize:
        raise InputError(f"DistributionMatch(relevant_to={str(parsed)!r}): give one unit, LAYER:INDEX")
    return UnitActivation(parsed)


def _sorted(activation: Activation) -> Tensor:
    """Return the values of each channel at all positions, in ascending order, ``(B, C, P)``, at least in float32."""
    values = values_at(activation, [()])
    return values.to(torch.promote_types(values.dtype, torch.float32)).sort(dim=2).values


def _picture(image: Path | Tensor, image_shape: Sequence[int]) -> Tensor:
    if isinstance(image, Tensor):
        return fit_picture(image, image_shape)
    return fit_picture(to_tensor(read_image(image, 1 if image_shape[0] == 1 else 3)) / 255, image_shape)


def _find_references(
    source: str | Path | Sequence[str | Path] | Tensor, n_references: int, unit: str | None
) -> _References:
    if isinstance(source, Tensor):
        if source.ndim != 4 or not len(source) or not bool(((source >= 0) & (source <= 1)).all()):
            problem = f"{source.dtype} of shape {tuple(source.shape)} is not pictures"
            raise InputError(f"DistributionMatch(references=...): {problem}; give (N, C, H, W) in [0, 1]")
        return _References(f"{len(source)} pictures", digest_of_tensors(source)[:8], source.detach().float().cpu())
    name = Path(source).name if isinstance(source, str | Path) else f"{len(source)} images"
    if unit is not None:
        files, name = _strongest_files(source, unit), f"strongest of {unit}"
    elif not isinstance(source, str | Path):
        files = list(map(Path, source))
    elif (files := list_image_files(source)) and len(files) > n_references:
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))
        files = [files[place] for place in order[:n_references].sort().values.tolist()]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"DistributionMatch(references=...): there is no file '{missing[0]}'")
    if not files:
        raise InputError("DistributionMatch(references=...): there are none; give a folder or a list of image files")
    digests = "".join(map(digest_of_file, files))
    return _References(name, blake2b(digests.encode(), digest_size=4).hexdigest(), files)


def _strongest_files(source: object, unit: str) -> list[Path]:
    """Return the files of the strongest images of a unit that ``examples`` has written to an ``examples.json``."""
    problem = f"DistributionMatch(references={str(source)!r}, unit={unit!r})"
    try:
        content = json.loads(Path(str(source)).read_text())
        units = {entry["unit"]: entry for entry in content["units"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{problem}: references must be the examples.json of `examples`, or leave out unit") from error
    if unit not in units:
        raise InputError(
            f"{problem}: the file has no such unit; units: {some_of(list(units))}{did_you_mean(unit, units)}"
        )
    names = [example.get("file") for example in units[unit]["strongest"]]
    if not all(names):
        raise InputError(f"{problem}: its images have no files; run examples with --images FOLDER")
    folder = content.get("images", {}).get("images", "")  # that the files are relative to, if it was given
    return [Path(folder, name) for name in names]
