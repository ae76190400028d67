"""Networks as judges: do they see the class in a picture that was made for another network?"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from fvlightning.analysis.inspection import class_probabilities
from fvlightning.errors import InputError, did_you_mean
from fvlightning.features import Capture, isolated_rng
from fvlightning.features.capture import class_layers, device_and_dtype, frozen, survey_layers
from fvlightning.io import fit_picture

OTHERS = "others"
_SMALLEST_AREA = 0.5


@dataclass(frozen=True)
class ClassLabel:
    """A class: its index, its name if it is known, and the number of classes among which it has this index."""

    index: int
    name: str | None
    n_classes: int | None

    def __str__(self) -> str:
        return str(self.index) if self.name is None else self.name

    def index_among(self, class_names: Sequence[str], n_classes: int | None, owner: str) -> int:
        """Return the index of this class in another set of classes, by its name if both have names.

        Args:
            class_names: The names of the other set, empty if they are not known.
            n_classes: The number of classes of the other set, if it is known.
            owner: What has the other set, for messages.

        Raises:
            InputError: The other set has no such class, or only names could tell and one side has none.
        """
        if self.name is not None and class_names:
            indices = [index for index, name in enumerate(class_names) if name == self.name]
            if self.index in indices:
                return self.index  # of the classes of ImageNet, two are cranes
            if len(indices) == 1:
                return indices[0]
            problem = f"has {len(indices)} classes of the name" if indices else "has no class"
            hint = did_you_mean(self.name, class_names)
            raise InputError(f"{owner} {problem} {self.name!r}; leave out that class, or {owner}{hint}")
        if n_classes is not None and self.n_classes == n_classes:
            return self.index
        nameless = owner if self.name is not None else f"class {self}"
        raise InputError(
            f"class {self} is one of {self.n_classes or 'an unknown number of'} classes, {owner} has "
            f"{n_classes or 'an unknown number'}, and {nameless} has no name to match them by; give models with "
            "class_names, or --data whose class_names are theirs"
        )


@dataclass(frozen=True)
class Verdict:
    """What a judge makes of the random views of a picture, both in [0, 1]."""

    accuracy: float  # the share of views that it gives the picture's class
    probability: float  # the mean probability of that class


@dataclass(frozen=True)
class JudgedPicture:
    """A picture of a class, and what each judge makes of it."""

    source: str  # the model that it was made for
    mode: str  # how it was made
    file: str
    label: str
    verdicts: dict[str, Verdict]  # by judge


@dataclass(frozen=True)
class Cell:
    """Means over the pictures of a source and a mode, as one judge sees them, with standard errors over pictures.

    The judge ``others`` is the mean of the judges that the pictures were not made for. The errors of a single picture
    are None.
    """

    source: str
    mode: str
    judge: str
    pictures: int
    accuracy: float
    accuracy_error: float | None
    probability: float
    probability_error: float | None


class Judge:
    """A classifier that says which class pictures show.

    Args:
        name: Its name in tables and messages.
        network: Any module that takes pictures, and has a layer that gives its output, logits ``(B, K)``.
        image_shape: ``(C, H, W)`` of its pictures.
        class_names: Sets of names, of which the first of length K is taken.

    Attributes:
        layer: The layer whose units are the classes.
        n_classes: K.
        class_names: Their names; empty if they are not known.

    Raises:
        InputError: No layer gives the output, or the network cannot take such pictures.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        image_shape: tuple[int, ...],
        class_names: Sequence[Sequence[str]] = (),
    ) -> None:
        self.name, self.network, self.image_shape = name, network, image_shape
        layers = [survey.layer for survey in survey_layers(network, image_shape)]
        n_classes = class_layers(network, layers, image_shape)
        if not n_classes:
            raise InputError(f"model {name!r} cannot judge: it has no layer that gives its output, (B, classes)")
        self.layer = next(layer for layer in layers if layer in n_classes)
        self.n_classes = n_classes[self.layer]
        self.class_names = next((tuple(names) for names in class_names if len(names) == self.n_classes), ())

    def label(self, chosen: int | str) -> ClassLabel:
        """Return one of its classes by index or name; raise `InputError` if there is none, or several of that name."""
        if isinstance(chosen, str):
            if not self.class_names:
                raise InputError(f"class {chosen!r}: model {self.name!r} has no class names; give indices, or --data")
            index = ClassLabel(-1, chosen, None).index_among(self.class_names, self.n_classes, f"model {self.name!r}")
            return ClassLabel(index, chosen, self.n_classes)
        if not 0 <= chosen < self.n_classes:
            raise InputError(f"model {self.name!r} has no class {chosen}: they are 0 to {self.n_classes - 1}")
        return ClassLabel(chosen, self.class_names[chosen] if self.class_names else None, self.n_classes)

    def index_of(self, label: ClassLabel) -> int:
        """Return the judge's own index of a class. See `ClassLabel.index_among`."""
        return label.index_among(self.class_names, self.n_classes, f"model {self.name!r}")

    def probabilities(self, pictures: Tensor) -> Tensor:
        """Return the probabilities ``(B, K)``, on the network's device, of pictures ``(B, C, H, W)`` in [0, 1]."""
        device, dtype = device_and_dtype(self.network)
        with isolated_rng(), frozen(self.network), torch.no_grad():
            outputs = Capture(self.network, [self.layer])(pictures.to(device, dtype))[self.layer].tensor.float()
        if not outputs.isfinite().all():
            raise InputError(f"model {self.name!r} cannot judge: its outputs are not finite; give another checkpoint")
        return class_probabilities(outputs)

    def verdict(
        self, picture: Tensor, label: ClassLabel, generator: torch.Generator, n_views: int = 16, *, flip: bool = True
    ) -> Verdict:
        """Judge random views of a picture ``(C, H, W)`` in [0, 1] that should show a class. See `random_views`."""
        index = self.index_of(label)
        probabilities = self.probabilities(random_views(picture, self.image_shape, generator, n_views, flip=flip))
        right = (probabilities.argmax(1) == index).float().mean()
        return Verdict(right.item(), probabilities[:, index].mean().item())


