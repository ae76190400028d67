"""Whether hooks or parametrisations take part in the calls and the weights of a module."""

from torch import nn


def has_hooks(module: nn.Module) -> bool:
    """Whether hooks look at the inputs and outputs of a module, forward or back, or change them."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def has_plain_weight(module: nn.Module) -> bool:
    """Whether a module's weight is a parameter of its own, not computed from others by hooks or parametrisations."""
    return isinstance(module._parameters.get("weight"), nn.Parameter) and not has_hooks(module)
