"""What others do with the calls and the weights of a module."""

from torch import nn


def has_hooks(module: nn.Module) -> bool:
    """Whether others look at what a module takes and gives, forward or back, or change it."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def has_plain_weight(module: nn.Module) -> bool:
    """Whether a module's weight is its own: not computed from others, before or in its call, by hooks or otherwise."""
    return isinstance(module._parameters.get("weight"), nn.Parameter) and not has_hooks(module)
