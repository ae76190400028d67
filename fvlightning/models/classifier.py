"""The LightningModule that trains a classifier."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from fvlightning.averaging import averages_of
from fvlightning.errors import InputError
from fvlightning.models._base import BaseModule, Interval, pictures_of
from fvlightning.models._classes import check_data, check_outputs, count_classes
from fvlightning.models._confusion import class_scores, confusion_figure, score_table
from fvlightning.networks import Normalize
from fvlightning.protocols import read_class_names

# A confusion matrix of all 21,841 classes of ImageNet would take 3.8 GB.
_MOST_CLASSES_REPORTED = 2048


class ClassifierModule(BaseModule):
    """Train a network to tell classes apart by cross-entropy.

    It takes float pictures ``(B, C, H, W)`` in [0, 1]; normalisation is its first layer, `normalize`. The module paths
    of the network, `net`, name the units. It logs

    - ``train/loss`` of single batches (of rank zero) and ``train/accuracy`` of the epoch, where a mixed picture counts
      as the class with the largest share;
    - ``val/loss``, ``val/accuracy``, ``test/loss`` and ``test/accuracy``, with more than ten classes also
      ``val/accuracy_top5`` and ``test/accuracy_top5``;
    - with up to 2,048 classes, on `Trainer.validate` and `Trainer.test`, the unweighted means over classes
      ``test/precision``, ``test/recall`` and ``test/f1``. TensorBoard gets the scores of each class in the figure
      ``test/confusion_matrix`` and as the table ``test/classes`` under Text. Loggers that take no matplotlib figures
      get them as scalars, ``test/f1/CLASS``.

    Args:
        network: Maps pictures ``(B, C, H, W)`` to logits ``(B, num_classes)``.
        num_classes: Number of classes. Default: the network's `num_classes`, or the outputs of its last layer. If it is
            given, the data may have fewer: their labels are the first outputs.
        optimizer, scheduler, scheduler_interval: See `BaseModule`.
        label_smoothing: Share of the target that is spread evenly over all classes in training, in [0, 1].
        normalize: Whether training starts by setting the normalisation layer to the mean and standard deviation of the
            training images, if the data module knows them. Values from a checkpoint stay.
        input_shape: ``(C, H, W)`` of the pictures. Default: the `input_shape` of the network, or that of the data.
        mixup: α of mixup, which blends each training image and its label with another one of its batch; 0 for none.
        cutmix: α of CutMix, which pastes a part of another one instead; 0 for none. With both, each batch gets one.

    Raises:
        InputError: A setting is out of its range, or the number of classes is neither given nor evident.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Interval = "epoch",
        label_smoothing: float = 0.0,
        normalize: bool = True,
        input_shape: tuple[int, int, int] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        super().__init__(optimizer, scheduler, scheduler_interval)
        self._may_have_more = num_classes is not None  # than the data
        num_classes = num_classes if num_classes is not None else count_classes(network)
        self._save_plain_hyperparameters(locals())
        if num_classes is None:
            raise InputError(
                f"{type(self).__name__}: the number of classes of {type(network).__name__} is not evident; give "
                "num_classes, on the command line --model.num_classes N"
            )
        self._require(num_classes >= 2, "must be at least 2", num_classes=num_classes)
        self._require(0 <= label_smoothing <= 1, "must be between 0 and 1", label_smoothing=label_smoothing)
        self._require(mixup >= 0, "must be at least 0", mixup=mixup)
        self._require(cutmix >= 0, "must be at least 0", cutmix=cutmix)
        self.net = network
        self.normalize = Normalize()
        self.num_classes = num_classes
        shape = input_shape if input_shape is not None else getattr(network, "input_shape", None)
        self.input_shape: tuple[int, ...] | None = tuple(shape) if shape is not None else None
        self.label_smoothing = label_smoothing
        self.mixup, self.cutmix = mixup, cutmix
        self._takes_statistics = normalize
        # Validating arguments would cost a synchronisation at every step, and `_classify` checks the shape.
        self.train_accuracy, self.val_accuracy, self.test_accuracy = (
            MulticlassAccuracy(num_classes, average="micro", validate_args=False) for _ in range(3)
        )
        top5 = partial(MulticlassAccuracy, num_classes, top_k=5, average="micro", validate_args=False)
        self.val_top5: MulticlassAccuracy | None = top5() if num_classes > 10 else None
        self.test_top5: MulticlassAccuracy | None = top5() if num_classes > 10 else None
        self.confusion: MulticlassConfusionMatrix | None = None
        if num_classes <= _MOST_CLASSES_REPORTED:
            self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def setup(self, stage: str) -> None:
        """Take shape and statistics from the data; raise `InputError` if shape or classes differ from this module's."""
        data = getattr(self.trainer, "datamodule", None)
        self.input_shape = check_data(
            self, self.input_shape, self.num_classes, data, may_have_fewer=self._may_have_more
        )
        if stage == "fit" and self._takes_statistics and not self.normalize.is_set:
            mean, std = getattr(data, "mean", None), getattr(data, "std", None)
            if mean is None or std is None:
                rank_zero_info("The data have no mean and std: the network gets the pictures as they are, in [0, 1].")
            else:
                for module in (self, *self._copies()):
                    module.normalize.set_statistics(mean, std)

    def _copies(self) -> list[Any]:
        """Return the copies of this module, which callbacks that average weights have made before its `setup`."""
        models = [average._average_model for average in averages_of(self.trainer)]
        return [model.module for model in models if model is not None]

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures ``(B, C, H, W)`` in [0, 1] to logits ``(B, num_classes)``."""
        logits: Tensor = self.net(self.normalize(pictures))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pictures ``(B, C, H, W)`` and labels ``(B,)``."""
        pictures, labels = batch
        targets = labels  # or, of mixed pictures, shares of the classes, (B, num_classes)
        if self.mixup or self.cutmix:
            pictures, targets = _mix(pictures, labels, self.num_classes, self.mixup, self.cutmix)
            labels = targets.argmax(1)
        logits = self._classify(pictures)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_accuracy.update(logits.detach(), labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the accuracy of the epoch."""
        self.log("train/accuracy", self.train_accuracy)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and the accuracy of the validation images."""
        self._evaluate(batch, "val", self.val_accuracy, self.val_top5)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and the accuracy of the test images."""
        self._evaluate(batch, "test", self.test_accuracy, self.test_top5)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of each class, except in the validations of a training."""
        self._log_class_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of each class."""
        self._log_class_scores("test")

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the probabilities ``(B, num_classes)`` of pictures with or without labels."""
        return self._classify(pictures_of(batch)).softmax(dim=-1)

    def _classify(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self(pictures)
        check_outputs(self, self.num_classes, logits.shape)
        return logits

    def _evaluate(
        self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy, top5: MulticlassAccuracy | None
    ) -> None:
        pictures, labels = batch
        logits = self._classify(pictures)
        accuracy.update(logits, labels)
        if self.confusion is not None and self._reports_classes:
            self.confusion.update(logits, labels)
        self.log(f"{stage}/loss", F.cross_entropy(logits, labels), batch_size=len(labels), sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy, batch_size=len(labels), prog_bar=True)
        if top5 is not None:
            top5.update(logits, labels)
            self.log(f"{stage}/accuracy_top5", top5, batch_size=len(labels))

    @property
    def _reports_classes(self) -> bool:
        return self.trainer.state.fn in (TrainerFn.VALIDATING, TrainerFn.TESTING)

    def _log_class_scores(self, stage: str) -> None:
        if self.confusion is None or not self._reports_classes:
            return
        confusion = self.confusion.compute()  # on every rank: it sums over them
        self.confusion.reset()
        scores = class_scores(confusion)
        names = read_class_names(getattr(self.trainer, "datamodule", None))
        n_classes = len(names) or self.num_classes  # of the data
        names += tuple(map(str, range(len(names), self.num_classes)))
        for score, values in scores.items():
            # All ranks have the same value. Lightning warns about an epoch's value without `sync_dist`.
            self.log(f"{stage}/{score}", values[:n_classes].mean().to(torch.float32), sync_dist=True)
        if not self.trainer.is_global_zero:
            return
        by_class = {
            f"{stage}/{score}/{name}": value
            for score, values in scores.items()
            for name, value in zip(names, values.tolist(), strict=True)
        }
        for logger in self.trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if not hasattr(experiment, "add_figure"):
                logger.log_metrics(by_class, step=self.global_step)
                continue
            figure = confusion_figure(confusion, names, title=f"{type(self.net).__name__}, {stage}")
            experiment.add_figure(f"{stage}/confusion_matrix", figure, global_step=self.global_step, close=False)
            experiment.add_text(f"{stage}/classes", score_table(scores, names), global_step=self.global_step)


def _mix(pictures: Tensor, labels: Tensor, num_classes: int, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Mix each picture with another one of its batch, by mixup or CutMix, chosen at random for the batch.

    The share of a picture is drawn from the distribution Beta(α, α). See https://arxiv.org/abs/1710.09412 and
    https://arxiv.org/abs/1905.04899.

    Args:
        pictures: ``(B, C, H, W)``.
        labels: int64 ``(B,)``.
        num_classes: Number of classes.
        mixup: α of mixup; 0 for CutMix alone.
        cutmix: α of CutMix; 0 for mixup alone.

    Returns:
        The mixed pictures, and the shares of the classes in them, ``(B, num_classes)``.
    """
    from torchvision.transforms import v2

    kinds = [(v2.MixUp, mixup), (v2.CutMix, cutmix)]
    mixed, shares = v2.RandomChoice([kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha])(
        pictures, labels
    )
    return mixed, shares.to(pictures.dtype)
