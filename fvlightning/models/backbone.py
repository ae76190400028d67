"""Any network of timm, pretrained or not, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.models._base import Interval
from fvlightning.models._stages import parameter_groups, stages
from fvlightning.models.classifier import ClassifierModule
from fvlightning.networks import imagenet_names, make_timm_network

_FIND_UNUSED = "find_unused_parameters"


class BackboneModule(ClassifierModule):
    """Load a network of timm by its name, to look into it as it is, or to train it like a `ClassifierModule`.

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
        num_classes: Number of classes. Default: that of the weights. With another number the head starts at random; it
            may be larger than that of the data. With 0 there is no head, and the outputs are the network's features.
        input_shape: ``(C, H, W)`` of the pictures. Default: that of timm's data config. Networks with a fixed size,
            such as vision transformers, are made for the given size; others take any. The weights are adapted to it.
        model_args: Further arguments of the network's constructor in timm, plain values, such as ``drop_path_rate``.
        optimizer: See `ClassifierModule`. Its weight decay is not applied to norms and biases.
        scheduler, scheduler_interval, label_smoothing: See `ClassifierModule`.
        mixup, cutmix: See `ClassifierModule`.
        layer_decay: Learning rate of each layer, as a share of that of the layer behind it; the head has the
            optimiser's. For fine-tuning, 0.65 to 0.9 are usual. Default: all layers have the same.
        frozen_stages: How many of the network's stages, from the input, are not trained: 1 is the stem, 2 the stem and
            the first stage or block, -1 all but the head. Their batch norms keep their statistics.
        thaw_epoch: The epoch, from 0, with which the frozen stages begin to train. Default: never.
        channels_last: Whether the network computes with channels last in memory, which is faster for convolutions.
        grad_checkpointing: Whether activations are computed again in the backward pass, to save memory.
        compile: Whether training runs the network by `torch.compile`, or the arguments for that, such as
            ``{mode: max-autotune}``.

    Raises:
        InputError: timm has no such network, it takes no such arguments, or the weights cannot be loaded or do not fit;
            or a setting is out of its range.
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
        mixup: float = 0.0,
        cutmix: float = 0.0,
        layer_decay: float | None = None,
        frozen_stages: int = 0,
        thaw_epoch: int | None = None,
        channels_last: bool = False,
        grad_checkpointing: bool = False,
        compile: bool | dict[str, Any] = False,
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
            mixup=mixup,
            cutmix=cutmix,
        )
        self._save_plain_hyperparameters(arguments)
        self._may_have_more = bool(num_classes)
        is_share = layer_decay is None or 0 < layer_decay <= 1
        self._require(is_share, "must be above 0 and at most 1", layer_decay=layer_decay)
        self._require(thaw_epoch is None or thaw_epoch >= 1, "must be at least 1", thaw_epoch=thaw_epoch)
        has_frozen = frozen_stages != 0
        self._require(thaw_epoch is None or has_frozen, "has no effect without frozen_stages", thaw_epoch=thaw_epoch)
        self.layer_decay, self.thaw_epoch = layer_decay, thaw_epoch
        self._frozen: set[str] = set()  # names: a strategy may replace the parameters
        if has_frozen:
            all_stages = stages(network)
            requirement = f"must be -1 or less than {len(all_stages)}, the number of stages with the head"
            self._require(-1 <= frozen_stages < len(all_stages), requirement, frozen_stages=frozen_stages)
            self._frozen = {name for stage in all_stages[:frozen_stages] for name in stage}
        self.channels_last, self.grad_checkpointing = channels_last, grad_checkpointing
        if channels_last:
            network.to(memory_format=torch.channels_last)
        if grad_checkpointing:
            try:
                network.set_grad_checkpointing(True)  # type: ignore[operator]
                network.set_grad_checkpointing(False)  # type: ignore[operator]
            except (AssertionError, AttributeError) as error:
                raise InputError(f"grad_checkpointing: '{model_name}' cannot do it; leave it out") from error
        self._compile = {} if compile is True else compile
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

    def setup(self, stage: str) -> None:
        """Freeze the stages that never thaw, and compile the network, for training. See `ClassifierModule.setup`."""
        super().setup(stage)
        if stage != "fit":
            return
        for name in self._frozen:
            self.net.get_parameter(name).requires_grad_(self.thaw_epoch is not None)
        strategy = self.trainer.strategy
        if self.thaw_epoch and isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get(_FIND_UNUSED):
            self._require(False, f"needs --trainer.strategy ddp_{_FIND_UNUSED}_true", thaw_epoch=self.thaw_epoch)
        if self._compile is not False:
            self.net.compile(**self._compile)  # `torch.compile` would change the names of the weights

    def on_train_start(self) -> None:
        """Freeze stages in an epoch that goes on from a checkpoint."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Freeze or thaw stages."""
        if not self._frozen:
            return
        thawed = self.thaw_epoch is not None and self.current_epoch >= self.thaw_epoch
        for path, module in self.net.named_modules():
            named = module.named_parameters(path, recurse=False)
            parameters = [parameter for name, parameter in named if name in self._frozen]
            for parameter in parameters:
                parameter.requires_grad_(thawed)
            if parameters:
                module.training = thawed  # not `train()`, which would reach the modules inside

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pictures ``(B, C, H, W)`` and labels ``(B,)``."""
        if not self.grad_checkpointing:
            return super().training_step(batch, batch_idx)
        # Only here: checkpointed layers are not called as modules, so that no picture of them could be made.
        self.net.set_grad_checkpointing(True)  # type: ignore[operator]
        try:
            return super().training_step(batch, batch_idx)
        finally:
            self.net.set_grad_checkpointing(False)  # type: ignore[operator]

    def parameter_groups(self) -> list[Any]:
        """Return groups with and without weight decay, and of each layer with `layer_decay`."""
        return parameter_groups(self.net, self.layer_decay)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures ``(B, C, H, W)`` in [0, 1] to logits ``(B, num_classes)``."""
        if self.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        return super().forward(pictures)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint load without the original weights, and with the number of classes of the network."""
        if hyperparameters := checkpoint.get("hyper_parameters"):
            changed = {"weights": None, "num_classes": self.net.num_classes}
            checkpoint["hyper_parameters"] = {**hyperparameters, **changed}
