"""Digests tell contents apart, and nothing else."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from fvlightning.io import digest_of_file, digest_of_tensors, digest_of_weights


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"content")
    assert digest_of_file(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()[:16]


def test_the_digest_of_tensors_is_that_of_their_values_in_order():
    first, second = torch.rand(3, 4), torch.arange(5)
    expected = hashlib.sha256(first.numpy().tobytes() + second.numpy().tobytes()).hexdigest()[:16]
    assert digest_of_tensors(first, second) == expected
    assert digest_of_tensors(first.T.contiguous().T, second) == expected
    assert digest_of_tensors(second, first) != expected
    assert digest_of_tensors(torch.tensor(1.0)) != digest_of_tensors(torch.tensor(1.0, dtype=torch.bfloat16))
    assert len(digest_of_tensors(torch.empty(0))) == 16


def test_the_digest_of_weights_sees_names_values_and_buffers():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    digest = digest_of_weights(module)
    assert digest_of_weights(module.eval()) == digest
    assert digest_of_weights(nn.ModuleDict({"x": module})) != digest
    module[1].running_mean += 1
    assert digest_of_weights(module) != digest
