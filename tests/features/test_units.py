"""Units, and their text form."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvlightning.errors import InputError
from fvlightning.features import LayerCall, Unit, UnitRange

layers = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", fullmatch=True)
indices = st.integers(0, 10_000)
positions = st.one_of(st.just(()), st.tuples(indices), st.tuples(indices, indices))
outputs = st.one_of(st.none(), st.integers(0, 12).map(str), st.from_regex(r"[A-Za-z_][\w./-]*", fullmatch=True))
units = st.one_of(
    st.builds(Unit, layers, indices, positions, st.integers(0, 20), st.booleans(), outputs),
    st.builds(Unit, layers, st.none(), st.just(()), st.integers(0, 20), st.booleans(), outputs),
)


@given(units)
def test_the_text_form_of_a_unit_reads_back_as_the_unit(unit: Unit):
    assert Unit.parse(str(unit)) == unit
    assert UnitRange.parse(str(unit)).expand(20_000) == [unit]


@given(units, st.text(" \t\n", max_size=3))
def test_space_around_a_text_does_not_matter(unit: Unit, space: str):
    assert Unit.parse(space + str(unit) + space) == unit


@given(layers, indices, st.integers(0, 50), positions, st.integers(0, 9), st.booleans())
def test_a_range_names_each_of_its_units(layer, first, more, position, call, minimize):
    tail = "@" + ",".join(map(str, position)) if position else ""
    text = f"{'-' if minimize else ''}{layer}#{call}:{first}-{first + more}{tail}"
    expected = [Unit(layer, index, position, call, minimize) for index in range(first, first + more + 1)]
    assert UnitRange.parse(text).expand(first + more + 1) == expected


@given(layers, st.integers(1, 50), st.booleans())
def test_a_star_names_all_units_of_a_layer(layer, n_units, minimize):
    expanded = UnitRange.parse(f"{'-' if minimize else ''}{layer}:*").expand(n_units)
    assert expanded == [Unit(layer, index, minimize=minimize) for index in range(n_units)]


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_in_one_line(text: str):
    refusal = ""
    try:
        assert UnitRange.parse(text).first.layer in text
    except InputError as error:
        refusal = str(error)
    assert not refusal or repr(text) in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("conv2:3", Unit("conv2", 3)),
        ("conv2:3@14,7", Unit("conv2", 3, (14, 7))),
        ("blocks.2.mlp:3@5", Unit("blocks.2.mlp", 3, (5,))),
        ("conv2", Unit("conv2")),
        ("-conv2", Unit("conv2", minimize=True)),
        ("-fc.0:7", Unit("fc.0", 7, minimize=True)),
        ("relu#1:3", Unit("relu", 3, call=1)),
        ("relu#2", Unit("relu", call=2)),
        ("relu#0:3", Unit("relu", 3)),
        ("-relu#1:3@0,0", Unit("relu", 3, (0, 0), call=1, minimize=True)),
        ("0:0-0", Unit("0", 0)),
        ("encoder[1]:3", Unit("encoder", 3, output="1")),
        ("-attn#1[weights]:3@2", Unit("attn", 3, (2,), 1, minimize=True, output="weights")),
        ("attn[1]", Unit("attn", output="1")),
    ],
)
def test_every_kind_of_text_is_read(text: str, unit: Unit):
    assert Unit.parse(text) == unit
    assert unit.layer_call == LayerCall(unit.layer, unit.call, unit.output)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ":", ":3", "-", "#1", "--conv:3", "conv:", "conv:a", "conv:-1", "conv:3-", "conv:1.5", "conv:**"),
        *("conv:3@", "conv:3@1,", "conv:3@1,2,3", "conv:3@-1", "conv@3", "conv#:3", "conv#a", "conv:*-3", "conv:3:4"),
        *("conv :3", "conv: 3", "conv:3 4", "conv:3\nfc:1", "conv1:3,conv2:4", "conv1:3+conv2:4", "conv*2:3"),
        *("conv[]:3", "conv[1", "conv1]:3", "conv[1][2]:3", "conv[1]#1:3", "conv:3[1]", "[1]:3", "conv[a b]:3"),
    ],
)
def test_malformed_texts_are_refused_with_the_grammar(text: str):
    with pytest.raises(InputError, match=r"malformed unit.*a unit is .*LAYER") as caught:
        UnitRange.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", [None, 3, ["conv:3"], b"conv:3"])
def test_values_that_are_no_text_are_refused(text):
    with pytest.raises(InputError, match="malformed unit"):
        UnitRange.parse(text)


def test_a_number_with_too_many_digits_for_python_is_refused():
    with pytest.raises(InputError):
        UnitRange.parse("conv:" + "9" * 5000)


def test_a_backwards_range_is_refused_with_both_ends():
    with pytest.raises(InputError, match="from 5 back to 3"):
        UnitRange.parse("conv:5-3")


@pytest.mark.parametrize("text", ["conv:0-1", "conv:*"])
def test_several_units_are_not_one(text: str):
    with pytest.raises(InputError, match=re.escape(f"unit {text!r} names several units")):
        Unit.parse(text)


@pytest.mark.parametrize("text", ["conv:10", "conv:3-10", "conv:999999999999"])
def test_an_index_out_of_range_is_refused_with_the_range(text: str):
    with pytest.raises(InputError, match=r"no unit \d+ in layer 'conv'.*10 units: 0 to 9"):
        UnitRange.parse(text).expand(10)


@pytest.mark.parametrize("output", ["", "a b", "a]", "[a"])
def test_an_output_that_no_text_could_name_is_refused(output: str):
    with pytest.raises(InputError, match="unit of layer 'fc': output"):
        Unit("fc", 0, output=output)


@pytest.mark.parametrize("text", ["a:1 - b:2", "2*a:1", "-0.5*a:1", "a:1 + 2*b:3 - c", ".5*a"])
def test_a_weighted_sum_is_refused_as_a_unit(text: str):
    with pytest.raises(InputError, match="is a weighted sum, where a unit or a range of units is expected"):
        UnitRange.parse(text)


@pytest.mark.parametrize("layer", [LayerCall("conv"), LayerCall("relu", 2), LayerCall("attn", 1, "weights")], ids=str)
def test_the_text_form_of_a_layer_reads_back_as_the_layer(layer: LayerCall):
    assert LayerCall.parse(str(layer)) == layer


@pytest.mark.parametrize("text", ["conv#1:3", "-conv#1", "conv#1:*", "conv#1:3@1,2"])
def test_units_are_refused_as_a_layer(text: str):
    with pytest.raises(InputError, match=f"{re.escape(repr(text))} names units .*; give the layer alone, 'conv#1'"):
        LayerCall.parse(text)
