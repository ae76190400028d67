"""Judges, against closed forms and loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fvlightning.analysis import OTHERS, ClassLabel, Judge, JudgedPicture, Verdict, random_views, summarize
from fvlightning.errors import InputError

SHAPE = (1, 12, 12)
LABEL = ClassLabel(1, None, 2)


def brightness(slope: float = 8.0) -> nn.Sequential:
    """Return a network with the logits 0 and ``slope * (mean - .5)``."""
    linear = nn.Linear(1, 2)
    linear.load_state_dict({"weight": torch.tensor([[0.0], [slope]]), "bias": torch.tensor([0.0, -slope / 2])})
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("level", [0.2, 0.9])
@pytest.mark.parametrize("ending", [None, nn.Softmax(1), nn.LogSoftmax(1)])
def test_the_probability_of_a_picture_of_one_colour_is_the_softmax(level: float, ending: nn.Module | None):
    network = brightness() if ending is None else nn.Sequential(brightness(), ending)
    verdict = Judge("mean", network, SHAPE).verdict(torch.full(SHAPE, level), LABEL, generator())
    assert verdict.probability == pytest.approx(1 / (1 + math.exp(-8 * (level - 0.5))), abs=1e-5)
    assert verdict.accuracy == (level > 0.5)


@pytest.mark.parametrize("flip", [False, True])
def test_a_verdict_equals_that_of_a_loop_over_views_of_the_judges_size(flip: bool):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 64, 3))
    picture = torch.rand(3, 16, 16)
    random, expected = generator(), []
    for _ in range(16):
        area, across, down, side = torch.rand(4, generator=random).tolist()
        size = round(16 * math.sqrt(0.5 + area / 2))
        top, left = round(down * (16 - size)), round(across * (16 - size))
        view = picture[None, :, top : top + size, left : left + size]
        view = F.interpolate(view, (10, 10), mode="bicubic", antialias=True).clamp(0, 1)
        view = view.flip(-1) if flip and side < 0.5 else view
        with torch.no_grad():
            expected.append(network.eval()(view).softmax(1)[0])
    network.train()
    verdict = Judge("net", network, (3, 10, 10)).verdict(picture, ClassLabel(2, None, 3), generator(), flip=flip)
    assert verdict.accuracy == pytest.approx(np.mean([int(view.argmax()) == 2 for view in expected]))
    assert verdict.probability == pytest.approx(np.mean([view[2].item() for view in expected]), abs=1e-5)
    assert network.training


def test_grey_pictures_are_judged_by_networks_of_colours_and_the_other_way():
    for shape, other in ((SHAPE, (3, 12, 12)), ((3, 12, 12), SHAPE)):
        views = random_views(torch.rand(shape), other, generator(), 3)
        assert views.shape == (3, *other)


def test_views_are_flipped_without_changing_their_places():
    picture = torch.rand(SHAPE)
    views, flipped = (random_views(picture, SHAPE, generator(), 40, flip=flip) for flip in (False, True))
    kept, mirrored = (
        [torch.equal(one, two) for one, two in zip(views, flipped, strict=True)] for views in (views, views.flip(-1))
    )
    assert [not same for same in kept] == mirrored
    assert 10 < sum(kept) < 30


@pytest.mark.parametrize(
    ("label", "names", "n_classes", "expected"),
    [
        (ClassLabel(1, "cat", 10), ("dog", "bird", "cat"), 3, 2),
        (ClassLabel(2, "crane", 3), ("crane", "cat", "crane"), 3, 2),
        (ClassLabel(4, "cat", 10), (), 10, 4),
        (ClassLabel(4, None, 10), tuple("abcdefghij"), 10, 4),
        (ClassLabel(1, "catt", 10), ("dog", "cat"), 2, r"judge has no class 'catt'; .*Did you mean 'cat'\?"),
        (ClassLabel(1, "crane", 9), ("crane", "cat", "crane"), 3, "judge has 2 classes of the name 'crane'"),
        (ClassLabel(1, "cat", 10), (), 3, "class cat is one of 10 classes, judge has 3, and judge has no name"),
        (ClassLabel(1, None, 10), ("a", "b"), 2, "class 1 is one of 10 classes, judge has 2, and class 1 has no name"),
        (ClassLabel(1, "cat", None), (), None, "one of an unknown number of classes, judge has an unknown number"),
    ],
)
def test_classes_are_matched_by_name_or_by_index_in_as_many(
    label: ClassLabel, names: tuple[str, ...], n_classes: int | None, expected: int | str
):
    if isinstance(expected, int):
        assert label.index_among(names, n_classes, "judge") == expected
    else:
        with pytest.raises(InputError, match=expected):
            label.index_among(names, n_classes, "judge")


def test_a_judge_knows_its_classes():
    judge = Judge("mean", brightness(), SHAPE, [("one", "two", "three"), ("dark", "light")])
    assert (str(judge.layer), judge.n_classes, judge.class_names) == ("2", 2, ("dark", "light"))
    assert judge.label("light") == judge.label(1) == ClassLabel(1, "light", 2)
    for chosen, message in ((2, "has no class 2: they are 0 to 1"), ("lihgt", r"no class 'lihgt'.*mean 'light'\?")):
        with pytest.raises(InputError, match=message):
            judge.label(chosen)
    with pytest.raises(InputError, match="class 'light': model 'mean' has no class names; give indices, or --data"):
        Judge("mean", brightness(), SHAPE).label("light")


def test_networks_that_cannot_judge_are_named():
    with pytest.raises(InputError, match=r"model 'maps' cannot judge: it has no layer that gives its output"):
        Judge("maps", nn.Sequential(nn.Conv2d(1, 2, 3)), SHAPE)
    judge = Judge("poisoned", brightness(math.nan), SHAPE)
    with pytest.raises(InputError, match="model 'poisoned' cannot judge: its outputs are not finite"):
        judge.probabilities(torch.rand(1, *SHAPE))


def test_means_and_their_errors_are_those_over_pictures():
    values = torch.rand(5, 3, 2, generator=generator()).tolist()  # pictures, judges, measures
    pictures = [
        JudgedPicture("b", "none", str(place), "cat", dict(zip("abc", [Verdict(*pair) for pair in row], strict=True)))
        for place, row in enumerate(values)
    ]
    cells = {cell.judge: cell for cell in summarize(pictures)}
    columns = {judge: np.array(values)[:, place] for place, judge in enumerate("abc")}
    columns[OTHERS] = (columns["a"] + columns["c"]) / 2
    assert list(cells) == ["a", "b", "c", OTHERS]
    for judge, cell in cells.items():
        mean, error = columns[judge].mean(0), columns[judge].std(0, ddof=1) / math.sqrt(5)
        assert (cell.source, cell.mode, cell.pictures) == ("b", "none", 5)
        assert (cell.accuracy, cell.probability) == pytest.approx(tuple(mean))
        assert (cell.accuracy_error, cell.probability_error) == pytest.approx(tuple(error))
    alone = summarize([JudgedPicture("a", "none", "", "cat", {"a": Verdict(1.0, 0.5)})])
    assert [(cell.judge, cell.accuracy_error) for cell in alone] == [("a", None)]
