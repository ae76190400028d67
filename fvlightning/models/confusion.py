"""A classifier's confusion matrix: scores of each class, and a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERED = 30  # classes; with more the numbers could not be read


class ClassScores(NamedTuple):
    """Scores of each class, float64 of shape `(K,)` in [0, 1]. A quotient of 0 by 0 counts as 0."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


def class_scores(confusion: Tensor) -> ClassScores:
    """Return precision, recall and F1 of each class.

    precision = true positives / all predicted as the class; recall = true positives / all of the class;
    F1 = 2 · precision · recall / (precision + recall).

    Args:
        confusion: Numbers of images, `(K, K)`, rows by true and columns by predicted class.
    """
    counts = confusion.double()
    hits, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
    # The denominators are whole numbers, so that clamping at 1 changes only those that are 0.
    return ClassScores(
        precision=hits / predicted.clamp(min=1),
        recall=hits / actual.clamp(min=1),
        f1=2 * hits / (predicted + actual).clamp(min=1),
    )


def confusion_figure(confusion: Tensor, class_names: Sequence[str], title: str) -> "Figure":
    """Draw a confusion matrix, with the numbers and each class's precision, recall and F1.

    Colours show each row's shares, so that rare classes can be compared with frequent ones. With more than 30 classes
    there are only colours.

    Args:
        confusion: Numbers of images, integers of shape `(K, K)`, rows by true and columns by predicted class.
        class_names: K names.
        title: Title of the figure, put before the accuracy.

    Returns:
        A matplotlib figure that pyplot does not know, so it needs no closing.
    """
    from matplotlib.figure import Figure

    confusion = confusion.cpu()
    scores = class_scores(confusion)
    classes = len(class_names)
    numbered = classes <= _MOST_NUMBERED
    cell = 0.52 if numbered else 0.1  # inches
    side = max(min(cell * classes, 16.0), 2.5)
    longest_name = max(map(len, class_names)) if numbered else 0
    figure = Figure(figsize=(side + 3.6 + 0.08 * longest_name, side + 1.6 + 0.08 * longest_name), layout="constrained")
    matrix, table = figure.subplots(1, 2, width_ratios=[classes, 3 * (1 if numbered else classes / 10)])
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    total = int(confusion.sum())
    accuracy = float(confusion.diagonal().sum()) / max(total, 1)
    figure.suptitle(f"{title}: {accuracy:.2%} of {total:,} right")

    matrix.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    matrix.set(xlabel="predicted class", ylabel="true class")
    table.imshow(torch.stack(list(scores), dim=1).numpy(), cmap="Greens", vmin=0, vmax=1, aspect="auto")
    table.set_xticks(range(3), ["precision", "recall", "F1"], rotation=45, ha="right", rotation_mode="anchor")
    table.set_yticks([])
    if numbered:
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest_name > 3 else {}
        matrix.set_xticks(range(classes), class_names, **turned)
        matrix.set_yticks(range(classes), class_names)
        for row in range(classes):
            for column in range(classes):
                if count := int(confusion[row, column]):
                    color = "white" if shares[row, column] > 0.5 else "black"
                    matrix.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
            for column, score in enumerate(scores):
                value = float(score[row])
                table.text(
                    column,
                    row,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    color="white" if value > 0.5 else "black",
                    fontsize=8,
                )
    return figure
