"""Distribution matching against loops over channels and ranks, and closed forms."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor, nn

from fvlightning.analysis import UnitScorer
from fvlightning.errors import InputError
from fvlightning.features import Activation, DistributionMatch, Maximizer, PixelImage, Target, UnitActivation, score
from fvlightning.features.objectives import Objective

SHAPE = (3, 10, 12)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(240, 6)).double()


def pictures(count: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def naive(network: nn.Module, picture: Tensor, references: Tensor, weights: dict[int, float]) -> float:
    """Loop over layers, channels and ranks."""
    total = 0.0
    for layer, weight in weights.items():
        part = nn.Sequential(*list(network)[: layer + 1])
        with torch.no_grad():
            values, of_references = (part(batch.double()).flatten(2) for batch in (picture[None], references))
        n_channels = values.shape[1]
        loss = 0.0
        for channel in range(n_channels):
            ranked = sorted(values[0, channel].tolist())
            targets = [sorted(row[channel].tolist()) for row in of_references]
            means = [sum(row[rank] for row in targets) / len(targets) for rank in range(len(ranked))]
            loss += sum((a - b) ** 2 for a, b in zip(ranked, means, strict=True)) / len(ranked)
        total += weight * loss / n_channels
    return -total


def test_scores_equal_loops_over_channels_and_ranks(network: nn.Module):
    references = pictures(20, seed=1)  # more than a batch
    objective = DistributionMatch(["0", "2"], references, [2.0, 0.5])
    given = pictures(3)
    expected = [naive(network, picture, references, {0: 2.0, 2: 0.5}) for picture in given]
    assert score(network, objective, given)[:, 0].tolist() == pytest.approx(expected, rel=1e-5)
    in_batches = UnitScorer(network, [objective])
    assert in_batches(given)[0][:, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_best_score_is_0_whatever_the_positions_of_the_values():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    (reference,) = pictures(1)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(2))
    shuffled = reference.flatten(1)[:, order].view(SHAPE)
    objective = DistributionMatch(["1"], reference[None])
    scores = score(network, objective, torch.stack([reference, shuffled, 1 - reference]))[:, 0]
    assert scores[:2].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert scores[2] < -1e-4


def test_a_shift_of_all_values_costs_its_square():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(network[0].weight, 3.0)
    references = 0.5 * pictures(4, shape=(1, 8, 8))
    # The mean of equal pictures' sorted values is that of each of them.
    objective = DistributionMatch(["0"], references[:1].expand(4, -1, -1, -1), [2.0])
    shifted = references[:1].flip(3) + 0.25
    assert score(network, objective, shifted).item() == pytest.approx(-2 * (3 * 0.25) ** 2, rel=1e-5)


def test_gradients_are_those_of_finite_differences(network: nn.Module):
    objective = DistributionMatch(["1", "2"], pictures(4, seed=1))
    given = pictures(1).double()
    _, gradients = score(network, objective, given, gradients=True)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(given.shape, generator=generator, dtype=torch.float64)
    prepared = objective.prepared(network, SHAPE)

    def at(step: float) -> float:
        layers = {layer: nn.Sequential(*list(network)[: int(layer.layer) + 1]) for layer in prepared.layers}
        with torch.no_grad():
            moved = given + step * direction
            return prepared({layer: Activation(part(moved)) for layer, part in layers.items()}).item()

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    assert (gradients[0, 0].double() * direction[0]).sum().item() == pytest.approx(slope, rel=1e-3)


def test_pictures_stand_alone(network: nn.Module):
    objectives = [DistributionMatch(["2"], pictures(4, seed=seed)) for seed in (1, 2)]
    given = pictures(2)
    together = score(network, objectives, given, paired=True)
    alone = [score(network, one, given[row : row + 1]).item() for row, one in enumerate(objectives)]
    assert together.tolist() == pytest.approx(alone, rel=1e-6)
    maximizer = Maximizer(12, transforms=[], seed=1)
    both = maximizer.maximize(network.float(), objectives, SHAPE)
    for feature, objective in zip(both, objectives, strict=True):
        (one,) = maximizer.maximize(network, [objective], SHAPE)
        torch.testing.assert_close(one.image, feature.image, rtol=0, atol=0.02)


def test_other_numbers_of_positions_are_compared_by_interpolated_ranks():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(network[0].weight)
    ramp = torch.linspace(0.1, 0.9, 64).view(1, 1, 8, 8)
    objective = DistributionMatch(["0"], ramp).prepared(network, (1, 8, 8))
    finer = torch.linspace(0.1, 0.9, 256).view(1, 1, 16, 16)
    # The distributions are the same, up to half a rank.
    assert abs(score(network, objective, finer).item()) < (0.8 / 64) ** 2
    assert abs(score(network, objective, finer * 0.5).item()) > 0.05


def test_channels_count_by_their_relevance_to_a_unit():
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False))
    nn.init.dirac_(network[0].weight)
    with torch.no_grad():  # the unit is 2 * red + green
        network[1].weight.zero_()[1, :, 0, 0] = torch.tensor([2.0, 1.0, 0.0])
    references, given = pictures(5, seed=1), pictures(2)
    match = DistributionMatch(["0"], references, relevant_to="1:1")
    red, green = (float((factor * references[:, c]).amax((1, 2)).mean()) for c, factor in ((0, 2), (1, 1)))
    channels = given.flatten(2).sort(2).values - references.flatten(2).sort(2).values.mean(0)
    distances = channels.square().mean(2)
    expected = -(red * distances[:, 0] + green * distances[:, 1]) / (red + green)
    torch.testing.assert_close(score(network, match, given)[:, 0], expected)
    assert str(match).endswith(", 0, relevant to 1:1)")


def test_a_unit_that_layers_do_not_feed_into_is_named(network: nn.Module):
    match = DistributionMatch(["0", "2"], pictures(2), relevant_to="0:1")
    with pytest.raises(InputError, match=r"relevant_to='0:1'\): layer '2' does not matter to it"):
        score(network, match, pictures(1))
    with pytest.raises(InputError, match="no unit 9 in layer '4', which has 6 units"):
        Maximizer(1).maximize(network, [DistributionMatch(["0"], pictures(2), relevant_to="4:9")], SHAPE)


def test_a_picture_comes_to_have_the_colours_of_its_references():
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
    nn.init.dirac_(network[0].weight)
    color = torch.tensor([0.8, 0.3, 0.5])[:, None, None]
    references = (color + 0.1 * (pictures(6) - 0.5)).clamp(0, 1)
    maximizer = Maximizer(300, transforms=[], image=PixelImage(decorrelate=False))
    (feature,) = maximizer.maximize(network, [DistributionMatch(["0"], references)], SHAPE)
    assert feature.score > -1e-3
    torch.testing.assert_close(feature.image.mean((1, 2)), references.mean((0, 2, 3)), rtol=0, atol=0.02)


def test_sums_and_targets_prepare_their_parts(network: nn.Module):
    match, unit = DistributionMatch(["0"], pictures(3, seed=1)), UnitActivation("4:2")
    given = pictures(2)
    alone, unit_scores = (score(network, one, given)[:, 0] for one in (match, unit))
    torch.testing.assert_close(score(network, unit - 3 * match, given)[:, 0], unit_scores - 3 * alone)
    torch.testing.assert_close(score(network, Target(match, 0.5), given)[:, 0], -((alone - 0.5) ** 2))


def test_an_objective_that_has_not_seen_the_network_says_so():
    with pytest.raises(InputError, match="has not seen the network; use Maximizer, score"):
        DistributionMatch(["0"], pictures(1))({})


@pytest.fixture
def photos(in_folder: None) -> Tensor:
    """Write seven images into a folder with a subfolder, and return their pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 12, 3), np.uint8)
    Path("dogs/more").mkdir(parents=True)
    for index, image in enumerate(pixels):
        PILImage.fromarray(image).save(Path("dogs", "more" if index > 4 else "", f"{index}.png"))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def same_score(network: nn.Module, one: Objective, other: Objective) -> bool:
    given = pictures(2)
    return torch.allclose(score(network, one, given), score(network, other, given))


