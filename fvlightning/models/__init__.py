"""LightningModules, and the networks that they train."""

from fvlightning.models.backbone import BackboneModule
from fvlightning.models.cifar import CifarCNN, CifarResNet
from fvlightning.models.classifier import ClassifierModule
from fvlightning.models.confusion import class_scores, confusion_figure
from fvlightning.models.mnist import MnistCNN, MnistMLP
from fvlightning.models.normalize import Normalize
from fvlightning.models.vae import VAEModule

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
