"""Schedules of sizes, and the rounds that they make."""

import math
from collections.abc import Callable

import pytest
from jsonargparse import ArgumentParser

from fvlightning.errors import InputError
from fvlightning.features import Maximizer
from fvlightning.features.scales import Round, Scale, plan_rounds

SHAPE = (1, 12, 12)
SCALES = [Scale(9, 20), Scale(12, 12), Scale(15, 18)]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (50, [(9, 20, 0), (12, 12, 20), (15, 18, 32)]),
        (100, [(9, 40, 0), (12, 24, 40), (15, 36, 64)]),
        (10, [(9, 4, 0), (12, 2, 4), (15, 4, 6)]),
        (2, [(12, 1, 0), (15, 1, 1)]),
        (1, [(15, 1, 0)]),
    ],
)
def test_other_numbers_of_steps_are_spread_over_the_rounds(steps: int, expected: list[tuple[int, int, int]]):
    rounds = plan_rounds(SCALES, SHAPE, steps)
    assert [(part.image_shape[-1], part.steps, part.first_step) for part in rounds] == expected
    assert rounds[-1].last_step == steps


def test_without_scales_there_is_one_round():
    assert plan_rounds([], (3, 8, 9), 7) == [Round((3, 8, 9), 7)]


def test_the_side_of_a_scale_is_the_shorter_side_of_the_picture():
    rounds = plan_rounds(SCALES, (3, 20, 10), 50)
    assert [part.image_shape for part in rounds] == [(3, 18, 9), (3, 24, 12), (3, 30, 15)]


@pytest.mark.parametrize("image_shape", [(9,), (9, 9), (1, 0, 9)])
def test_inputs_that_are_not_pictures_have_no_scales(image_shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"^inputs of shape \(.*\) are not pictures \(C, H, W\); leave out scales$"):
        plan_rounds(SCALES, image_shape, 50)


def test_sides_of_geometric_scales_are_rounded_down_one_after_the_other():
    scales = Scale.geometric(first=56, factor=1.2, rounds=12, steps=20, blur=1.4)
    assert [scale.side for scale in scales] == [56, 67, 80, 96, 115, 138, 165, 198, 237, 284, 340, 408]
    assert [scale.blur for scale in scales] == [0.0] + [1.4] * 11
    assert {scale.steps for scale in scales} == {20}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(0, 1), r"Scale\(side=0\): must be at least 1"),
        (lambda: Scale(1, 0), r"Scale\(steps=0\): must be at least 1"),
        (lambda: Scale(1, 1, blur=-1), r"Scale\(blur=-1\): must be at least 0 and finite"),
        (lambda: Scale(1, 1, blur=math.nan), r"Scale\(blur=nan\): must be at least 0 and finite"),
        (lambda: Scale.geometric(56, 0, 3, 1), r"Scale.geometric\(factor=0\): must be greater than 0"),
        (lambda: Scale.geometric(56, math.inf, 3, 1), r"Scale.geometric\(factor=inf\): must be greater than 0"),
        (lambda: Scale.geometric(56, 1.2, 0, 1), r"Scale.geometric\(rounds=0\): must be at least 1"),
        (lambda: Scale.geometric(2, 0.4, 3, 1), r"Scale\(side=0\): must be at least 1"),
    ],
)
def test_scales_out_of_range_are_refused(make: Callable[[], object], message: str):
    with pytest.raises(InputError, match=f"^{message}"):
        make()


def test_scales_are_written_as_mappings_in_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Maximizer, "maximizer")
    scales = [{"side": 56, "steps": 20}, {"side": 67, "steps": 26, "blur": 1.5}]
    config = {"class_path": "fvlightning.Maximizer", "init_args": {"scales": scales}}
    maximizer = parser.instantiate(parser.parse_object({"maximizer": config})).maximizer
    assert maximizer.settings.scales == (Scale(56, 20), Scale(67, 26, 1.5))
    assert maximizer.settings.steps == 46
