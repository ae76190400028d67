"""LightningModules, and the networks that they train."""

from fvlightning.models.backbone import BackboneModule
from fvlightning.models.classifier import ClassifierModule
from fvlightning.models.confusion import class_scores, confusion_figure
from fvlightning.models.mnist import MnistCNN, MnistMLP
from fvlightning.models.normalize import Normalize

__all__ = [
    "BackboneModule",
    "ClassifierModule",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "class_scores",
    "confusion_figure",
]
