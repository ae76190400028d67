"""How a `BackboneModule` trains: groups of parameters, frozen stages, mixed pictures, and what makes it faster."""

from functools import partial

import lightning.pytorch as L
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.errors import InputError
from fvlightning.models import BackboneModule

SGD = partial(torch.optim.SGD, lr=0.1)
SHAPE = (3, 32, 32)


def make(name="test_resnet", **settings):
    torch.manual_seed(0)
    return BackboneModule(
        name, **{"weights": None, "num_classes": 4, "input_shape": SHAPE, "optimizer": SGD, **settings}
    )


def make_data(images=8, batch_size=4):
    generator = torch.Generator().manual_seed(0)
    return DataLoader(
        TensorDataset(torch.rand(images, *SHAPE, generator=generator), torch.arange(images) % 4), batch_size=batch_size
    )


def fit(module, max_epochs=1, callbacks=(), **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "limit_val_batches": 0}
    trainer = L.Trainer(accelerator="cpu", max_epochs=max_epochs, callbacks=[*callbacks], **{**quiet, **settings})
    torch.manual_seed(1)
    trainer.fit(module, make_data(), make_data())
    return trainer


def values(module):
    return {name: value.clone() for name, value in module.net.state_dict().items()}


class Snapshots(L.Callback):
    """The network's values at the end of each epoch."""

    def __init__(self):
        self.values = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.values.append(values(pl_module))


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_norms_biases_and_embeddings_have_no_weight_decay(layer_decay):
    module = make("test_vit", optimizer=partial(SGD, weight_decay=0.1), layer_decay=layer_decay)
    before = values(module)
    optimizer = module.configure_optimizers()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    exempt = module.net.no_weight_decay()
    assert "pos_embed" in exempt

    shrunk = {name for name, value in values(module).items() if not torch.equal(value, before[name])}
    assert shrunk == {name for name, value in before.items() if value.ndim > 1 and name not in exempt}
    if layer_decay is None:
        torch.testing.assert_close(module.net.head.weight, before["head.weight"] * (1 - 0.1 * 0.1))


def test_each_layer_has_a_share_of_the_learning_rate_of_the_layer_behind_it():
    module = make("test_vit", layer_decay=0.5)
    rates = {
        parameter: group["lr"] for group in module.configure_optimizers().param_groups for parameter in group["params"]
    }
    net, last = module.net, len(module.net.blocks) - 1

    assert rates[net.head.weight] == rates[net.head.bias] == 0.1
    assert [rates[block.mlp.fc1.weight] for block in net.blocks] == [0.1 / 2 ** (last - n + 1) for n in range(last + 1)]
    assert rates[net.patch_embed.proj.weight] == rates[net.blocks[0].mlp.fc1.weight] / 2


@pytest.mark.parametrize(("frozen_stages", "thaw_epoch"), [(2, 1), (-1, None)])
def test_frozen_stages_keep_weights_and_statistics_until_they_thaw(frozen_stages, thaw_epoch):
    module = make(frozen_stages=frozen_stages, thaw_epoch=thaw_epoch)
    before, snapshots = values(module), Snapshots()
    fit(module, 2, [snapshots], limit_val_batches=1)  # a validation puts the modes of the layers back
    stem_and_first_stage = {name for name in before if name.startswith(("conv1", "bn1", "layer1"))}
    frozen = stem_and_first_stage if frozen_stages == 2 else before.keys() - {"fc.weight", "fc.bias"}

    for epoch, after in enumerate(snapshots.values):
        same = {name for name in before if torch.equal(before[name], after[name])}
        assert same == (frozen if thaw_epoch is None or epoch < thaw_epoch else set())


def test_frozen_stages_that_never_thaw_are_no_part_of_the_optimizer():
    module = make(frozen_stages=-1)
    fit(module)
    trained = [parameter for group in module.optimizers().param_groups for parameter in group["params"]]

    assert len(trained) == 2
    assert {*map(id, trained)} == {id(module.net.fc.weight), id(module.net.fc.bias)}


def test_the_share_of_a_class_is_its_share_of_the_picture():
    """A picture of class k is 1 in channel k and 0 elsewhere, so its channels' means are the shares of the classes."""
    module, seen = make(mixup=0.5, cutmix=1.0, label_smoothing=0.1), []
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    pictures = F.one_hot(labels, 3).float()[:, :, None, None].expand(-1, -1, 8, 8)

    def classify(pictures):
        seen.append(pictures)
        return torch.linspace(-1, 1, 4).repeat(len(pictures), 1)

    module._classify = classify
    module.log = lambda *args, **kwargs: None
    kinds = set()
    for seed in range(8):
        torch.manual_seed(seed)
        loss = module.training_step((pictures.clone(), labels), 0)
        shares = F.pad(seen[-1].mean((2, 3)), (0, 1))
        smooth = 0.9 * shares + 0.1 / 4
        expected = -(smooth * torch.linspace(-1, 1, 4).log_softmax(0)).sum(1).mean()
        torch.testing.assert_close(loss, expected)
        kinds.add("cutmix" if set(seen[-1].unique().tolist()) <= {0.0, 1.0} else "mixup")
    assert kinds == {"mixup", "cutmix"}


def test_top_five_of_many_classes_is_counted():
    module = make(num_classes=12)
    trainer = fit(module, limit_val_batches=1.0)
    module.eval()
    pictures, labels = next(iter(make_data(8, 8)))
    with torch.no_grad():
        best = module(pictures).topk(5).indices
    assert trainer.callback_metrics["val/accuracy_top5"] == (best == labels[:, None]).any(1).float().mean()
    assert "val/accuracy_top5" not in fit(make(), limit_val_batches=1.0).callback_metrics


def test_channels_last_and_checkpointing_give_the_same_weights():
    plain, other = make("test_vit"), make("test_vit", channels_last=True, grad_checkpointing=True)
    assert other.net.patch_embed.proj.weight.is_contiguous(memory_format=torch.channels_last)
    seen = []
    other.net.register_forward_pre_hook(lambda net, args: seen.append((net.training, net.grad_checkpointing)))
    for module in (plain, other):
        fit(module, limit_val_batches=1)

    assert set(seen) == {(True, True), (False, False)}  # only in training, so that all layers can be shown
    torch.testing.assert_close(values(plain), values(other), rtol=1e-4, atol=1e-5)


def test_a_compiled_network_keeps_the_names_of_its_weights():
    plain, compiled = make(), make(compile={"backend": "eager"})
    names = list(compiled.state_dict())
    for module in (plain, compiled):
        fit(module)

    assert compiled.net._compiled_call_impl is not None
    assert list(compiled.state_dict()) == names
    torch.testing.assert_close(values(plain), values(compiled))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": -1.0}, r"BackboneModule\(mixup=-1.0\): must be at least 0"),
        ({"cutmix": float("nan")}, r"BackboneModule\(cutmix=nan\): must be at least 0"),
        ({"layer_decay": 0.0}, r"BackboneModule\(layer_decay=0.0\): must be above 0 and at most 1"),
        ({"thaw_epoch": 1}, r"BackboneModule\(thaw_epoch=1\): has no effect without frozen_stages"),
        ({"thaw_epoch": 0, "frozen_stages": 1}, r"BackboneModule\(thaw_epoch=0\): must be at least 1"),
        ({"frozen_stages": 6}, r"BackboneModule\(frozen_stages=6\): must be -1 or less than 6, the number of stages"),
        ({"model_name": "inception_v4", "grad_checkpointing": True}, "grad_checkpointing: 'inception_v4' cannot do it"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make(settings.pop("model_name", "test_resnet"), **{"input_shape": None, **settings})
