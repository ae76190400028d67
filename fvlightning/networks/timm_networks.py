"""Networks of timm by name, with or without pretrained weights: https://github.com/huggingface/pytorch-image-models."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fvlightning.errors import InputError, did_you_mean, one_line
from fvlightning.networks._weights import differences, out_of_reach, read_hub_cache, read_samples, read_weights

# timm's arguments that are settings here.
_SETTINGS = {
    "pretrained": "weights",
    "checkpoint_path": "weights",
    "num_classes": "num_classes",
    "in_chans": "input_shape",
    "img_size": "input_shape",
}


def make_timm_network(
    model_name: str,
    weights: str | None = None,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make one of timm's networks. For arguments and errors see `fvlightning.models.BackboneModule`."""
    from timm.models import get_pretrained_cfg

    _require_model(model_name)
    settings: dict[str, Any] = dict(model_args or {})
    for name, setting in _SETTINGS.items():
        if name in settings:
            raise InputError(f"model_args={settings}: must not hold '{name}'; give {setting} instead")
    if input_shape is not None:
        settings["in_chans"] = input_shape[0]
        source = get_pretrained_cfg(model_name)
        if source is not None and source.fixed_input_size:
            settings["img_size"] = tuple(input_shape[1:])
    if weights is None:
        return _create(model_name, num_classes=num_classes, **settings)
    if weights == "hub":
        tensors = read_hub_cache(model_name)
    elif weights == "samples":
        name = model_name.partition(".")[0]
        tensors = read_samples(name, _create(name).state_dict())
    else:
        tensors = read_weights(weights)
    if tensors is None:
        network = _create(model_name, pretrained=True, **settings)
    else:
        network = _create_with(tensors, weights, model_name, settings)
    if num_classes is not None and num_classes != network.num_classes:
        network.reset_classifier(num_classes)  # type: ignore[operator]
    return network


def imagenet_names(network: nn.Module) -> tuple[str, ...] | None:
    """Return the first name of each class, such as "golden retriever"; None unless the head is one of ImageNet's."""
    n_classes: int = network.num_classes  # type: ignore[assignment]
    if network.pretrained_cfg["num_classes"] != n_classes:  # type: ignore[index]
        return None
    return tuple(_imagenet_classes(n_classes).values()) or None


def imagenet_ids(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the WordNet ids of classes, such as "n02099601"; none unless the names are those of `imagenet_names`."""
    classes = _imagenet_classes(len(class_names))
    return tuple(classes) if tuple(classes.values()) == tuple(class_names) else ()


def _imagenet_classes(n_classes: int) -> dict[str, str]:
    """Return the first names of the classes by their WordNet ids; none unless a set of ImageNet has this number."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": n_classes})
    if subset is None:
        return {}
    info = ImageNetInfo(subset)
    ids: list[str] = info.label_names()  # type: ignore[no-untyped-call]
    return {id_: name.partition(",")[0] for id_, name in zip(ids, info.label_descriptions(), strict=True)}


def _require_model(model_name: str) -> None:
    import timm

    name, _, tag = model_name.partition(".")
    if not timm.is_model(name):
        raise InputError(
            f"timm has no model '{model_name}'; timm.list_models('*resnet*') lists those with a word in their names"
            f"{did_you_mean(name, timm.list_models())}"
        )
    tags = [pretrained.partition(".")[2] for pretrained in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise InputError(f"timm has no weights '{tag}' of '{name}'; weights: {', '.join(tags) or 'none'}")


def _create(model_name: str, **settings: Any) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(model_name, **settings)
    except OSError as error:
        raise out_of_reach(model_name, error) from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        internal = ("pretrained", "pretrained_cfg_overlay")
        shown = {name: value for name, value in settings.items() if value is not None and name not in internal}
        raise InputError(f"timm cannot make '{model_name}' with {shown}: {one_line(error)}") from error
    return network


def _create_with(tensors: dict[str, Tensor], source: str, model_name: str, settings: dict[str, Any]) -> nn.Module:
    """Make a network with as many classes as `tensors` have, and load all of them, or raise `InputError`."""
    # With another number of classes timm drops the head, and then silently loads any set of tensors.
    classes, label_offset = _count_classes(tensors, model_name)
    overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": label_offset}
    try:
        network = _create(model_name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **settings)
    except Exception as error:  # some networks rename a file's tensors, and fail on those of others in many ways
        problem = differences(tensors, _create(model_name, num_classes=classes, **settings).state_dict())
        if not problem:
            raise
        raise InputError(f"the weights '{source}' are not those of '{model_name}': {problem}") from error
    network.pretrained_cfg.pop("state_dict")  # type: ignore[operator, union-attr] # a second copy of all weights
    return network


def _count_classes(tensors: Mapping[str, Tensor], model_name: str) -> tuple[int, int]:
    """Return the number of classes in `tensors`, and timm's label offset: how many outputs come before them."""
    from timm.models import PretrainedCfg, get_pretrained_cfg

    config = get_pretrained_cfg(model_name) or PretrainedCfg()
    classifier = config.classifier[0] if isinstance(config.classifier, list | tuple) else config.classifier
    head, classes, offset = tensors.get(f"{classifier}.weight"), config.num_classes, config.label_offset or 0
    if head is None:
        # Either there is no head, or the names are others, which timm may know.
        has_head = any(tensor.shape[:1] == (classes,) for tensor in tensors.values())
        return (classes if has_head else 0), 0
    return (classes, offset) if len(head) == classes + offset else (len(head), 0)
