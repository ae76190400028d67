"""Networks in low precision, amid what is computed in full precision."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.capture.capture import Activation, Capture, device_and_dtype
from fvlightning.features.units import LayerCall

# A power of two, so that it rounds nothing.
_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Precision:
    """What a network's forward pass is computed in, beside its weights.

    Args:
        autocast: The low precision of `torch.autocast`, or None where there is none.
        default: That of the tensors that a network makes by itself (`torch.set_default_dtype`).
    """

    autocast: torch.dtype | None = None
    default: torch.dtype = torch.float32

    @contextmanager
    def used(self, device: torch.device) -> Iterator[None]:
        """Compute in this precision on a device, for as long as this lasts."""
        with ExitStack() as stack:
            stack.enter_context(_default_dtype(self.default))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(device.type, self.autocast))
            yield


class CastingCapture(Capture):
    """Runs a network in its own precision, or under autocast, for callers that compute in full precision.

    Args:
        network: As of `Capture`.
        layers: As of `Capture`.
        precision: What its forward pass has (`callers_precision`).

    Raises:
        InputError: A layer is not in the network.
    """

    def __init__(self, network: nn.Module, layers: Iterable[LayerCall], precision: Precision) -> None:
        super().__init__(network, layers)
        self._device, self._dtype = device_and_dtype(network)
        self._precision = precision

    @override
    def __call__(self, pictures: Tensor) -> dict[LayerCall, Activation]:
        """Return the activations, with their graph, in the precision of the pictures.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].

        Raises:
            InputError: As of `Capture`.
        """
        with self._precision.used(self._device):
            found = super().__call__(pictures.to(self._dtype))
        return {
            layer: replace(activation, tensor=activation.tensor.to(pictures.dtype))
            if activation.tensor.is_floating_point()
            else activation
            for layer, activation in found.items()
        }


def callers_precision(device: torch.device) -> Precision:
    """Return what the caller gives networks on a device, by `torch.autocast` and the default dtype."""
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return Precision(autocast, torch.get_default_dtype())


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Lift the caller's autocast, of a device and of the CPU, and default dtype, for as long as this lasts.

    Under autocast matrix products, as of colours, would be rounded to three digits, and the FFT would refuse them. By
    another default dtype, as Lightning sets it for ``bf16-true``, starts and views would be drawn with three digits, or
    be others than in float32.
    """
    with (
        _default_dtype(torch.float32),
        torch.autocast("cpu", enabled=False),
        torch.autocast(device.type, enabled=False),
    ):
        yield


def loss_scale(autocast: torch.dtype | None) -> float:
    """Return what a loss is multiplied by, and its gradients are divided by, for none to vanish on the way back.

    float16 has no number between 0 and 6e-8, and few digits below 6e-5; the gradient of a mean over a map of 112 x 112
    begins with 8e-5 (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2). Normalised gradients
    (`Maximizer`) need it, too: they are normalised behind the network. A constant will do for a loss that is a sum of
    activations: gradients of 64 and more become infinite by it, and their pictures fail by name. bfloat16 has the range
    of float32.
    """
    return _LOSS_SCALE if autocast == torch.float16 else 1.0


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
