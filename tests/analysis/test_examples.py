"""The running top k against a full sort, and scores against `fvlightning.score`."""

import math

import pytest
import torch
from digits import Net
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fvlightning import score
from fvlightning.analysis import RunningExamples, UnitScorer, find_examples
from fvlightning.data import PictureSelection
from fvlightning.features import objective_of, resolve_objectives

VALUES = st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.nan, math.inf])  # few values, so that many are equal


def naive(scores: list[float], count: int, sign: int) -> list[tuple[int, float]]:
    finite = [(place, value) for place, value in enumerate(scores) if math.isfinite(value)]
    return sorted(finite, key=lambda pair: (sign * pair[1], pair[0]))[:count]


def pairs(examples) -> list[tuple[int, float]]:
    return [(example.place, example.score) for example in examples]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40),
    k=st.integers(1, 6),
    size=st.integers(1, 9),
    ranks=st.integers(1, 3),
)
def test_examples_are_those_of_a_full_sort(rows, k, size, ranks):
    scores = torch.tensor(rows)
    units = resolve_objectives(nn.Sequential(nn.Linear(2, 2)), ["0:*"], (2,))
    total = RunningExamples(2, k)
    for rank in range(ranks):
        running = RunningExamples(2, k)
        for part in torch.arange(len(rows))[rank::ranks].split(size):
            if len(part):
                running.add(scores[part], scores[part] > 0, part)
        saved = RunningExamples(2, k)
        saved.load_state_dict(running.state_dict())
        total.merge(saved)
    for column, result in enumerate(total.results(units)):
        values = scores[:, column].tolist()
        finite = [value for value in values if math.isfinite(value)]
        assert pairs(result.strongest) == naive(values, k, -1)
        assert pairs(result.weakest) == naive(values, k, 1)
        assert (result.n_images, result.n_non_finite) == (len(finite), len(values) - len(finite))
        assert (result.minimum, result.maximum) == (min(finite, default=None), max(finite, default=None))
        assert sum(result.histogram) == len(finite)
        assert result.active == sum(value > 0 for value in finite) / max(len(finite), 1)
        # With fewer than 1,000 images all are in the sample.
        ordered = naive(values, len(values), -1)
        tenths = [ordered[len(ordered) * part // 10 : len(ordered) * (part + 1) // 10] for part in range(10)]
        assert pairs(result.tenths) == [tenth[len(tenth) // 2] for tenth in tenths if tenth]
    assert total.last_place == len(rows) - 1


def test_memory_does_not_grow_with_the_images():
    running, sizes = RunningExamples(3, 4), []
    for first in range(0, 6000, 500):
        scores = torch.rand(500, 3, generator=torch.Generator().manual_seed(first))
        running.add(scores, scores > 0.5, torch.arange(first, first + 500))
        sizes.append(sum(tensor.numel() for tensor in running.state_dict().values()))
    assert set(sizes[2:]) == {sizes[-1]}
    places = running.state_dict()["sample_places"]
    assert places.unique().numel() == 1000
    assert 2700 < places.double().mean() < 3300


def test_scores_of_all_units_are_those_of_each():
    torch.manual_seed(0)
    network, pictures = Net().train(), torch.rand(5, 1, 8, 8)
    texts = ["conv:*", "fc:*", "-conv:1", "conv:2@1,3", "conv", "fc:1 - 0.5*fc:2"]
    for pooling in ("mean", "rms"):
        units = resolve_objectives(network, texts, (1, 8, 8), pooling)
        scores, is_active = UnitScorer(network, units, pooling)(pictures)
        objectives = [objective_of(unit, pooling) for unit in units]
        torch.testing.assert_close(scores, score(network, objectives, pictures))
        maps: Tensor = network.conv(pictures)
        assert torch.equal(is_active[:, :6], maps.amax((2, 3)) > 0)
    assert network.drop.training


def test_examples_of_any_network_and_loader_are_found():
    torch.manual_seed(0)
    network, pictures = Net(), torch.rand(7, 1, 8, 8)
    selection = PictureSelection(DataLoader(pictures, batch_size=3), image_shape=(1, 8, 8))
    results = find_examples(network, ["conv:*", "fc:1 - fc:2"], selection, k=2, pooling="rms")
    scores = score(network, [objective_of(result.unit, "rms") for result in results], pictures)
    assert [result.unit for result in results] == [*(f"conv:{index}" for index in range(6)), "fc:1 - fc:2"]
    for result, column in zip(results, scores.T, strict=True):
        for examples, largest in ((result.strongest, True), (result.weakest, False)):
            assert [example.place for example in examples] == column.topk(2, largest=largest).indices.tolist()


@pytest.mark.parametrize("n_images", [1, 9])
def test_few_images_have_fewer_tenths(n_images):
    running = RunningExamples(1, 20)
    scores = torch.arange(float(n_images))[:, None]
    running.add(scores, scores > 0, torch.arange(n_images))
    (result,) = running.results(["0:0"])
    assert len(result.strongest) == len(result.weakest) == n_images
    assert [example.place for example in result.tenths] == list(reversed(range(n_images)))
