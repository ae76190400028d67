"""Everything that keeps the visualiser invisible to the network and to the program around it."""

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b

import torch
from torch import nn


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Put the random states of Python, NumPy, torch and every device back at the end, also after an exception."""
    numpy = sys.modules.get("numpy")
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    numpy_state = numpy.random.get_state() if numpy else None
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device_states = {}
    if accelerator is not None:
        backend = torch.get_device_module(accelerator)
        if getattr(backend, "is_initialized", lambda: True)():
            device_states = {i: backend.get_rng_state(i) for i in range(torch.accelerator.device_count())}
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        for i, state in device_states.items():
            backend.set_rng_state(state, i)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Run `network` for its gradients to the picture alone: evaluation mode, weights that take no gradient.

    Each module's own ``training`` flag and each parameter's own ``requires_grad`` are put back at the end. The flags
    are set directly: `torch.nn.Module.train` is overridden by some modules, and would set those of frozen parts anew.
    Gradients are on inside, also when the caller has switched them off or is in inference mode, and compiled networks
    run eagerly, because leaving a compiled graph early by an exception does not work.
    """
    training = {module: module.training for module in network.modules()}
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if any(is_compiled(module) for module in training):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in training:
                module.training = False
            for parameter in trainable:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, flag in training.items():
                module.training = flag
            for parameter in trainable:
                parameter.requires_grad_(True)


def is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` was applied. Asked first: setting a stance imports the compiler, which takes seconds."""
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


def picture_generator(seed: int, unit: str, repeat: int) -> torch.Generator:
    """Return the random generator of one picture, which depends on nothing but these three.

    It lives on the CPU, so that the picture is the same on every device.
    """
    digest = blake2b(f"{seed}/{unit}/{repeat}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
