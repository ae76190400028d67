"""How a network runs while pictures are made: frozen, and in the caller's precision."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from fvlightning.features.capture._state import State
from fvlightning.protocols import picture_network


@contextmanager
def frozen(network: nn.Module, *, forgetful: bool = False, writes_weights: bool | None = None) -> Iterator[State]:
    """Put `network` into evaluation mode, with weights that take no gradient, and put back all it holds at the end.

    What it holds are flags, weights, buffers, hooks, and attributes: a forward pass may change any of them (`State`).
    Gradients are on inside, even if the caller has switched them off or is in inference mode. Compiled networks run
    eagerly, because an exception cannot leave a compiled graph early.

    Args:
        network: Any module.
        forgetful: Whether each forward pass inside begins with what the network held at the entry, rather than with
            what the pass before has left.
        writes_weights: Whether forward passes write weights. Default: each operation is watched for that, which takes
            some microseconds.

    Yields:
        What the network held at the entry.
    """
    # Flags are set directly: some modules override `train`, which would change the flags of frozen parts.
    training = {module: module.training for module in network.modules()}
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    compiled = any(is_compiled(module) for module in training)
    # Only if needed: setting a stance imports the compiler, which takes seconds.
    eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    with torch.inference_mode(False), torch.enable_grad(), eager, ExitStack() as stack:
        for parameter in trainable:
            stack.callback(parameter.requires_grad_, True)
            parameter.requires_grad_(False)
        for module, flag in training.items():
            stack.callback(setattr, module, "training", flag)
            module.training = False
        state = State(network, copies_weights=bool(writes_weights))
        stack.callback(state.put_back)
        if forgetful:
            picture_network(network).register_forward_pre_hook(lambda *_: state.put_back(hooks=False))
        if writes_weights is None:
            stack.enter_context(state.saved_weights())
        yield state


def is_compiled(module: nn.Module) -> bool:
    """Return whether `torch.compile` was applied to the module."""
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def warn_of_batch_statistics(network: nn.Module) -> None:
    """Warn if a batch norm without running statistics makes each picture depend on those that share its batch."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            warnings.warn(
                f"batch norm {name!r} has no running statistics: pictures that share a batch depend on each other; "
                "set batch_size=1 for pictures that stand alone",
                stacklevel=4,
            )
            return


@dataclass(frozen=True)
class Precision:
    """The precision of a network's forward pass, apart from that of its weights.

    Args:
        autocast: The low precision of `torch.autocast`, or None without autocast.
        default: The default dtype (`torch.set_default_dtype`), which a network's own new tensors have.
    """

    autocast: torch.dtype | None = None
    default: torch.dtype = torch.float32

    @classmethod
    def of_caller(cls, device: torch.device) -> Self:
        """Return what the caller has set for a device by `torch.autocast` and the default dtype."""
        autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        return cls(autocast, torch.get_default_dtype())

    @contextmanager
    def used(self, device: torch.device) -> Iterator[None]:
        """Compute in this precision on a device inside the context."""
        autocast = nullcontext() if self.autocast is None else torch.autocast(device.type, self.autocast)
        with _default(self.default), autocast:
            yield

    @property
    def loss_scale(self) -> float:
        """The factor that multiplies a loss and divides its gradients, so that none vanish on the way back.

        float16 has no number between 0 and 6e-8, and few digits below 6e-5; the gradient of a mean over a map of
        112 x 112 begins with 8e-5 (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2). A constant
        will do for a sum of activations: gradients of 64 and more overflow, and their pictures fail by name.
        """
        # A power of two rounds nothing. bfloat16 has the range of float32.
        return 1024.0 if self.autocast == torch.float16 else 1.0


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Lift the caller's autocast, on a device and on the CPU, and the caller's default dtype.

    Autocast rounds matrix products, and the FFT refuses them. Another default dtype changes the random draws.
    """
    with _default(torch.float32), torch.autocast("cpu", enabled=False), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
