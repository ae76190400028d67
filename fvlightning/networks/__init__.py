"""Networks as plain modules of PyTorch, their normalisation layer, and pretrained weights."""

from fvlightning.networks.autoencoder import Autoencoder, draw_alike, draw_codes, kl_from_prior, to_pictures
from fvlightning.networks.normalize import Normalize
from fvlightning.networks.small import CifarCNN, CifarResNet, MnistCNN, MnistMLP
from fvlightning.networks.timm_networks import imagenet_ids, imagenet_names, make_timm_network

__all__ = [
    "Autoencoder",
    "CifarCNN",
    "CifarResNet",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "draw_alike",
    "draw_codes",
    "imagenet_ids",
    "imagenet_names",
    "kl_from_prior",
    "make_timm_network",
    "to_pictures",
]
