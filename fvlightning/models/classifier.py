"""The LightningModule that trains a classifier."""

from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from fvlightning.errors import InputError
from fvlightning.models.classes import count_classes, misfit, wrong_outputs
from fvlightning.models.confusion import class_scores, confusion_figure
from fvlightning.models.hyperparameters import save_plain_hyperparameters
from fvlightning.models.schedule import check_interval, configure
from fvlightning.networks.normalize import Normalize
from fvlightning.protocols import read_class_names

# A confusion matrix of all 21,841 classes of ImageNet would take 3.8 GB.
_MOST_CLASSES_REPORTED = 2048


class ClassifierModule(L.LightningModule):
    """Train a network to tell classes apart by cross-entropy.

    It takes pictures in [0, 1], float of shape `(B, C, H, W)`; normalisation is a layer of it. It logs:

    - `train/loss` of single batches (of rank zero), `train/accuracy` of the epoch;
    - `val/loss`, `val/accuracy`, `test/loss`, `test/accuracy`;
    - on `Trainer.validate` and `Trainer.test`, also the unweighted means over classes `test/precision`, `test/recall`
      and `test/f1`, and, to the loggers only, those of each class, `test/f1/CLASS`, and a figure of the confusion
      matrix, `test/confusion_matrix`, where a logger takes matplotlib figures (TensorBoard). With more than 2,048
      classes these are left out.

    Attributes:
        net: The network, whose module paths name the units.
        normalize: The layer before it.
        input_shape: `(C, H, W)`, or None while it is not known.
        num_classes: Number of classes.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        label_smoothing: float = 0.0,
        normalize: bool = True,
        input_shape: tuple[int, int, int] | None = None,
    ) -> None:
        """Keep the network and how it is trained.

        Args:
            network: Maps pictures `(B, C, H, W)` to logits `(B, num_classes)`.
            num_classes: Number of classes; by default as many as the network gives: its `num_classes`, or else the
                outputs of its last layer.
            optimizer: Makes the optimiser of given parameters.
            scheduler: Makes the learning rate's schedule of a given optimiser; none by default.
            scheduler_interval: Whether the schedule goes on after each epoch or after each optimiser step.
            label_smoothing: Share of the target that is spread evenly over all classes in training, in [0, 1].
            normalize: Whether the mean and standard deviation of the training images, where the data module knows
                them, go into the normalisation layer when training starts; values of a checkpoint stay. Without them
                the network sees the pictures as they are, in [0, 1].
            input_shape: `(C, H, W)`; by default the `input_shape` of the network, or else of the data.

        Raises:
            InputError: If a number is out of its range, or the number of classes is not given and not to be seen.
        """
        super().__init__()
        num_classes = num_classes if num_classes is not None else count_classes(network)
        if num_classes is None:
            raise InputError(
                f"how many classes {type(network).__name__} tells apart cannot be seen: give num_classes, on the "
                "command line --model.num_classes N."
            )
        if num_classes < 2:
            raise InputError(f"num_classes must be at least 2, got {num_classes}.")
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"label_smoothing must be in [0, 1], got {label_smoothing}.")
        save_plain_hyperparameters(
            self,
            {
                "network": network,
                "num_classes": num_classes,
                "optimizer": optimizer,
                "scheduler": scheduler,
                "scheduler_interval": scheduler_interval,
                "label_smoothing": label_smoothing,
                "normalize": normalize,
                "input_shape": input_shape,
            },
        )
        self.net = network
        self.normalize = Normalize()
        self.num_classes = num_classes
        self.input_shape = _as_shape(input_shape if input_shape is not None else getattr(network, "input_shape", None))
        self.label_smoothing = label_smoothing
        self._takes_statistics = normalize
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._scheduler_interval = check_interval(scheduler_interval)
        # Arguments are not validated at every step: it costs a synchronisation, and `_classify` checks the shape.
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.confusion: MulticlassConfusionMatrix | None = None
        if num_classes <= _MOST_CLASSES_REPORTED:
            self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def setup(self, stage: str) -> None:
        """Take from the data module what it knows, and check that it fits.

        Raises:
            InputError: If the data have another shape or number of classes than this module.
        """
        data = getattr(self.trainer, "datamodule", None)
        shape, classes = _as_shape(getattr(data, "image_shape", None)), getattr(data, "num_classes", None)
        own_shape = self.input_shape if self.input_shape is not None else shape
        if (shape is not None and shape != own_shape) or (classes is not None and classes != self.num_classes):
            raise misfit(self, self.net, (own_shape, self.num_classes), data, (shape, classes))
        self.input_shape = own_shape
        if stage == "fit" and self._takes_statistics and not self.normalize.is_set:
            mean, std = getattr(data, "mean", None), getattr(data, "std", None)
            if mean is None or std is None:
                rank_zero_info("The data give no mean and std: the network sees the pictures as they are, in [0, 1].")
            else:
                self.normalize.set_statistics(mean, std)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures in [0, 1], `(B, C, H, W)`, to logits `(B, num_classes)`."""
        logits: Tensor = self.net(self.normalize(pictures))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pictures `(B, C, H, W)` and labels `(B,)`."""
        pictures, labels = batch
        logits = self._classify(pictures)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.train_accuracy.update(logits.detach(), labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the accuracy of the epoch."""
        self.log("train/accuracy", self.train_accuracy)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and the accuracy of the validation images."""
        self._evaluate(batch, "val", self.val_accuracy)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and the accuracy of the test images."""
        self._evaluate(batch, "test", self.test_accuracy)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of each class, unless it is one of the validations of a training."""
        self._log_class_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of each class."""
        self._log_class_scores("test")

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the probabilities of the classes, `(B, num_classes)`, of pictures with or without labels."""
        pictures = batch if isinstance(batch, Tensor) else batch[0]
        return self._classify(pictures).softmax(dim=-1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser of the parameters that are not frozen, and its schedule."""
        return configure(self, self._make_optimizer, self._make_scheduler, self._scheduler_interval)

    def _classify(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self(pictures)
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise wrong_outputs(self, self.net, self.num_classes, logits.shape)
        return logits

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str, accuracy: MulticlassAccuracy) -> None:
        pictures, labels = batch
        logits = self._classify(pictures)
        accuracy.update(logits, labels)
        if self.confusion is not None and self._reports_classes:
            self.confusion.update(logits, labels)
        self.log(f"{stage}/loss", F.cross_entropy(logits, labels), batch_size=len(labels), sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy, batch_size=len(labels), prog_bar=True)

    @property
    def _reports_classes(self) -> bool:
        return self.trainer.state.fn in (TrainerFn.VALIDATING, TrainerFn.TESTING)

    def _log_class_scores(self, stage: str) -> None:
        if self.confusion is None or not self._reports_classes:
            return
        confusion = self.confusion.compute()  # on every rank: it sums over them
        self.confusion.reset()
        scores = class_scores(confusion)._asdict()
        for score, values in scores.items():
            # All ranks have the same value; Lightning warns about an epoch's value that is not said to be synchronised.
            self.log(f"{stage}/{score}", values.mean().to(torch.float32), sync_dist=True)
        if not self.trainer.is_global_zero:
            return
        names = self._class_names()
        by_class = {
            f"{stage}/{score}/{name}": value
            for score, values in scores.items()
            for name, value in zip(names, values.tolist(), strict=True)
        }
        for logger in self.trainer.loggers:
            logger.log_metrics(by_class, step=self.global_step)
            add_figure = getattr(getattr(logger, "experiment", None), "add_figure", None)
            if add_figure is not None:
                figure = confusion_figure(confusion, names, title=f"{type(self.net).__name__}, {stage}")
                add_figure(f"{stage}/confusion_matrix", figure, global_step=self.global_step, close=False)

    def _class_names(self) -> Sequence[str]:
        names = read_class_names(getattr(self.trainer, "datamodule", None))
        return names or tuple(map(str, range(self.num_classes)))


def _as_shape(shape: Sequence[int] | None) -> tuple[int, int, int] | None:
    """Return `(C, H, W)` as a tuple: YAML and checkpoints give lists."""
    if shape is None:
        return None
    channels, height, width = shape
    return channels, height, width