def test_references_are_a_folder_a_list_or_the_examples_of_a_unit(network: nn.Module, photos: Tensor):
    expected = DistributionMatch(["0"], photos)
    folder = DistributionMatch(["0"], "dogs")
    assert same_score(network, folder, expected)
    assert re.fullmatch(r"DistributionMatch\(dogs, [0-9a-f]{8}, 0\)", str(folder))
    files = [Path("dogs", f"{index}.png") for index in (0, 3)]
    assert same_score(network, DistributionMatch(["0"], files), DistributionMatch(["0"], photos[[0, 3]]))
    sample = DistributionMatch(["0"], "dogs", n_references=3)
    assert same_score(network, sample, DistributionMatch(["0"], "dogs", n_references=3))
    assert not same_score(network, sample, expected)
    strongest = [{"place": index, "file": f"{index}.png"} for index in (2, 4)]
    content = {"images": {"images": "dogs"}, "units": [{"unit": "2:1", "strongest": strongest}]}
    Path("examples.json").write_text(json.dumps(content))
    of_unit = DistributionMatch(["0"], "examples.json", unit="2:1")
    assert same_score(network, of_unit, DistributionMatch(["0"], photos[[2, 4]]))


def test_the_text_tells_references_apart(photos: Tensor):
    one = DistributionMatch(["0", "2"], "dogs", [1, 0.5])
    assert re.fullmatch(r"DistributionMatch\(dogs, [0-9a-f]{8}, 0 \+ 0\.5\*2\)", str(one))
    assert one == DistributionMatch(["0", "2"], "dogs", [1, 0.5])
    PILImage.fromarray(np.zeros((10, 12, 3), np.uint8)).save("dogs/1.png")
    other = DistributionMatch(["0", "2"], "dogs", [1, 0.5])
    assert str(other) != str(one)
    assert other != one


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, r"layers=\[\]\): give at least one"),
        ({"layers": ["0", "0"]}, "each once"),
        ({"weights": [1, 2]}, "must be greater than 0, one for each layer"),
        ({"weights": [0]}, "must be greater than 0, one for each layer"),
        ({"n_references": 0}, r"n_references=0\): must be at least 1"),
        ({"references": "cats"}, "no folder 'cats'"),
        ({"references": ["dogs/0.png", "dogs/9.png"]}, r"there is no file 'dogs/9\.png'"),
        ({"references": []}, "there are none"),
        ({"references": torch.rand(3, 8, 8)}, r"of shape \(3, 8, 8\) is not pictures"),
        ({"references": 2 * torch.ones(1, 3, 8, 8)}, "is not pictures"),
        ({"unit": "2:1"}, r"must be the examples\.json of `examples`"),
        ({"unit": "2:1", "references": "examples.json"}, "the file has no such unit; units: 2:0"),
        ({"unit": "2:0", "references": "examples.json"}, "its images have no files"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_bad_settings_are_refused(settings: dict[str, Any], message: str):
    content = {"images": {"data": "MNISTDataModule"}, "units": [{"unit": "2:0", "strongest": [{"place": 3}]}]}
    Path("examples.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        DistributionMatch(**{"layers": ["0"], "references": "dogs", **settings})
