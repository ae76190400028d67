"""Objectives against plain sums."""

import pytest
import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features import (
    Activation,
    LayerCall,
    LayerEnergy,
    Objective,
    Target,
    Unit,
    UnitActivation,
    objective_of,
)
from fvlightning.features.objectives import stack_objectives

CONV, FC, BLOCK = LayerCall("conv"), LayerCall("fc"), LayerCall("block")


@pytest.fixture(params=["channels first", "channels last"])
def activations(request: pytest.FixtureRequest) -> dict[LayerCall, Activation]:
    """Of six pictures: a map, in memory one way or the other, a linear layer, and tokens with two prefix tokens."""
    last = request.param == "channels last"
    return {
        CONV: Activation(torch.randn(6, 3, 5, 4).movedim(3, 1) if last else torch.randn(6, 4, 3, 5)),
        FC: Activation(torch.randn(6, 7)),
        BLOCK: Activation.of(torch.randn(6, 9, 4), prefix_tokens=2),
    }


def conv(index: int, *position: int) -> Objective:
    return UnitActivation(Unit("conv", index, position))


def fc(index: int) -> Objective:
    return UnitActivation(Unit("fc", index))


def naive_mean(values: Tensor) -> Tensor:
    return torch.stack([torch.stack(list(row.flatten())).sum() / row.numel() for row in values])


def test_units(activations):
    maps, logits = activations[CONV].values, activations[FC].values
    torch.testing.assert_close(conv(2)(activations), naive_mean(maps[:, 2]))
    assert torch.equal(conv(2, 1, 4)(activations), maps[:, 2, 1, 4])
    assert torch.equal(fc(6)(activations), logits[:, 6])
    assert torch.equal(objective_of(Unit("fc", 6, minimize=True))(activations), -logits[:, 6])


def test_the_mean_over_tokens_leaves_out_the_prefix_tokens(activations):
    tokens = activations[BLOCK].values
    torch.testing.assert_close(UnitActivation(Unit("block", 1))(activations), naive_mean(tokens[:, 1, 2:]))
    assert torch.equal(UnitActivation(Unit("block", 1, (0,)))(activations), tokens[:, 1, 0])
    expected = naive_mean(tokens[:, :, 2:].square())
    torch.testing.assert_close(LayerEnergy(BLOCK)(activations), expected)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("position", [(), (2, 1)], ids=str)
def test_the_gradient_lies_in_memory_as_the_activations_do(order: tuple[int, ...], position: tuple[int, ...]):
    """Or it would be reordered on its way through the network, at every step."""
    sizes = [6, 4, 3, 5]
    maps = torch.randn(*(sizes[order.index(dim)] for dim in range(4))).permute(order).requires_grad_()
    assert maps.shape == (6, 4, 3, 5)
    of_maps: list[Tensor] = []
    passed_on = maps * 1
    passed_on.register_hook(of_maps.append)
    UnitActivation(Unit("conv", 2, position))({CONV: Activation(passed_on)}).sum().backward()
    assert of_maps[0].stride() == passed_on.stride()
    expected = torch.zeros_like(maps)
    n_values = 1 if position else maps[0, 0].numel()
    expected[(slice(None), 2, *position)] = 1 / n_values
    torch.testing.assert_close(maps.grad, expected)


def test_layer_energy_is_the_mean_square(activations):
    for layer in (CONV, FC):
        torch.testing.assert_close(LayerEnergy(layer)(activations), naive_mean(activations[layer].values.square()))
    assert objective_of(Unit("conv")) == LayerEnergy(CONV)


def test_root_mean_square(activations):
    rms = UnitActivation(Unit("conv", 2), "rms")(activations)
    torch.testing.assert_close(rms, naive_mean(activations[CONV].values[:, 2].square()).sqrt())
    rms = UnitActivation(Unit("block", 2), "rms")(activations)
    torch.testing.assert_close(rms, naive_mean(activations[BLOCK].values[:, 2, 2:].square()).sqrt())
    assert torch.equal(UnitActivation(Unit("fc", 2), "rms")(activations), activations[FC].values[:, 2])
    assert objective_of(Unit("conv", 2), "rms") == UnitActivation(Unit("conv", 2), "rms")


def test_the_root_mean_square_of_a_dead_map_has_a_gradient_of_zero():
    values = torch.zeros(2, 1, 3, 3, requires_grad=True)
    score = UnitActivation(Unit("conv", 0), "rms")({CONV: Activation(values)})
    (gradient,) = torch.autograd.grad(score.sum(), values)
    assert torch.equal(gradient, torch.zeros_like(values))


def test_the_weights_of_a_sum_are_what_they_say(activations):
    a, b, c = conv(0), fc(1), LayerEnergy(BLOCK)
    before = [objective(activations) for objective in (a, b, c)]
    total = 1 * a + 3 * b - 5 * c
    expected = before[0] + 3 * before[1] - 5 * before[2]
    torch.testing.assert_close(total(activations), expected)
    torch.testing.assert_close((a * 2 + b)(activations), 2 * before[0] + before[1])
    torch.testing.assert_close((2 * (a - 3 * (b + -c)))(activations), 2 * before[0] - 6 * before[1] + 6 * before[2])
    torch.testing.assert_close((total - total)(activations), torch.zeros(6))
    assert total.layers == {CONV, FC, BLOCK}


