"""Weights beside what the layer sees, against closed forms and loops."""

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from fvlightning import Maximizer, Normalize, PixelImage
from fvlightning.analysis import FirstLayer
from fvlightning.errors import InputError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def linear(*before: nn.Module) -> nn.Sequential:
    return nn.Sequential(*before, nn.Flatten(), nn.Linear(36, 4))


def test_a_picture_that_the_layer_sees_as_its_weights_has_cosine_1():
    layer = FirstLayer(linear(Normalize([0.5], [0.25])), "2", (1, 6, 6))
    pictures = 0.5 + layer.weights  # the weights are smaller than 0.17
    for match, weights in zip(layer.match(range(4), pictures), layer.weights, strict=True):
        assert (match.cosine, match.centred_cosine, match.largest_cosine) == (pytest.approx(1),) * 3
        assert match.norm == pytest.approx(weights.norm().item())
        assert (match.position, match.box) == ((0, 0), (0, 0, 6, 6))
        torch.testing.assert_close(match.patch, 0.5 + weights)


def test_the_best_picture_of_bounded_norm_is_the_positive_part_of_the_weights():
    network = linear()
    maximizer = Maximizer(
        steps=128,
        transforms=[],
        image=PixelImage(max_rms=0.2),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.2, eps=1e-3),
        normalize_gradients=True,
    )
    pictures = torch.stack([feature.image for feature in maximizer.maximize(network, ["1:*"], image_shape=(1, 6, 6))])
    layer = FirstLayer(network, "1", (1, 6, 6))
    for match, weights in zip(layer.match(range(4), pictures), layer.weights, strict=True):
        expected = F.cosine_similarity(weights.flatten(), weights.flatten().clamp(min=0), dim=0).item()
        assert match.largest_cosine == pytest.approx(expected)
        assert match.cosine == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("convolution", "padding"),
    [
        (nn.Conv2d(3, 4, (3, 2), stride=(2, 1)), (0, 0, 0, 0)),
        (nn.Conv2d(3, 4, 3, padding=2, dilation=2, bias=False), (2, 2, 2, 2)),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), (0, 0, 0, 0)),
        (Conv2dSame(3, 4, 3, stride=2), (0, 1, 0, 1)),  # at the left, the right, above and below
    ],
)
def test_patches_are_those_of_the_strongest_position(convolution: nn.Conv2d, padding: tuple[int, ...]):
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    network = nn.Sequential(Normalize(mean.tolist(), std.tolist()), convolution)
    pictures = torch.rand(4, 3, 8, 8)
    seen = (pictures - mean[:, None, None]) / std[:, None, None]
    maps = convolution(seen).detach()
    (height, width), (down, across) = convolution.kernel_size, convolution.stride
    step = convolution.dilation[0]
    for unit, match in enumerate(FirstLayer(network, "1", (3, 8, 8)).match(range(4), pictures)):
        row, column = divmod(int(maps[unit, unit].argmax()), maps.shape[3])
        assert match.position == (row, column)
        assert match.activation == pytest.approx(maps[unit, unit, row, column].item(), abs=1e-5)

        def cut(images: Tensor, unit: int = unit, top: int = row * down, left: int = column * across) -> Tensor:
            padded = F.pad(images[unit], padding)
            return padded[:, top : top + step * height : step, left : left + step * width : step]

        torch.testing.assert_close(match.patch, cut(pictures))
        kernel, patch = convolution.weight[unit].detach().flatten(), cut(seen).flatten()
        assert match.cosine == pytest.approx(F.cosine_similarity(kernel, patch, dim=0).item(), abs=1e-5)
        assert match.centred_cosine == pytest.approx(
            torch.corrcoef(torch.stack([kernel, patch]))[0, 1].item(), abs=1e-5
        )
        rows, columns = (torch.arange(8.0)[:, None].expand(8, 8), torch.arange(8.0).expand(8, 8))
        inside = cut(torch.ones(4, 3, 8, 8))[0] > 0
        rows, columns = (cut(places.expand(4, 3, 8, 8))[0][inside] for places in (rows, columns))
        assert match.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


def test_a_convolution_finds_its_kernel_in_the_picture_and_its_opposite():
    network = nn.Sequential(Normalize([0.5], [1.0]), nn.Conv2d(1, 1, 3, bias=False))
    kernel = network[1].weight.detach()[0]
    picture = torch.full((1, 1, 12, 12), 0.5)
    picture[0, :, 2:5, 6:9] += kernel
    picture[0, :, 8:11, 1:4] -= 1.2 * kernel
    layer = FirstLayer(network, "1", (1, 12, 12))
    for either_sign, cosine, box in ((False, 1, (2, 6, 5, 9)), (True, -1, (8, 1, 11, 4))):
        (match,) = layer.match([0], picture, either_sign=either_sign)
        assert match.cosine == pytest.approx(cosine)
        assert match.box == box


def test_weights_and_patches_of_one_value_have_no_cosine():
    network = linear()
    network[1].weight.data[0] = 0
    network[1].weight.data[1] = 1
    silent, even, ordinary = FirstLayer(network, "1", (1, 6, 6)).match(range(3), torch.full((3, 1, 6, 6), 0.3))
    assert (silent.cosine, silent.centred_cosine, silent.largest_cosine) == (None, None, None)
    assert (even.cosine, even.centred_cosine, even.largest_cosine) == (pytest.approx(1), None, 1)
    assert ordinary.centred_cosine is None


def test_the_network_is_left_as_it_was():
    network = linear().bfloat16().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    FirstLayer(network, "1", (1, 6, 6)).match([0], torch.rand(1, 1, 6, 6))
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network[1]._forward_pre_hooks
    assert network[1].weight.requires_grad


class Transposed(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.transpose(2, 3)


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (linear(), "0", "layer '0' is a Flatten; choose a Linear or Conv2d layer"),
        (linear(Transposed()), "2", "'2' does not see the pixels of the picture: its inputs are in another order"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 2, 3)), "1", "choose the first layer, '0'"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)), "1", r"the shape \(2, 4, 4\), the picture \(1, 6, 6\)"),
        (linear(nn.Conv2d(1, 2, (4, 1))), "2", "'2' does not see the pixels of the picture"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 4)), "2", "takes 32 inputs, which are not"),
        (nn.Sequential(StdConv2d(1, 2, 3)), "0", "layer '0', a StdConv2d, changes its weights before"),
    ],
)
def test_layers_without_such_weights_are_refused(network: nn.Module, layer: str, message: str):
    with pytest.raises(InputError, match=message):
        FirstLayer(network, layer, (1, 6, 6))


def test_a_grouped_convolution_is_refused():
    with pytest.raises(InputError, match="'0' is a grouped convolution, groups=3, whose kernels see only some"):
        FirstLayer(nn.Sequential(nn.Conv2d(3, 6, 3, groups=3)), "0", (3, 6, 6))
