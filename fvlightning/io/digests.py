"""Short fingerprints, by which settings and records tell one file or one state of a network from another."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

_LENGTH = 16


def digest_of_file(path: str | Path) -> str:
    """Return a fingerprint of a file's content.

    Raises:
        OSError: The file cannot be read.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:_LENGTH]


def digest_of_weights(module: nn.Module) -> str:
    """Return a fingerprint of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_LENGTH]
