"""Activations that work in place, and lose by it."""

from torch import nn


def copies_its_input(module: nn.Module) -> bool:
    """Whether a module is an activation that works in place, and copies its input before for the gradient.

    Out of place it needs as much memory, gives the same, and saves the time of the copy: forward and backward pass of a
    SiLU take 0.8 of the time, of a Hardswish 0.9.
    """
    return type(module) in (nn.SiLU, nn.Hardswish) and bool(module.inplace)
