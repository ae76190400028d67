"""Other packages for feature visualisation, each doing the same work as its users would have it done.

Each has its own default parametrisation, transformations and optimiser; the channels, the steps, the size and the
network, in eval mode, are the same for all. As in the READMEs of all three, a call makes one picture, and the weights
are not frozen, so that their gradients are computed and thrown away. Two of them can do better, with a batch in one
call and frozen weights: that is measured, too.

They are installed by hand, without their dependencies, because some of these are pinned to old versions:

    pip install --no-deps torch-lucent==0.1.8 dreamlens horama kornia kornia-rs decorator einops
    pip install ipython
"""

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Skipped
from benchmarks.work import IMAGENET_MEAN, IMAGENET_STD, Work


def torch_lucent(work: Work) -> Tensor:
    """Make the pictures with torch-lucent (https://github.com/greentfrapp/lucent), in one call.

    Returns:
        ``(n, C, H, W)`` in [0, 1].

    Raises:
        Skipped: It is not installed.
    """
    kornia = _import("kornia", "torch-lucent")
    transform = _import("kornia.geometry.transform", "torch-lucent")
    # Where kornia had them when torch-lucent was written.
    kornia.get_rotation_matrix2d, kornia.warp_affine = transform.get_rotation_matrix2d, transform.warp_affine
    render, objectives, param = (
        _import(f"lucent.optvis.{name}", "torch-lucent") for name in ("render", "objectives", "param")
    )
    for name in ("transform", "param.spatial"):
        _import(f"lucent.optvis.{name}", "torch-lucent").device = work.device
    size, channels = work.shape[-1], work.shape[0]
    colour: dict[str, Any] = {} if channels == 3 else {"channels": channels}
    # Its hooks stay in the network, so it gets a copy.
    network = copy.deepcopy(_network(work))
    layer = _path(work).replace(".", "_")
    terms = [objectives.channel(layer, index, batch=place) for place, index in enumerate(work.indices)]
    (pictures,) = render.render_vis(
        network,
        objectives.Objective.sum(terms),
        param_f=lambda: param.image(size, batch=len(work.indices), **colour),
        thresholds=(work.steps,),
        preprocess=work.imagenet,
        # Pictures of less than 224 pixels would be enlarged to that.
        fixed_image_size=size if size < 224 else None,
        progress=False,
        show_image=False,
    )
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def dreamlens(work: Work) -> Tensor:
    """Make the pictures with dreamlens (https://github.com/sushmanthreddy/dreamlens), one by one.

    Returns:
        ``(n, C, H, W)`` in [0, 1].

    Raises:
        Skipped: It is not installed, or the pictures are not in colour, which this call of it needs.
    """
    package = _import("dreamlens", "dreamlens")
    if work.shape[0] != 3:
        raise Skipped("makes pictures in colour only; in batches also grey ones")
    visualizer = package.FeatureVisualizer(_network(work), quiet=True, normalize=work.imagenet)
    config = package.RenderConfig(width=work.shape[2], height=work.shape[1], steps=work.steps)
    pictures = []
    for index in work.indices:
        target = package.FeatureTarget.for_channel(_path(work), index, reduction="mean")
        pictures.append(visualizer.visualize(target, method="maximize", config=config).as_chw())
    return torch.stack(pictures)


def dreamlens_batch(work: Work) -> Tensor:
    """Make the pictures with dreamlens, by its call that takes a batch.

    Returns:
        ``(n, C, H, W)`` in [0, 1].

    Raises:
        Skipped: It is not installed.
    """
    package = _import("dreamlens", "dreamlens")
    images, _ = package.optimize(
        package.Objective.channel(_network(work), _path(work), list(work.indices), input_shape=work.shape),
        nb_steps=work.steps,
        custom_shape=work.shape[1:],
        preprocess=package.imagenet_normalize if work.imagenet else None,
        device=work.device,
    )
    pictures: Tensor = images[-1]
    return pictures


def horama(work: Work) -> Tensor:
    """Make the pictures with horama (https://github.com/serre-lab/Horama): one by one, six crops of each a step.

    Returns:
        ``(n, C, H, W)`` in [0, 1]: its normalised pictures, converted back.

    Raises:
        Skipped: It is not installed, or the pictures are not in colour, which it needs.
    """
    package = _import("horama", "horama")
    if not work.imagenet:
        raise Skipped("makes pictures in colour, normalised as ImageNet's, only")
    _import("horama.fourier_fv", "horama").tqdm = lambda steps: steps
    layer = work.network.net.get_submodule(work.layer)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pictures = []
    for index in work.indices:
        picture, _ = package.fourier(
            _channel_mean(work.network.net, layer, index),
            total_steps=work.steps,
            image_size=work.shape[-1],
            model_input_size=work.shape[-1],
            device=work.device,
        )
        pictures.append((picture.detach().cpu() * std + mean).clamp(0, 1))
    return torch.stack(pictures)


@dataclass(frozen=True)
class Peer:
    """A package in one of its uses.

    Args:
        make: Makes the pictures ``(n, C, H, W)`` in [0, 1].
        one_by_one: Whether it makes one picture at a time, of a network that is not frozen.
    """

    make: Callable[[Work], Tensor]
    one_by_one: bool

    def share(self, work: Work) -> Work:
        """Return the work that is measured: the first picture alone, if pictures are made one by one."""
        if not self.one_by_one:
            return work
        return replace(work.first(1, work.steps), network=copy.deepcopy(work.network).requires_grad_(True))


PEERS = {
    "torch-lucent": Peer(torch_lucent, one_by_one=True),
    "torch-lucent, batch": Peer(torch_lucent, one_by_one=False),
    "dreamlens": Peer(dreamlens, one_by_one=True),
    "dreamlens, batch": Peer(dreamlens_batch, one_by_one=False),
    "horama": Peer(horama, one_by_one=True),
}


def peer_versions() -> dict[str, str | None]:
    """Return the versions of the peers that are installed, None for those that are not."""
    return {name: _version(name) for name in ("torch-lucent", "dreamlens", "horama")}


def _network(work: Work) -> nn.Module:
    """Return the network as peers take it: they bring along ImageNet's normalisation, and no other."""
    return work.network.net if work.imagenet else work.network


def _path(work: Work) -> str:
    """Return the path of the layer in `_network`."""
    return work.layer if work.imagenet else f"net.{work.layer}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _import(module: str, package: str) -> Any:  # what it returns has names that only its own version knows
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Skipped(f"{package} cannot be imported: {error}") from error


def _channel_mean(network: nn.Module, layer: nn.Module, index: int) -> Callable[[Tensor], Tensor]:
    """Return an objective as horama's users write it: the mean of a channel over crops and positions."""

    def objective(crops: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            network(crops)
        finally:
            handle.remove()
        return seen[0][:, index].mean()

    return objective