def test_operations_leave_their_operands_alone(activations):
    a, b, c = conv(0), fc(1), conv(2)
    pair = 2 * a + b
    before = pair(activations)
    for _ in range(3):
        _ = 5 * pair - 7 * c
        _ = -pair + pair
        pair += c
        pair -= c
    torch.testing.assert_close(pair(activations), before)
    assert torch.equal(a(activations), conv(0)(activations))
    assert (a, b, c) == (conv(0), fc(1), conv(2))


def test_python_sums_objectives(activations):
    parts = [conv(0), fc(1), fc(2)]
    torch.testing.assert_close(sum(parts)(activations), sum(part(activations) for part in parts))


@pytest.mark.parametrize("other", [1, 2.5, "conv:0", None])
def test_only_objectives_can_be_added(other):
    with pytest.raises(TypeError):
        conv(0) + other
    with pytest.raises(TypeError):
        conv(0) - other


@pytest.mark.parametrize("weight", [fc(0), "2", None])
def test_objectives_are_multiplied_by_numbers_only(weight):
    with pytest.raises(TypeError):
        conv(0) * weight


def test_target(activations):
    target = Target(fc(3), 0.25)
    torch.testing.assert_close(target(activations), -((activations[FC].values[:, 3] - 0.25) ** 2))
    assert target.layers == {FC}
    assert str(target) == "fc:3 -> 0.25"
    mixed = 2 * Target(fc(3), 0.25) + conv(1)
    torch.testing.assert_close(mixed(activations), 2 * target(activations) + conv(1)(activations))


class FirstMinusLast(Objective):
    """An objective of a user's own."""

    @property
    def layers(self) -> frozenset[LayerCall]:
        return frozenset({FC})

    def __call__(self, activations) -> Tensor:
        return activations[FC].values[:, 0] - activations[FC].values[:, -1]


BATCHES = {
    "one kind": [fc(3), fc(0), fc(3), fc(6), fc(1), fc(2)],
    "maps": [conv(3), conv(0), conv(3), conv(2), conv(1), conv(0)],
    "positions": [conv(3, 0, 0), conv(0, 2, 4), conv(3, 1, 1), conv(2, 2, 0), conv(1, 0, 4), conv(0, 1, 2)],
    "maps and positions": [conv(3), conv(0, 2, 4), conv(1), LayerEnergy(CONV), -conv(2, 0, 0), -conv(2)],
    "pooling": [conv(3), UnitActivation(Unit("conv", 3), "rms"), conv(1), conv(2), -conv(1), conv(0)],
    "layers": [
        fc(3),
        conv(1),
        UnitActivation(Unit("block", 1)),
        UnitActivation(Unit("block", 1, (3,))),
        fc(1),
        conv(2),
    ],
    "sums": [fc(1) + 2 * conv(0), fc(3) - conv(2), 3 * fc(0) - conv(1), fc(1) + fc(2), conv(0) + fc(0), -fc(1)],
    "targets": [Target(fc(1), 2), Target(fc(2), -1), FirstMinusLast(), -FirstMinusLast(), fc(0), LayerEnergy(FC)],
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_mixed_batch_gives_what_each_objective_gives_alone(activations, name: str):
    objectives = BATCHES[name]
    together = stack_objectives(objectives)(activations)
    alone = torch.stack([objective(activations)[row] for row, objective in enumerate(objectives)])
    assert together.shape == (6,)
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", BATCHES)
def test_each_score_depends_on_its_own_picture_alone(activations, name: str):
    leaves = {layer: found.values.clone().requires_grad_() for layer, found in activations.items()}
    scorer = stack_objectives(BATCHES[name])
    scores = scorer({layer: Activation(leaves[layer], found.prefix_tokens) for layer, found in activations.items()})
    for gradient in torch.autograd.grad(scores[2], list(leaves.values()), allow_unused=True):
        if gradient is not None:
            assert not gradient[[0, 1, 3, 4, 5]].any()


def test_text_forms():
    assert str(conv(1, 2, 3)) == "conv:1@2,3"
    assert str(LayerEnergy(CONV)) == "conv"
    assert str(fc(0) - 2.5 * conv(1)) == "fc:0 - 2.5*conv:1"


def test_the_text_form_of_an_objective_of_the_users_own_is_the_same_in_every_run():
    """It seeds the picture: the address of the object in it would make another picture in every run."""
    assert str(FirstMinusLast()) == str(FirstMinusLast())


def test_a_unit_may_be_given_as_text():
    assert UnitActivation("conv:3@1,2") == UnitActivation(Unit("conv", 3, (1, 2)))
    with pytest.raises(InputError, match=r"'conv'.* needs a unit with an index; a whole layer is LayerEnergy"):
        UnitActivation("conv")
