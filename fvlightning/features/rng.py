"""Random numbers: those of the surrounding program, and those of each picture."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the random states of Python, NumPy, torch and every device at the end, also after an exception."""
    numpy = sys.modules.get("numpy")
    python_state = random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    accelerator = torch.accelerator.current_accelerator()  # of this build of torch, whether or not there is one
    # A device that is not initialised has no state yet, and asking for it would initialise the device.
    started = accelerator and getattr(torch.get_device_module(accelerator), "is_initialized", lambda: True)()
    devices = range(torch.accelerator.device_count()) if started else []
    with torch.random.fork_rng(devices, device_type=accelerator.type if accelerator else "cuda"):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(numpy_state)


def picture_generator(seed: int, unit: str, repeat: int) -> torch.Generator:
    """Return the random generator of one picture, on the CPU so that the picture is the same on every device."""
    digest = blake2b(f"{seed}/{unit}/{repeat}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
