"""Any of timm's networks, pretrained or not, as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from fvlightning.models.classifier import ClassifierModule
from fvlightning.models.hyperparameters import save_plain_hyperparameters
from fvlightning.networks.timm_networks import imagenet_names, make_timm_network


class BackboneModule(ClassifierModule):
    """A network of timm by its name: to look into as it is, or to train further as `ClassifierModule` does.

    It takes pictures in [0, 1], float of shape `(B, C, H, W)`. The mean and standard deviation that the weights were
    trained with, of timm's data config, are its normalisation layer and stay so in training. A checkpoint holds all
    weights: it is loaded without the hub and without the file that the first ones came from.

    Attributes:
        net: timm's network: units are named by its module paths, as in ``layer3.0.conv1:5``, ``blocks.5.mlp.act:3``.
        input_shape: `(C, H, W)` of the pictures.
        num_classes: Number of outputs: classes or, without a head, features.
        class_names: Short names of ImageNet's classes, if its weights for these are timm's, else None. Whoever knows
            them may set them.
    """

    class_names: Sequence[str] | None

    def __init__(
        self,
        model_name: str,
        weights: str | None = "hub",
        num_classes: int | None = None,
        input_shape: tuple[int, int, int] | None = None,
        model_args: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
    ) -> None:
        """Make the network and get its weights.

        Args:
            model_name: A name of `timm.list_models()`, such as ``resnet18``, or with the tag of certain weights, of
                `timm.list_pretrained()`, such as ``resnet18.tv_in1k``. The tag also decides the normalisation.
            weights: ``hub`` for timm's pretrained weights, from the Hugging Face hub or its local cache; ``samples``
                for those of the installed extra ``samples`` (``tf_efficientnet_lite0``, ``1`` and ``2``); a
                ``.safetensors``, ``.pth`` or ``.bin`` file, which is read without running code; None for random ones.
            num_classes: Number of classes; by default that of the weights. With another number the head starts at
                random; with 0 there is none, and the outputs are the network's features.
            input_shape: `(C, H, W)` of the pictures; by default that of timm's data config. Networks whose size is
                fixed, as that of a vision transformer, are made for the size given; others take any.
            model_args: Further arguments of the network's constructor in timm, plain values.
            optimizer: Makes the optimiser of given parameters.
            scheduler: Makes the learning rate's schedule of a given optimiser; none by default.
            scheduler_interval: Whether the schedule goes on after each epoch or after each optimiser step.
            label_smoothing: Share of the target that is spread evenly over all classes in training, in [0, 1].

        Raises:
            InputError: If timm has no such network, the network takes no such arguments, or the weights cannot be
                had, are damaged, hold code, or are those of another network.
        """
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
        save_plain_hyperparameters(
            self,
            {
                "model_name": model_name,
                "weights": weights,
                "num_classes": num_classes,
                "input_shape": input_shape,
                "model_args": model_args,
                "scheduler": scheduler,
                "scheduler_interval": scheduler_interval,
                "label_smoothing": label_smoothing,
            },
        )
        mean, std = config["mean"], config["std"]
        if input_shape is not None and input_shape[0] != len(mean):
            # Weights for colours that see, say, grey pictures: the colours' average stands for every channel.
            mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
        self.normalize.set_statistics(mean, std)
        # Of a file, as of a checkpoint, nobody but the data module knows what it was trained on.
        self.class_names = imagenet_names(self.net) if weights in ("hub", "samples") else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint be loaded without the weights, and with the number of classes, that it began with."""
        if hyperparameters := checkpoint.get("hyper_parameters"):
            made_with = {"weights": None, "num_classes": self.net.num_classes}
            checkpoint["hyper_parameters"] = {**hyperparameters, **made_with}
