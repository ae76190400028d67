"""What a network makes of one picture: its predictions, and the response of each filter of some layers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError
from fvlightning.features import LayerCall, Unit, isolated_rng
from fvlightning.features.capture import Activation, Capture, device_and_dtype, frozen
from fvlightning.output import with_class
from fvlightning.protocols import named_network, picture_network, read_class_names

_N_PREDICTIONS = 5


@dataclass(frozen=True)
class LayerResponse:
    """How the filters of a layer respond to a picture.

    Attributes:
        means: The mean activation of each filter over all positions, or patch tokens, float32 ``(C,)``.
        maps: The activations, float32 ``(C, H, W)``; None for a layer without positions, or whose positions are no grid
            over the picture.
    """

    means: Tensor
    maps: Tensor | None

    def strongest(self, count: int) -> list[int]:
        """Return the filters with the largest finite means, the largest first; equal ones in their order."""
        order = self.means.nan_to_num(-torch.inf, -torch.inf).argsort(descending=True, stable=True)
        return order[: min(count, len(order) - len(self.not_finite))].tolist()

    @property
    def not_finite(self) -> list[int]:
        """The filters whose means are not finite."""
        return (~self.means.isfinite()).nonzero().flatten().tolist()


@dataclass(frozen=True)
class Inspection:
    """What a network makes of a picture.

    Attributes:
        picture: ``(C, H, W)`` in [0, 1].
        outputs: The network's output, float32 ``(K,)``; None unless it gives a tensor ``(B, K)``.
        predictions: The probabilities of the five most probable classes, by index and name; empty for a network without
            classes, or whose outputs are not finite.
        responses: The responses of layers, by their text forms.
    """

    picture: Tensor
    outputs: Tensor | None
    predictions: dict[str, float]
    responses: dict[str, LayerResponse]

    def strongest(self, count: int) -> dict[str, list[Unit]]:
        """Return the units with the largest means of each layer, the largest first."""
        return {layer: _units(layer, response.strongest(count)) for layer, response in self.responses.items()}

    @property
    def not_finite(self) -> list[Unit]:
        """The units whose mean activations are not finite."""
        return [unit for layer, response in self.responses.items() for unit in _units(layer, response.not_finite)]

    def predicted(self, count: int = _N_PREDICTIONS) -> str:
        """Return the most probable classes in one line, empty without any."""
        return ", ".join(f"{name} {probability:.1%}" for name, probability in list(self.predictions.items())[:count])

    def figures(self, count: int) -> dict[str, Any]:
        """Return predictions, means and the `count` strongest filters as plain values; None for those not finite."""
        layers = {
            layer: {
                "top": response.strongest(count),
                "means": [mean if math.isfinite(mean) else None for mean in response.means.tolist()],
            }
            for layer, response in self.responses.items()
        }
        return {"predictions": self.predictions, "layers": layers}


def inspect_picture(
    network: nn.Module,
    layers: Iterable[str],
    picture: Tensor,
    *,
    datamodule: object = None,
    classes: bool | None = None,
) -> Inspection:
    """Run a picture through a network in evaluation mode, and leave the network as it was.

    Args:
        network: Any module that takes pictures.
        layers: The layers whose responses are returned, for example ``"conv2"`` or ``"relu#1"``, its second call.
        picture: ``(C, H, W)`` in [0, 1].
        datamodule: What may know the ``class_names``, besides the network.
        classes: Whether the outputs ``(B, K)`` are classes. Default: if the data or the network have K ``class_names``,
            or the network says so by its ``num_classes``. The outputs of others may be codes or measures.

    Returns:
        What it makes of the picture, on the CPU.

    Raises:
        InputError: A layer is unknown or not reached, or there are no outputs that could be `classes`.
    """
    device, dtype = device_and_dtype(network)
    calls = list(map(LayerCall.parse, layers))
    with isolated_rng(), frozen(network), torch.no_grad():
        pictures = picture[None].to(device, dtype)
        output = picture_network(network)(pictures.clone())  # which the network may overwrite
        activations = Capture(network, calls)(pictures)
    outputs = output[0].float().cpu() if isinstance(output, Tensor) and output.ndim == 2 else None
    responses = {str(call): _response(activations[call], picture.shape[1:]) for call in calls}
    return Inspection(picture.cpu(), outputs, _predictions(outputs, network, datamodule, classes), responses)


def class_probabilities(outputs: Tensor) -> Tensor:
    """Return probabilities for outputs ``(B, K)``: logits, or probabilities if the network ends in a softmax."""
    is_distribution = bool((outputs >= 0).all()) and torch.allclose(outputs.sum(1), outputs.new_ones(()), atol=1e-3)
    return outputs if is_distribution else outputs.softmax(1)


def _predictions(
    outputs: Tensor | None, network: nn.Module, datamodule: object, classes: bool | None
) -> dict[str, float]:
    n_outputs = 0 if outputs is None else len(outputs)
    if n_outputs < 2 and classes:
        raise InputError(f"{type(network).__name__} gives no outputs (B, K) that could be classes; leave out classes")
    if outputs is None or n_outputs < 2 or classes is False or not outputs.isfinite().all():
        return {}
    labels = [f"class {index}" for index in range(n_outputs)]
    known = [names for source in (datamodule, network) if len(names := read_class_names(source)) == n_outputs]
    if known:
        labels = [with_class(str(index), name) for index, name in enumerate(known[0])]
    elif not classes:
        num_classes = getattr(named_network(network), "num_classes", getattr(network, "num_classes", None))
        if num_classes != n_outputs:
            return {}
    probabilities, indices = class_probabilities(outputs[None])[0].topk(min(_N_PREDICTIONS, n_outputs))
    return {labels[index]: share for index, share in zip(indices.tolist(), probabilities.tolist(), strict=True)}


def _units(layer: str, indices: Sequence[int]) -> list[Unit]:
    return [Unit.parse(f"{layer}:{index}") for index in indices]


def _response(activation: Activation, picture_size: Sequence[int]) -> LayerResponse:
    values = activation.values[0].float().cpu()
    if values.ndim == 1:
        return LayerResponse(values, None)
    maps = values if values.ndim == 3 else None
    if values.ndim == 2:
        values = values[:, activation.prefix_tokens :]
        height, width = _grid(values.shape[1], picture_size)
        maps = values.reshape(-1, height, width) if height * width == values.shape[1] else None
    return LayerResponse(values.flatten(1).mean(1), maps)


def _grid(n_tokens: int, picture_size: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of a grid of about `n_tokens` with the proportions of a picture ``(H, W)``."""
    aspect = picture_size[0] / picture_size[1]
    return round(math.sqrt(n_tokens * aspect)), round(math.sqrt(n_tokens / aspect))
