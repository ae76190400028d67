"""LightningModules, and the networks that they train."""

from fvlightning.models.backbone import BackboneModule
from fvlightning.models.classifier import ClassifierModule
from fvlightning.models.confusion import class_scores, confusion_figure
from fvlightning.models.vae import VAEModule
from fvlightning.networks.cifar import CifarCNN, CifarResNet
from fvlightning.networks.mnist import MnistCNN, MnistMLP
from fvlightning.networks.normalize import Normalize

__all__ = [
    "BackboneModule",
    "CifarCNN",
    "CifarResNet",
    "ClassifierModule",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "VAEModule",
    "class_scores",
    "confusion_figure",
]
