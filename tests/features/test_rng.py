"""Random numbers: those of the surrounding program, and those of each picture."""

import random

import numpy as np
import pytest
import torch

from fvlightning.features.rng import isolated_rng, picture_generator


def random_states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the state to be restored
    return random.getstate(), tuple(torch.get_rng_state().tolist()), name, tuple(keys.tolist()), *rest


def draw() -> None:
    random.random(), torch.rand(3), np.random.rand(3)  # noqa: NPY002


def test_random_states_are_restored():
    before = random_states()
    with isolated_rng():
        draw()
        torch.manual_seed(5)
        random.seed(5)
        assert random_states() != before
    assert random_states() == before


def test_random_states_are_restored_after_an_exception():
    before = random_states()

    def fail() -> None:
        draw()
        raise KeyError

    with pytest.raises(KeyError), isolated_rng():
        fail()
    assert random_states() == before


def test_generators_depend_on_seed_unit_and_repeat_alone():
    def numbers(*key) -> list[float]:
        return torch.rand(3, generator=picture_generator(*key)).tolist()

    keys = [
        (0, "conv:1", 0),
        (1, "conv:1", 0),
        (0, "conv:2", 0),
        (0, "conv:1", 1),
        (0, "-conv:1", 0),
        (-1, "conv:1", 0),
    ]
    drawn = [numbers(*key) for key in keys]
    assert [numbers(*key) for key in keys] == drawn
    assert len({tuple(values) for values in drawn}) == len(keys)


def test_the_generator_of_a_picture_is_the_same_in_every_process():
    """Ranks and runs must agree, but Python's hash of a string differs from process to process."""
    assert picture_generator(0, "conv:1", 0).initial_seed() == 1558629835637754521
