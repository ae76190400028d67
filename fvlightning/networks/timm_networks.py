"""Networks of timm by name, with or without pretrained weights: https://github.com/huggingface/pytorch-image-models."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from fvlightning.errors import InputError, did_you_mean
from fvlightning.networks.hub import out_of_reach, read_cached, require_hub
from fvlightning.networks.weights import differences, read_samples, read_weights

_GIVEN_OTHERWISE = {
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
    """Make one of timm's networks.

    Args:
        model_name: Name, with or without the tag of its weights: ``resnet18``, ``resnet18.tv_in1k``.
        weights: ``"hub"``, ``"samples"``, a file, or None for random ones.
        num_classes: Number of logits, 0 for none (the network gives its features); by default as many as the weights
            have. A head of another size than that of the weights starts at random.
        input_shape: `(C, H, W)` of the pictures; by default what timm's data config says. Weights are adapted to
            another number of channels or, where it is fixed, another size (position embeddings are interpolated).
        model_args: Further arguments of timm's constructor, such as ``{"drop_path_rate": 0.1}``.

    Raises:
        InputError: If there is no such network, it takes no such arguments, or the weights cannot be had or do not fit.
    """
    from timm.models import get_pretrained_cfg

    _require_model(model_name)
    for name, instead in _GIVEN_OTHERWISE.items():
        if name in (model_args or {}):
            raise InputError(f"model_args must not hold '{name}': give {instead} instead.")
    settings: dict[str, Any] = dict(model_args or {})
    if input_shape is not None:
        settings["in_chans"] = input_shape[0]
        source = get_pretrained_cfg(model_name)
        if source is not None and source.fixed_input_size:
            settings["img_size"] = tuple(input_shape[1:])
    if weights is None:
        return _create(model_name, num_classes=num_classes, **settings)
    if weights == "hub":
        tensors = read_cached(model_name)
        if tensors is None:
            require_hub(model_name)
            return _with_head(_create(model_name, pretrained=True, **settings), num_classes)
    elif weights == "samples":
        name = model_name.partition(".")[0]
        tensors = read_samples(name, _create(name).state_dict())
    else:
        tensors = read_weights(weights)
    return _with_head(_create_with(tensors, weights, model_name, settings), num_classes)


def imagenet_names(network: nn.Module) -> tuple[str, ...] | None:
    """Return short names of the classes of a network with timm's weights for ImageNet, such as "golden retriever".

    Which of ImageNet's sets it is timm tells by nothing but the number of classes.

    Returns:
        A name a class, the first of its WordNet synset; or None: the classes are others, or the head is not the one of
        the weights.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(network)
    if subset is None or network.pretrained_cfg["num_classes"] != network.num_classes:  # type: ignore[index]
        return None
    return tuple(name.partition(",")[0] for name in ImageNetInfo(subset).label_descriptions())


def _require_model(model_name: str) -> None:
    import timm

    name, _, tag = model_name.partition(".")
    if not timm.is_model(name):
        raise InputError(
            f"timm has no model '{model_name}'; timm.list_models('*resnet*') lists those with a word in their names."
            f"{did_you_mean(name, timm.list_models())}"
        )
    tags = [pretrained.partition(".")[2] for pretrained in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise InputError(f"timm has no weights '{tag}' of '{name}'; there are: {', '.join(tags) or 'none'}.")


def _create(model_name: str, **settings: Any) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(model_name, **settings)
    except OSError as error:
        raise out_of_reach(model_name, error) from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        of_weights = ("pretrained", "pretrained_cfg_overlay")
        given = {name: value for name, value in settings.items() if value is not None and name not in of_weights}
        raise InputError(f"timm cannot make '{model_name}' with {given}: {error}") from error
    return network


def _create_with(tensors: dict[str, Tensor], source: str, model_name: str, settings: dict[str, Any]) -> nn.Module:
    """Make a network with as many classes as `tensors` have, and put them in: every one, or `InputError`.

    Told of another number of classes, timm drops the head, and takes any set of tensors from then on without a word.
    """
    classes, label_offset = _classes(tensors, model_name)
    overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": label_offset}
    try:
        network = _create(model_name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **settings)
    except Exception as error:  # some networks rename a file's tensors, and stumble over those of others in many ways
        wrong = differences(tensors, _create(model_name, num_classes=classes, **settings).state_dict())
        if not wrong:
            raise
        raise InputError(f"the weights '{source}' are not those of '{model_name}': {wrong}.") from error
    for config in (network.pretrained_cfg, network.default_cfg):
        config.pop("state_dict", None)  # type: ignore[operator, union-attr] # a second copy of all weights
    return network


def _with_head(network: nn.Module, num_classes: int | None) -> nn.Module:
    """Give a trained network a head for `num_classes`, unless it has that already."""
    trained_for = network.num_classes
    if num_classes is not None and num_classes != trained_for:
        network.reset_classifier(num_classes)  # type: ignore[operator]
        if num_classes > 0:
            rank_zero_info(f"The head for {num_classes} classes starts at random: the weights have {trained_for}.")
    return network


def _classes(tensors: Mapping[str, Tensor], model_name: str) -> tuple[int, int]:
    """Return the number of classes in `tensors`, and how many more come before them, of which timm wants to know."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(model_name)
    known = 1000 if config is None else config.num_classes
    classifier = None if config is None else config.classifier
    if isinstance(classifier, list | tuple):
        classifier = classifier[0]
    head = tensors.get(f"{classifier}.weight")
    if head is None:
        # Other names, which timm may know, or no head at all.
        has_head = any(tensor.shape[:1] == (known,) for tensor in tensors.values())
        return (known if has_head else 0), 0
    offset = (config.label_offset if config is not None else None) or 0
    return (known, offset) if len(head) == known + offset else (len(head), 0)
