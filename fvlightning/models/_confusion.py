"""A classifier's confusion matrix: scores of each class, and a figure."""

from collections.abc import Mapping, Sequence
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


def score_table(scores: Mapping[str, Tensor], class_names: Sequence[str]) -> str:
    """Return scores by name, each ``(K,)``, as a table in Markdown with a row for each class."""
    rows = zip(class_names, *(values.tolist() for values in scores.values()), strict=True)
    lines = [f"| class | {' | '.join(scores)} |", "| --- " * (len(scores) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{score:.3f}' for score in values)} |" for name, *values in rows]
    return "\n".join(lines)


def confusion_figure(confusion: Tensor, class_names: Sequence[str], title: str) -> "Figure":
    """Draw a confusion matrix ``(K, K)``, with the numbers and each class's precision, recall and F1.

    Colours show each row's shares, so that rare classes can be compared with frequent ones. With more than 30 classes
    there are only colours. Title and axes stay readable where the figure is shrunk to 350 pixels. Pyplot does not know
    the figure, so it needs no closing.
    """
    from matplotlib.figure import Figure

    confusion = confusion.cpu()
    scores = torch.stack([*class_scores(confusion).values()], dim=1)
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp(min=1)
    classes = len(class_names)
    numbered = classes <= _MOST_NUMBERED
    # All lengths in inches, and font sizes in points, 1/72 of an inch.
    cell = 0.5 if numbered else min(max(0.1 * classes, 6.0), 16.0) / classes
    column = 0.8 if numbered else 0.1 * classes * cell
    longest_name = max(map(len, class_names)) if numbered else 0
    width = classes * cell + 3 * column + 0.14 * longest_name + 1.2
    large_font = max(2.2 * width, 14.0)
    names_font = 17.0 if numbered else large_font
    height = classes * cell + 0.007 * names_font * max(longest_name, 9) + 0.055 * large_font
    accuracy = float(confusion.diagonal().sum()) / max(int(confusion.sum()), 1)
    title = f"{title}: {accuracy:.2%} of {int(confusion.sum()):,} right"

    figure = Figure(figsize=(width, height), layout="compressed")
    matrix, table = figure.subplots(1, 2, width_ratios=[classes * cell, 3 * column])
    figure.suptitle(title, fontsize=min(large_font, 130 * width / len(title)))
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    counts = [[str(count or "") for count in row] for row in confusion.tolist()] if numbered else []
    digits = [[f"{score:.3f}" for score in row] for row in scores.tolist()] if numbered else []
    most_digits = len(str(int(confusion.max())))
    _draw_cells(matrix, shares, "Blues", counts, 1.0, min(18.0, 54 / most_digits))
    matrix.set_xlabel("predicted class", fontsize=large_font)
    matrix.set_ylabel("true class", fontsize=large_font)
    matrix.set(xticks=[], yticks=[])
    if numbered:
        angle = slanted if longest_name > 3 else {}
        matrix.set_xticks(range(classes), class_names, fontsize=names_font, **angle)
        matrix.set_yticks(range(classes), class_names, fontsize=names_font)
    _draw_cells(table, scores, "Greens", digits, cell / column, 16.0)
    table.set_xticks(range(3), ["precision", "recall", "F1"], fontsize=names_font, **slanted)
    table.set_yticks([])
    return figure


def _draw_cells(
    axes: "Axes", values: Tensor, colours: str, texts: list[list[str]], aspect: float, font_size: float
) -> None:
    """Draw values ``(R, C)`` in [0, 1] as coloured cells, and write the texts, if any, into them."""
    axes.imshow(values.numpy(), cmap=colours, vmin=0, vmax=1, aspect=aspect)
    for row, row_texts in enumerate(texts):
        for column, text in enumerate(row_texts):
            if text:
                color = "white" if values[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=font_size)
