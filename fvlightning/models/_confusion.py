"""A classifier's confusion matrix: scores of each class, and a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERED = 30  # classes; the numbers of more would be too small to read


def class_scores(confusion: Tensor) -> dict[str, Tensor]:
    """Return ``precision``, ``recall`` and ``f1`` of each class, float64 ``(K,)`` in [0, 1]; 0 / 0 counts as 0.

    The confusion matrix has the numbers of images, ``(K, K)``, rows by true and columns by predicted class.
    """
    counts = confusion.double()
    hits, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
    # The denominators are whole numbers, so clamping at 1 changes only zeros.
    return {
        "precision": hits / predicted.clamp(min=1),
        "recall": hits / actual.clamp(min=1),
        "f1": 2 * hits / (predicted + actual).clamp(min=1),
    }


def confusion_figure(confusion: Tensor, class_names: Sequence[str], title: str) -> "Figure":
    """Draw a confusion matrix ``(K, K)``, with the numbers and each class's precision, recall and F1.

    Colours show each row's shares, so that rare classes can be compared with frequent ones. With more than 30 classes
    there are only colours. Pyplot does not know the figure, so it needs no closing.
    """
    from matplotlib.figure import Figure

    confusion = confusion.cpu()
    scores = torch.stack([*class_scores(confusion).values()], dim=1)
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    classes = len(class_names)
    numbered = classes <= _MOST_NUMBERED
    side = max(min((0.52 if numbered else 0.1) * classes, 16.0), 2.5)  # inches
    longest_name = max(map(len, class_names)) if numbered else 0
    figure = Figure(figsize=(side + 3.6 + 0.08 * longest_name, side + 1.6 + 0.08 * longest_name), layout="constrained")
    matrix, table = figure.subplots(1, 2, width_ratios=[classes, 3 * (1 if numbered else classes / 10)])
    accuracy = float(confusion.diagonal().sum()) / max(int(confusion.sum()), 1)
    figure.suptitle(f"{title}: {accuracy:.2%} of {int(confusion.sum()):,} right")

    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    counts = [[str(count or "") for count in row] for row in confusion.tolist()] if numbered else []
    digits = [[f"{score:.3f}" for score in row] for row in scores.tolist()] if numbered else []
    _draw_cells(matrix, shares, "Blues", counts)
    matrix.set(xlabel="predicted class", ylabel="true class")
    if numbered:
        matrix.set_xticks(range(classes), class_names, **(slanted if longest_name > 3 else {}))
        matrix.set_yticks(range(classes), class_names)
    _draw_cells(table, scores, "Greens", digits)
    table.set_xticks(range(3), ["precision", "recall", "F1"], **slanted)
    table.set_yticks([])
    return figure


def _draw_cells(axes: "Axes", values: Tensor, colours: str, texts: list[list[str]]) -> None:
    """Draw values ``(R, C)`` in [0, 1] as coloured cells, and write the texts, if any, into them."""
    axes.imshow(values.numpy(), cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, row_texts in enumerate(texts):
        for column, text in enumerate(row_texts):
            if text:
                color = "white" if values[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