def random_views(
    picture: Tensor, image_shape: Sequence[int], generator: torch.Generator, n_views: int = 16, *, flip: bool = True
) -> Tensor:
    """Return random parts of a picture, each of half to all of its area, resized.

    Args:
        picture: ``(C, H, W)`` in [0, 1].
        image_shape: Shape of the views. See `fit_picture`.
        generator: Random numbers, on the CPU.
        n_views: How many.
        flip: Whether half of the views are mirrored left to right. The parts are the same.

    Returns:
        ``(n_views, *image_shape)`` in [0, 1].
    """
    height, width = picture.shape[1:]
    views = []
    for area, across, down, side in torch.rand(n_views, 4, generator=generator).tolist():
        share = (_SMALLEST_AREA + (1 - _SMALLEST_AREA) * area) ** 0.5
        rows, columns = round(share * height), round(share * width)
        top, left = round(down * (height - rows)), round(across * (width - columns))
        view = fit_picture(picture[:, top : top + rows, left : left + columns], image_shape)
        views.append(view.flip(-1) if flip and side < 0.5 else view)
    return torch.stack(views)


def summarize(pictures: Sequence[JudgedPicture]) -> list[Cell]:
    """Return the mean over pictures for each source and mode, in the order of the pictures, and each judge."""
    rows: dict[tuple[str, str], list[JudgedPicture]] = {}
    for picture in pictures:
        rows.setdefault((picture.source, picture.mode), []).append(picture)
    cells = []
    for (source, mode), row in rows.items():
        columns = {judge: [picture.verdicts[judge] for picture in row] for judge in row[0].verdicts}
        if others := [verdicts for judge, verdicts in columns.items() if judge != source]:
            columns[OTHERS] = [_mean_verdict(verdicts) for verdicts in zip(*others, strict=True)]
        for judge, verdicts in columns.items():
            accuracy = _mean_and_error([verdict.accuracy for verdict in verdicts])
            probability = _mean_and_error([verdict.probability for verdict in verdicts])
            cells.append(Cell(source, mode, judge, len(row), *accuracy, *probability))
    return cells


def _mean_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    return Verdict(*map(statistics.fmean, zip(*(asdict(verdict).values() for verdict in verdicts), strict=True)))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error
