import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from fvlightning.models._confusion import class_scores, confusion_figure


def test_scores_are_those_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (200,), generator=generator)
    predicted = torch.where(torch.rand(200, generator=generator) < 0.6, labels, (labels + 1) % 4)
    scores = class_scores(multiclass_confusion_matrix(predicted, labels, num_classes=5))
    references = {"precision": multiclass_precision, "recall": multiclass_recall, "f1": multiclass_f1_score}

    assert scores.keys() == references.keys()
    for name, reference in references.items():
        expected = reference(predicted, labels, num_classes=5, average="none")
        torch.testing.assert_close(scores[name], expected.double(), rtol=1e-6, atol=1e-6)


def test_a_class_that_never_comes_and_is_never_predicted_scores_zero():
    scores = class_scores(torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))

    assert [values[2].item() for values in scores.values()] == [0, 0, 0]
    assert scores["precision"][0] == 1
    assert scores["recall"][0] == 0.75
    assert scores["f1"][0].item() == pytest.approx(6 / 7)


def test_figure_shows_the_numbers_and_the_scores():
    figure = confusion_figure(torch.tensor([[30, 10], [0, 20]]), ["cat", "dog"], "Net, test")
    matrix, table = figure.axes

    assert figure.get_suptitle() == "Net, test: 83.33% of 60 right"
    assert {text.get_position(): text.get_text() for text in matrix.texts} == {(0, 0): "30", (1, 0): "10", (1, 1): "20"}
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["cat", "dog"]
    assert {text.get_position(): text.get_text() for text in table.texts} == {
        (0, 0): "1.000", (1, 0): "0.750", (2, 0): "0.857",
        (0, 1): "0.667", (1, 1): "1.000", (2, 1): "0.800",
    }  # fmt: skip


@pytest.mark.parametrize("names", ["0123456789", ["airplane", "automobile", *"abcdefgh"]])
def test_cells_are_square_and_hold_their_texts(names):
    figure = confusion_figure(torch.full((len(names), len(names)), 9_999), names, "MnistCNN, test")
    figure.draw_without_rendering()
    matrix, table = figure.axes
    for axes, columns in ((matrix, len(names)), (table, 3)):
        box = axes.get_window_extent()
        cell = box.width / columns, box.height / len(names)
        assert axes is table or cell[0] == pytest.approx(cell[1], rel=1e-3)
        text = axes.texts[0].get_window_extent()
        assert text.width < cell[0]
        assert text.height < cell[1]
    assert matrix.get_window_extent().height == pytest.approx(table.get_window_extent().height, rel=1e-3)
    title = figure._suptitle.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= figure.bbox.width
    # Shrunk to a card of 350 pixels, letters of title and axes are at least 8 pixels high.
    assert title.height * 350 / figure.bbox.width > 8


def test_figure_of_many_classes_has_no_numbers():
    matrix, table = confusion_figure(torch.eye(100, dtype=torch.int64), list(map(str, range(100))), "Net").axes

    assert not matrix.texts
    assert not table.texts
