"""The stages of timm's networks, from the input to the head, for their optimisers and to freeze some of them."""

from typing import Any

from torch import nn


def parameter_groups(network: nn.Module, layer_decay: float | None) -> list[dict[str, Any]]:
    """Return a network's parameters that are not frozen as an optimiser's groups.

    Norms, biases and what timm names for the network, such as position embeddings, have no weight decay; for the others
    the optimiser's own holds. With `layer_decay` each layer's ``"lr_scale"`` is that of the layer behind it times
    `layer_decay` (https://arxiv.org/abs/2106.08254).
    """
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]

    exempt = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()  # type: ignore[operator]
    settings: dict[str, Any] = {"weight_decay": 1.0, "no_weight_decay_list": exempt}
    groups: list[dict[str, Any]]
    if layer_decay is None:
        groups = param_groups_weight_decay(network, **settings)
    else:
        groups = param_groups_layer_decay(network, layer_decay=layer_decay, **settings)
    for group in groups:
        if group["weight_decay"]:
            del group["weight_decay"]
    return groups


def stages(network: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of each stage: the stem, the stages or blocks, and last the head."""
    from timm.models import group_parameters

    names = group_parameters(network, network.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
    by_stage: dict[int, list[str]] = {}
    for name, _ in network.named_parameters():
        by_stage.setdefault(names[name], []).append(name)
    return [by_stage[stage] for stage in sorted(by_stage)]
