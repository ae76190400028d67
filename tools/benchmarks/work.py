"""The same work for all: which channels of which network, and the scores of their pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from fvlightning import BackboneModule, FourierImage, MnistCNN, Normalize
from fvlightning.features.capture import Capture
from fvlightning.features.units import LayerCall

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The classes that `tools/quality.py` judges, too.
CLASSES = (207, 294, 398, 409, 455, 531, 681, 724, 851, 852)


class Displayed(nn.Module):
    """A network with the normalisation before it: it takes pictures in [0, 1].

    Args:
        normalize: The normalisation.
        net: The network; units are named by its module paths.
    """

    def __init__(self, normalize: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the outputs of the network for pictures ``(B, C, H, W)``."""
        outputs: Tensor = self.net(self.normalize(pictures))
        return outputs


@dataclass(frozen=True)
class Work:
    """Channels of a layer, a picture each, all of them at once.

    Args:
        network: Frozen, in eval mode, and takes pictures in [0, 1].
        layer: Path of the layer in the network.
        indices: The channels.
        shape: ``(C, H, W)`` of the pictures.
        steps: Number of steps.
        imagenet: Whether `network` is one of torchvision's behind ImageNet's normalisation, which peers bring along.
    """

    network: Displayed
    layer: str
    indices: tuple[int, ...]
    shape: tuple[int, int, int]
    steps: int
    imagenet: bool

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def units(self) -> list[str]:
        """The channels as this project names them."""
        return [f"{self.layer}:{index}" for index in self.indices]

    @property
    def picture_steps(self) -> int:
        """The number of steps of all pictures together."""
        return self.steps * len(self.indices)

    @cached_property
    def _capture(self) -> Capture:
        return Capture(self.network, [LayerCall(self.layer)])

    def activations(self, pictures: Tensor) -> Tensor:
        """Return the layer's activations for pictures ``(B, C, H, W)`` in [0, 1], as ``(B, channels, *positions)``."""
        (activation,) = self._capture(pictures).values()
        return activation.values

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the mean activation of each channel on its clean picture, ``(n,)``, as a file of 8 bits holds it.

        Args:
            pictures: ``(n, C, H, W)`` in [0, 1], in the order of `indices`.
        """
        parameter = next(self.network.parameters())
        saved = (pictures.detach().clamp(0, 1) * 255).round() / 255
        with torch.no_grad():
            values = self.activations(saved.to(parameter)).float()
        return values.reshape(*values.shape[:2], -1).mean(2)[torch.arange(len(saved)), list(self.indices)].cpu()

    def starting_score(self) -> float:
        """Return the mean activation of the channels on initial pictures: faint noise."""
        image = FourierImage()
        parameters = image.initial_parameters(self.shape, torch.Generator().manual_seed(0))
        pictures = image(parameters[None], self.shape).expand(len(self.indices), -1, -1, -1)
        return float(self.scores(pictures).mean())

    def first(self, count: int, steps: int) -> Self:
        """Return the work on the first `count` channels, with another number of steps."""
        return replace(self, indices=self.indices[:count], steps=steps)


def resnet_work(model: str, layer: str, channels: int, steps: int, device: str) -> Work:
    """Return channels of one of torchvision's networks with random, seeded weights, at 224 pixels."""
    import torchvision

    torch.manual_seed(0)
    network = Displayed(Normalize(IMAGENET_MEAN, IMAGENET_STD), torchvision.models.get_model(model))
    return Work(_ready(network, device), layer, tuple(range(channels)), (3, 224, 224), steps, imagenet=True)


def mnist_work(steps: int, device: str) -> Work:
    """Return the ten channels of `MnistCNN`'s second convolution, with random, seeded weights."""
    torch.manual_seed(0)
    network = _ready(Displayed(Normalize(), MnistCNN()), device)
    return Work(network, "conv2", tuple(range(10)), (1, 28, 28), steps, imagenet=False)


def class_work(steps: int, device: str, classes: Sequence[int] = CLASSES) -> Work:
    """Return ImageNet classes of tf_efficientnet_lite0, with the weights of the extra ``samples``.

    Raises:
        InputError: The extra is not installed.
    """
    module = BackboneModule("tf_efficientnet_lite0", weights="samples")
    network = _ready(Displayed(module.normalize, module.net), device)
    return Work(network, "classifier", tuple(classes), (3, 224, 224), steps, imagenet=False)


def _ready(network: Displayed, device: str) -> Displayed:
    return network.to(device).eval().requires_grad_(False)
