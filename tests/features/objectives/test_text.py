"""The text form of weighted sums of units."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fvlightning.errors import InputError
from fvlightning.features import (
    Activation,
    Direction,
    LayerCall,
    LayerEnergy,
    Objective,
    Target,
    Unit,
    UnitActivation,
    WeightedSum,
    interpolate,
    objective_of,
)

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", fullmatch=True)
indices, calls = st.integers(0, 10_000), st.integers(0, 9)
positions = st.one_of(st.just(()), st.tuples(indices), st.tuples(indices, indices))
outputs = st.one_of(st.none(), st.from_regex(r"\w+", fullmatch=True))
activations = st.builds(
    lambda *fields: UnitActivation(Unit(*fields)), names, indices, positions, calls, st.just(False), outputs
)
terms = st.one_of(activations, st.builds(lambda *fields: LayerEnergy(LayerCall(*fields)), names, calls, outputs))
weights = st.floats(allow_nan=False, allow_infinity=False)
sums = st.lists(st.tuples(weights, terms), min_size=1, max_size=4).map(lambda pairs: WeightedSum(tuple(pairs)))


@given(st.one_of(sums, terms))
def test_the_text_of_an_objective_reads_back_as_the_objective(objective: Objective):
    assert objective_of(str(objective)) == objective


@given(sums, st.sampled_from([" ", "   ", "\t", " \n "]))
def test_the_width_of_spaces_does_not_matter(objective: WeightedSum, space: str):
    assert objective_of(space + str(objective).replace(" ", space) + space) == objective


@given(st.text("ab:1*+-. #[]@,", max_size=16))
def test_any_text_is_read_or_refused_in_one_line(text: str):
    refusal = ""
    try:
        objective = objective_of(text)
        assert objective_of(str(objective)) == objective
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal


A, B, C = UnitActivation("classifier:207"), UnitActivation("classifier:208"), UnitActivation("blocks.3:5@1,2")


@pytest.mark.parametrize(
    ("text", "objective", "canonical"),
    [
        ("classifier:207 - 0.5*classifier:208 + 2*blocks.3:5@1,2", WeightedSum(((1, A), (-0.5, B), (2, C))), None),
        ("classifier:207", A, None),
        ("-classifier:207", -A, None),
        ("2*classifier:207", 2 * A, None),
        ("-2*classifier:207", -2 * A, None),
        ("1*classifier:207", WeightedSum(((1, A),)), None),
        ("-1*classifier:207", -A, "-classifier:207"),
        ("1*classifier:207 - 1.50*classifier:208", A - 1.5 * B, "classifier:207 - 1.5*classifier:208"),
        ("-.5*classifier:207 + 1e-3*classifier:208", -0.5 * A + 1e-3 * B, "-0.5*classifier:207 + 0.001*classifier:208"),
        ("1e20*classifier:207", 1e20 * A, "1e+20*classifier:207"),
        ("0*classifier:207 + classifier:208", 0 * A + B, None),
        ("classifier:207 + classifier:207", WeightedSum(((1, A), (1, A))), None),
        (
            "blocks.3 - attn#1[weights]:2",
            LayerEnergy(LayerCall("blocks.3")) - UnitActivation("attn#1[weights]:2"),
            None,
        ),
        ("0.5*0.5:3", 0.5 * UnitActivation("0.5:3"), None),
    ],
)
def test_every_kind_of_text_is_read(text: str, objective: Objective, canonical: str | None):
    assert objective_of(text) == objective
    assert str(objective) == (canonical or text)


def test_the_score_of_a_sum_follows_its_weights():
    activations = {LayerCall("classifier"): Activation(torch.tensor([[3.0, 5.0, 11.0]]))}
    assert objective_of("classifier:0 + 3*classifier:1 - 5*classifier:2")(activations).item() == 3 + 15 - 55
    assert objective_of("-classifier:0 - 0.5*classifier:1")(activations).item() == -5.5


def test_the_pooling_is_no_part_of_the_text():
    rms = objective_of("conv:1 - conv:2", "rms")
    assert rms == UnitActivation("conv:1", "rms") - UnitActivation("conv:2", "rms")
    assert str(rms) == "conv:1 - conv:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:1 - ", "malformed unit 'a:1 -'"),
        ("a:1 - - b:2", "malformed sum .*malformed unit '- b:2'"),
        ("a:1 - -b:2", "'-b:2' has a sign of its own"),
        ("--2*a:1", "malformed unit"),
        ("2*-a:1", "'-a:1' has a sign of its own"),
        ("a:1 + 2*", "malformed unit ''"),
        ("a:1 + x*b:2", r"malformed unit 'x\*b:2'"),
        ("a:1 + 2*3*b:2", r"malformed unit '3\*b:2'|'3\*b:2' is a weighted sum"),
        ("1e999*a:1", "1e999 is too large"),
        ("a:0-3 + b:1", "unit 'a:0-3' names several units where one is expected"),
        ("2*a:*", r"unit 'a:\*' names several units"),
        ("a:1 + b :2", "malformed unit 'b :2'"),
    ],
)
def test_malformed_sums_are_refused_with_their_wrong_part(text: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        objective_of(text)
    assert "\n" not in str(caught.value)


def test_terms_without_a_text_form_are_put_in_brackets():
    total = 2 * Target(A, 0.25) - Direction("conv", [1.0]) + B
    assert re.fullmatch(r"2\*\(classifier:207 -> 0\.25\) - \(Direction\(.*\)\) \+ classifier:208", str(total))


def test_minimising_is_a_weight_and_no_part_of_the_unit():
    assert objective_of(Unit("fc", 3, minimize=True)) == -UnitActivation("fc:3")
    assert str(objective_of(Unit("fc", 3, minimize=True))) == "-fc:3"
    with pytest.raises(InputError, match=r"-UnitActivation\('fc:3'\)"):
        UnitActivation("-fc:3")


def test_sums_can_be_interpolated():
    objectives = interpolate("fc:1 - fc:2", "fc:3", 3)
    assert [str(objective) for objective in objectives] == [
        "fc:1 - fc:2 + 0*fc:3",
        "0.5*fc:1 - 0.5*fc:2 + 0.5*fc:3",
        "0*fc:1 - 0*fc:2 + fc:3",
    ]
