"""The default batch size: as many pictures as fit the device, and no more than save time."""

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from fvlightning.features.capture import Capture, device_and_dtype, is_out_of_memory

# The share of the free memory that is used: gradients come on top of the tensors saved for them.
_SHARE = 0.5

# Tensors of the size of a picture that each picture has anyway (parameters, moments, the best so far, gradients, those
# of the FFT), and that each transformed copy has (where it is sampled, its noise, itself).
_TENSORS_OF_PICTURE, _TENSORS_OF_COPY = 16, 8

# More pictures at once save less and less of a step's fixed cost: measured on networks of 28 to 224 pixels, which save
# 1 KiB to 15 MiB a picture. At 224 pixels, 64 take 3 % less time each than 8, and eight times the memory.
_CACHED_BY_THREAD = 32 * 2**20
_FEWEST_ON_CPU, _MOST_ON_CPU = 8, 64
_MOST_ON_ACCELERATOR = 256

# Assumed to be free on backends that cannot be asked.
_ASSUMED_FREE = 4 * 2**30


def automatic_batch_size(capture: Capture, image_shapes: Iterable[Sequence[int]], transforms_per_step: int = 1) -> int:
    """Return how many pictures are best optimised at once, at least 1.

    On accelerators, as many as fit into half of the free memory, and at most 256, which keep any of them busy. On the
    CPU 8 to 64, fewer for large activations.

    Args:
        capture: Runs the network, frozen (`frozen`), as far as is needed.
        image_shapes: Sizes ``(C, H, W)`` that the pictures have, one after the other.
        transforms_per_step: How many copies of each picture go through the network at once.
    """
    device, _ = device_and_dtype(capture.network)
    image_shape = max(image_shapes, key=math.prod)
    try:
        saved = transforms_per_step * saved_bytes(capture, image_shape)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return 1
        raise
    picture = 4 * math.prod(image_shape)
    needed = saved + picture * (_TENSORS_OF_PICTURE + transforms_per_step * _TENSORS_OF_COPY)
    most_fitting = int(_SHARE * free_memory(device)) // needed
    most_useful = _MOST_ON_ACCELERATOR
    if device.type == "cpu":
        cached = torch.get_num_threads() * _CACHED_BY_THREAD // max(saved, 1)
        most_useful = min(max(cached, _FEWEST_ON_CPU), _MOST_ON_CPU)
    return max(1, min(most_fitting, most_useful))


def batch_size_alone(batch_size: int | None) -> int:
    """Return the batch size for a network that remembers passes: 1, or one that the user has set, with a warning."""
    if batch_size not in (None, 1):
        warnings.warn(
            f"Maximizer(batch_size={batch_size}): the network's output depends on the pictures before, and pictures "
            "that share a batch may depend on each other; leave it out for pictures that stand alone",
            stacklevel=3,
        )
    return batch_size or 1


def saved_bytes(capture: Capture, image_shape: Sequence[int]) -> int:
    """Return how many bytes the forward pass of one more picture keeps for the backward pass.

    It is the difference between two pictures and one, so that memory shared by all pictures, such as the network's
    weights, does not count.
    """
    device, dtype = device_and_dtype(capture.network)
    one, two = (
        _saved(capture, torch.full((n_pictures, *image_shape), 0.5, device=device, dtype=dtype).requires_grad_())
        for n_pictures in (1, 2)
    )
    return max(two - one, 0)


def free_memory(device: torch.device) -> int:
    """Return how many bytes a device has left for this process.

    Memory that torch has taken from an accelerator and does not use counts as free. Processes of one run on one CPU
    (LOCAL_WORLD_SIZE, as torchrun sets it) share its memory equally.
    """
    if device.type == "cpu":
        return _free_on_cpu() // max(int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    memory = torch.accelerator.memory
    # Not every backend can be asked.
    with suppress(RuntimeError, NotImplementedError):
        unused = memory.memory_reserved(device) - memory.memory_allocated(device)
        return memory.get_memory_info(device)[0] + unused
    return _ASSUMED_FREE


def _free_on_cpu() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _ASSUMED_FREE


def _saved(capture: Capture, pictures: Tensor) -> int:
    """Return the bytes of all memory that the forward pass keeps, each storage once."""
    # Storages are held while it runs, so that no address is reused.
    storages: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> None:
        # The graph keeps nothing: there is no backward pass, and a tensor in it would keep the graph alive.
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(note, lambda _: torch.empty(0)):
        capture(pictures)
    return sum(storage.nbytes() for storage in storages.values())
