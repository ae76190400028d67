"""Short fingerprints that tell files, tensors and states of networks apart."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

_LENGTH = 16


def digest_of_file(path: str | Path) -> str:
    """Return a fingerprint of a file's content, 16 hex characters.

    Raises:
        OSError: The file cannot be read.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:_LENGTH]


def digest_of_tensors(*tensors: Tensor) -> str:
    """Return a fingerprint of the values of tensors, 16 hex characters; shapes do not count."""
    return hashlib.sha256(b"".join(map(_bytes, tensors))).hexdigest()[:_LENGTH]


def digest_of_weights(module: nn.Module) -> str:
    """Return a fingerprint of a module's weights and buffers, 16 hex characters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(name.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()[:_LENGTH]


def _bytes(tensor: Tensor) -> bytes:
    # NumPy has no bfloat16.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
