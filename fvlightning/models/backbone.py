"""Any network of timm, pretrained or not, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info

from fvlightning.models._base import Interval
from fvlightning.models.classifier import ClassifierModule
from fvlightning.networks import imagenet_names, make_timm_network


class BackboneModule(ClassifierModule):
    """Load a network of timm by its name, to look into it as it is, or to train it further like a `ClassifierModule`.

    It takes float pictures ``(B, C, H, W)`` in [0, 1]. Its normalisation layer has the mean and standard deviation that
    the weights were trained with, from timm's data config, and keeps them in training. A checkpoint holds all weights
    and loads without the hub or the original weights file.

    Attributes:
        net: timm's network; its module paths name the units, such as ``layer3.0.conv1:5`` or ``blocks.5.mlp.act:3``.
        crop_pct: How much of an image's sides, around its middle, the weights were evaluated on, by timm's data config.
        class_names: Short names of ImageNet's classes if weights and head are timm's for these, else None. Can be set.

    Args:
        model_name: A name from `timm.list_models()`, such as ``resnet18``, or one from `timm.list_pretrained()`, whose
            tag chooses the weights and the normalisation, such as ``resnet18.tv_in1k``.
        weights: ``hub`` for timm's pretrained weights, from the Hugging Face hub or its local cache; ``samples`` for
            those of the installed extra ``samples`` (``tf_efficientnet_lite0``, ``1`` and ``2``); a ``.safetensors``,
            ``.pth`` or ``.bin`` file, which is read without running code; None for random weights.
        num_classes: Number of classes. Default: that of the weights. With another number the head starts at random;
            with 0 there is no head, and the outputs are the network's features.
        input_shape: ``(C, H, W)`` of the pictures. Default: that of timm's data config. Networks with a fixed size,
            such as vision transformers, are made for the given size; others take any. The weights are adapted to it.
        model_args: Further arguments of the network's constructor in timm, plain values.
        optimizer, scheduler, scheduler_interval, label_smoothing: See `ClassifierModule`.

    Raises:
        InputError: timm has no such network, it takes no such arguments, or the weights cannot be loaded or do not fit.
    """

    def __init__(
        self,
        model_name: str,
        weights: str | None = "hub",
        num_classes: int | None = None,
        input_shape: tuple[int, int, int] | None = None,
        model_args: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Interval = "epoch",
        label_smoothing: float = 0.0,
    ) -> None:
        arguments = dict(locals())
        from timm.data.config import resolve_model_data_config

        network = make_timm_network(model_name, weights, num_classes, input_shape, model_args)
        config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
        classes: int = network.num_classes  # type: ignore[assignment]
        features: int = getattr(network, "head_hidden_size", None) or network.num_features  # type: ignore[assignment]
        super().__init__(
            network,
            num_classes=classes or features,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            label_smoothing=label_smoothing,
            normalize=False,
            input_shape=input_shape if input_shape is not None else config["input_size"],
        )
        self._save_plain_hyperparameters(arguments)
        self.model_name = model_name
        self.crop_pct: float = config["crop_pct"]
        mean, std = config["mean"], config["std"]
        if input_shape is not None and input_shape[0] != len(mean):
            # For grey pictures, say: each channel gets the average over the colours.
            mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
        self.normalize.set_statistics(mean, std)
        # Only the data module knows what a weights file or a checkpoint was trained on.
        self.class_names: Sequence[str] | None = imagenet_names(network) if weights in ("hub", "samples") else None
        trained_for: int = network.pretrained_cfg["num_classes"]  # type: ignore[index, assignment]
        if weights is not None and classes not in (0, trained_for):
            rank_zero_info(f"The head for {classes} classes starts at random: the weights have {trained_for}.")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint load without the original weights, and with the number of classes of the network."""
        if hyperparameters := checkpoint.get("hyper_parameters"):
            changed = {"weights": None, "num_classes": self.net.num_classes}
            checkpoint["hyper_parameters"] = {**hyperparameters, **changed}
