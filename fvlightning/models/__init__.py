"""LightningModules: they train networks, or wrap trained ones."""

from fvlightning.models.backbone import BackboneModule
from fvlightning.models.classifier import ClassifierModule
from fvlightning.models.vae import VAEModule

__all__ = ["BackboneModule", "ClassifierModule", "VAEModule"]
