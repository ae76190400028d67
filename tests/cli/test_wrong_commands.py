"""Wrong commands of all kinds: each ends in one line that names the mistake, and in its exit status."""

import shlex
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

CPU = "--trainer.accelerator cpu --trainer.max_epochs 1 --trainer.enable_progress_bar false"
TINY = f"--model tiny.TestableModel --data tiny.TinyData {CPU}"
MLP = f"--model ClassifierModule --model.network MnistMLP {CPU}"
SHAPE = "--model.num_classes 10 --model.input_shape [1,28,28]"
STEPS = "--trainer.accelerator cpu --maximizer Maximizer --maximizer.steps 2"
PICTURES = f"visualize --model digits.Classifier {STEPS}"
PICTURE = f"{PICTURES} --units fc:0"
SPACES = f"compare --model digits.Classifier --data digits.Digits {STEPS} --units fc:0"
FOLDER = f"fit {MLP} {SHAPE} --data ImageFolderDataModule --data.image_size 8"
SPECTRUM = "magnitude --image_shape [3,8,8]"
MACO = "--maximizer.image MagnitudeConstrainedImage --maximizer.image.magnitude"
LATENT = "--maximizer.image LatentImage --maximizer.image.decoder"
# Each command begins with the text of its group. A group has arguments, the exit status, and a part of the line.
COMMANDS = {
    # Units.
    PICTURES: [
        ("--units fc:9-3", 1, "malformed unit 'fc:9-3': the range runs from 9 back to 3; swap them"),
        ("--units conv:0@9,9", 1, "no position @9,9 in layer 'conv'; its positions are 0-3,0-3"),
        ("--units fc:0@1,1", 1, "no position @1,1 in layer 'fc'; it has no positions"),
        ("--units conv#1:0", 1, "no call 1 of layer 'conv'"),
        ("--units cnv:0", 1, "no layer 'cnv' in Net; layers: conv, norm, drop, fc. Did you mean 'conv'?"),
        ("--units conv[1]:0", 1, "layer 'conv[1]': no output [1]: its output is one tensor"),
        ("--units []", 1, "no units are given"),
        ("""--units '["conv:0"'""", 1, """malformed unit '["conv:0"'"""),
        ("--units 'fc:0 - '", 1, "malformed sum 'fc:0 - '"),
        ("--units", 2, "argument --units/--units+: expected one argument"),
        ("""--units '[{"class_path": "a:"b"}]'""", 2, "--units: neither units nor objectives by class_path"),
        ("--units '[{class_path: fvlightning.features.Direction}]'", 2, "Direction needs 'layer'"),
        ("--units '[{class_path: fvlightning.features.Directoin}]'", 2, "Did you mean 'Direction'?"),
        ("--units '[{class_path: fvlightning.features.Diversity}]'", 2, "Diversity' is not a subclass of Objective"),
        (
            "--units '[{class_path: fvlightning.features.Direction, init_args: {layer: fc, vector: x}}]'",
            2,
            "error: units: fvlightning.features.Direction: vector: expected Sequence, got x",
        ),
        (
            "--units '[{class_path: fvlightning.features.Direction, init_args: {layer: fc, vector: [x, 1]}}]'",
            2,
            "error: units: fvlightning.features.Direction: vector: expected float, got x in ['x', 1]",
        ),
        (
            "--units '[{class_path: fvlightning.features.WeightedSum, init_args: {terms: []}}]'",
            1,
            "error: WeightedSum(terms=[]): needs at least one term",
        ),
        (
            "--units '[{class_path: fvlightning.features.LayerEnergy, init_args: {layer: nope}}]'",
            1,
            "no layer 'nope' in Net",
        ),
    ],
    # Shapes, folders, checkpoints and maximizers of pictures.
    PICTURE: [
        ("--image_shape [3,8,8]", 1, "Classifier cannot take a picture of shape (3, 8, 8): Given groups=1"),
        ("--image_shape [1,8]", 2, "image_shape: expected tuple with 3 elements, got [1, 8]"),
        ("--image_shape 1,8,8", 2, "image_shape: expected tuple, got 1,8,8"),
        ("--output_dir text.txt/out", 1, "cannot write to the folder text.txt/out: not a directory"),
        ("--output_dir ''", 2, "--output_dir is empty; name a file or folder, or leave the option out"),
        ("--ckpt_path ''", 2, "--ckpt_path is empty; name a file or folder"),
        ("--data ImageFolderDataModule --data.data_dir ''", 2, "--data.data_dir is empty; name a file or folder"),
        ("--data HuggingFaceDataModule --data.path ''", 2, "--data.path is empty; name a file or folder"),
        ("--ckpt_path two", 1, "'two' is a folder, not a checkpoint"),
        ("--ckpt_path text.txt", 1, "'text.txt' is not a checkpoint, or it is damaged"),
        ("--ckpt_path list.pt", 1, "'list.pt' is not a Lightning checkpoint: it has no 'state_dict'"),
        ("--ckpt_path other.ckpt", 1, "'other.ckpt' does not fit Classifier"),
        ("--ckpt_path code.ckpt", 1, "'code.ckpt' holds more than tensors and plain values (shutil.rmtree)"),
        ("--ckpt_path http://localhost:9/x.ckpt", 1, "download 'http://localhost:9/x.ckpt', and give the file"),
        ("--batch_size 0", 1, "Maximizer(batch_size=0): must be at least 1"),
        ("--maximizer.step 3", 2, "fvlightning.Maximizer has no parameter 'step'"),
        ("--maximizer absent.yaml", 2, "'absent.yaml' is not a class path; give package.module.Class, or the file by"),
        ("--maximizer.initial_picture absent.png", 1, "cannot read 'absent.png' as an image: No such file"),
        ("--maximizer.initial_picture damaged.png", 1, "cannot read 'damaged.png' as an image: image file is trunc"),
        ("--maximizer.initial_picture bomb/a/0.png", 1, "Image size (400000000 pixels) exceeds limit"),
        ("--maximizer.initial_picture small.png --maximizer.image CPPNImage", 1, "CPPNImage cannot start from a pict"),
        ("--maximizer.transforms Blur", 2, "transforms: expected Sequence, got Blur"),
        (
            "--maximizer.transforms '[{class_path: fvlightning.features.Blur, init_args: {sigma: [2, 1]}}]'",
            1,
            "Blur(sigma=(2.0, 1.0)): must be a number of at least 0, or smallest and largest",
        ),
        (
            "--maximizer.transforms '[{class_path: fvlightning.features.RandomFlip, init_args: {probability: 3}}]'",
            1,
            "RandomFlip(probability=3.0): must be at least 0 and at most 1",
        ),
        (
            "--maximizer.penalties '[{class_path: fvlightning.features.L2, init_args: {weight: -1}}]'",
            1,
            "L2(weight=-1.0): must be at least 0",
        ),
        (
            "--maximizer.joint_objectives '[{class_path: fvlightning.features.Diversity, init_args: {layer: fc}}]'",
            1,
            "Maximizer(repeats=1): must be at least 2 for joint objectives",
        ),
        ("--maximizer.scales '[{side: 8}]'", 2, "fvlightning.features.Scale needs 'steps'"),
        ("--maximizer.image FourierImag", 2, "no class 'FourierImag'; give its full path, package.module.Class. Did"),
        ("--maximizer.image PixelImage --maximizer.image.bound hard", 2, "bound: expected one of 'sigmoid', 'clip'"),
        (f"{LATENT} absent.ckpt", 1, "no checkpoint 'absent.ckpt' of a VAE; train one"),
        (f"{MACO} absent.pt", 1, "no magnitude spectrum 'absent.pt'; write one with `python -m fvlightning magnitude`"),
        (f"{MACO} list.pt", 1, "'list.pt' holds no magnitude spectrum (C, H, W // 2 + 1), but list"),
        (f"{MACO} colour.safetensors", 1, "the magnitude spectrum has 3 channels, the pictures have 1"),
        ("--maximizer.optimizer torch.optim.SparseAdam", 1, "cannot optimise pictures by their gradients alone"),
        (
            "--maximizer.scheduler torch.optim.lr_scheduler.StepLR --maximizer.scheduler.step_size 0",
            1,
            "Maximizer(scheduler=...): cannot make a step (integer modulo by zero)",
        ),
    ],
    # Comparisons.
    SPACES: [
        ("", 1, "no spaces to compare; give some, for example --spaces.pixel PixelImage"),
        ("--space.a PixelImage", 2, "no option '--space.a'. Did you mean '--spaces'?"),
        ("--spaces.natural PixelImage", 1, "'natural' cannot be the name of a space"),
        ("--spaces.a PixelImage --n_images 1", 1, "compare(n_images=1): must be at least 2"),
        ("--spaces '{a: {class_path: PixelImage, init_args: {stdd: 1}}}'", 2, "no parameter 'stdd'; parameters: boun"),
        ("--spaces.a PixelImage --data tiny.TinyData", 1, "TinyData has images of shape (4,), not (1, 8, 8)"),
        ("--spaces.a PixelImage --data faulty.NoneForLoader", 1, "NoneForLoader has no images for test or val or tra"),
        ("--spaces.a PixelImage --data faulty.MissesAFile", 1, "cannot use 'absent.csv': No such file or directory"),
    ],
    # Spectra.
    SPECTRUM: [
        ("--images two", 2, "magnitude needs --output, or a --config file that has 'output'"),
        ("--images two --output list.pt", 1, "'list.pt' exists, and was not measured on these images"),
        ("--images two --output text.txt/x.pt", 1, "cannot write to the folder text.txt: file exists"),
        ("--images two --output ''", 2, "--output is empty"),
        ("--images '' --output x.pt", 2, "--images is empty"),
        ("--images bomb --output x.pt", 1, "cannot read 'bomb/a/0.png' as an image: Image size (400000000 pixels) exc"),
        ("--data faulty.NoneForLoader --output x.pt", 1, "NoneForLoader has no images for train"),
        ("--images two --output x.pt --image_shape [2,8,8]", 1, "image_shape=[2, 8, 8]: must be [C, H, W] with 1 or"),
        ("--images two --output x.pt --model tiny.TinyModel", 2, "magnitude does not use --model; leave it out"),
    ],
    # Data.
    FOLDER: [
        ("", 2, "fvlightning.ImageFolderDataModule needs 'data_dir'"),
        ("--data.data_dir empty", 1, "empty has no classes; put images in empty/CLASS/"),
        (
            "--data.data_dir two",
            1,
            "data and model do not fit: ImageFolderDataModule has images of shape (3, 8, 8) in 2",
        ),
        ("--data.data_dir bomb", 1, "(bomb/a/0.png: Image size (400000000 pixels) exceeds limit"),
        ("--data.data_dir broken --data.on_error raise", 1, "1 of 2 files cannot be read as images: broken/a/1.png"),
    ],
    # A user's own models and data.
    f"visualize {STEPS} --units 1:0": [
        ("--model faulty.TwoInputs", 1, "TwoInputs takes 2 inputs (pictures, masks), but gets one, the picture"),
        (
            "--model faulty.NoForward --units layer.1:0",
            1,
            "NoForward has no forward that takes pictures; name its network 'net' instead",
        ),
        ("--model faulty.NoGradient", 1, "no gradient leads from layer '1' of NoGradient to the picture"),
        ("--model faulty.Meta", 1, "Meta has no values for 'net.1.weight', which is on the device 'meta'"),
        ("--model faulty.Lazy", 1, "Lazy does not know the size of 'net.1.weight' yet"),
        ("--model faulty.RaisesInForward", 1, "cannot take a picture of shape (1, 8, 8): this never works; give"),
        ("--model faulty.MissesAKey", 1, "MissesAKey fails on a picture of shape (1, 8, 8): KeyError: 'picture' (/"),
        ("--model faulty.RaisesInInit", 1, "--model RaisesInInit: OSError: no camera (/"),
        ("--model faulty.ForgetsSuper", 1, "cannot assign module before Module.__init__() call (/"),
        ("--model faulty.nn", 2, "'faulty.nn' is not a subclass of LightningModule"),
        ("--model 'faulty.Flat()'", 2, "Unexpected import path format: faulty.Flat()"),
    ],
    f"fit {CPU}": [
        ("--model tiny.TinyModel", 2, "fit needs --data, or a --config file that has 'data'"),
        ("--model tiny.TinyModel --data faulty.NoLoaders", 1, "`train_dataloader` must be implemented"),
        ("--model tiny.TinyModel --data faulty.NoneForLoader", 1, "`NoneForLoader.train_dataloader()`. Found None"),
        ("--model tiny.TinyModel --data faulty.MissesAFile", 1, "cannot use 'absent.csv'"),
        ("--model faulty.TrainedOnMeta --data tiny.TinyData", 1, "weights without values, on the device 'meta'"),
        ("--model faulty.Frozen --data tiny.TinyData", 1, "the loss depends on no weight that is trained"),
        ("--model faulty.NoOptimizer --data tiny.TinyData", 1, "No `configure_optimizers()` method defined"),
        ("--model faulty.ThreeForOptimizer --data tiny.TinyData", 1, "Unknown configuration for model optimizers"),
    ],
    # Configs.
    f"fit {TINY} --config": [
        ("small.png", 2, "cannot read config 'small.png': it is not text; give a YAML file"),
        ("tab.yaml", 2, "Problems parsing config 'tab.yaml': "),
        ("two_documents.yaml", 2, "expected a single document in the stream, line 1, column 1"),
        ("circle.yaml", 2, "config 'circle.yaml': an alias, *NAME, is inside its own anchor, &NAME"),
        ("number_key.yaml", 2, "Key must be a string, got: 3"),
        ("null_trainer.yaml", 2, "config 'null_trainer.yaml': trainer is None; it must have settings, by name"),
        ("duplicate.yaml", 2, "model: Not a valid subclass of LightningModule, got 3"),
        ("class_number.yaml", 2, "model: class_path must be package.module.Class, not int"),
        ("no_init_args.yaml", 2, "data: parameters beside 'class_path' must be inside 'init_args'"),
        ("init_args_number.yaml", 2, "init_args must be parameters by name, not int"),
        ("nested.yaml", 2, "no config key 'trainer.nested.max_epochs'. Did you mean 'trainer.max_epochs'"),
        ("subcommand.yaml", 2, "no config key 'fit.trainer.max_epochs'. Did you mean 'trainer.max_epochs'"),
        ("configs/cifar10_spaces.yaml", 2, "no config key 'spaces."),
    ],
    # Options, the trainer, checkpoints.
    f"fit {TINY}": [
        ("-trainer.max_epochs 3", 2, "no option '-trainer.max_epochs'. Did you mean '--trainer.max_epochs'"),
        ("--trainer.max-epochs 3", 2, "no option '--trainer.max-epochs'. Did you mean '--trainer.max_epochs'"),
        ("--trainer.max_epochs", 2, "argument --trainer.max_epochs: expected one argument"),
        ("--trainer.max_epochs=", 2, "trainer.max_epochs: expected int, got ''"),
        ("--trainer.max_epochs 3 4", 2, "unexpected argument '4': an option starts with '--'"),
        ("''", 2, "unexpected argument '': an option starts with '--'"),
        ("--modle tiny.TinyModel", 2, "no option '--modle'. Did you mean '--model'?"),
        ("--model.init_args 3", 2, "tiny.TestableModel: init_args must be parameters by name, not str"),
        ("--conf a.yaml", 2, "no option '--conf'. Did you mean '--config'?"),
        ("--units fc:0", 2, "no option '--units'"),
        ("--print_config=x", 2, 'Invalid option "x" for --print_config'),
        ("--trainer.logger maybe", 2, "no class 'maybe'; give its full path"),
        ("--trainer.logger.save_dir text.txt", 1, "text.txt/default': Not a directory"),
        ("--trainer.default_root_dir ''", 2, "--trainer.default_root_dir is empty"),
        ("--trainer.callbacks.monitor x", 2, "'monitor' is a parameter of a callback, whose class is missing"),
        ("--trainer.callbacks+=ModelSummary --trainer.callbacks.max_depth x", 2, "max_depth: expected int, got x"),
        ("--trainer.callbacks+=ModelSummary --trainer.callbacks.max_depth -3", 1, "`max_depth` can be -1, 0 or > 0"),
        ("--checkpoint.filename {nope:.3q}", 1, "--checkpoint.filename: Unknown format code 'q'"),
        ("--checkpoint.filename {", 1, "--checkpoint.filename: Single '{' encountered in format string; give a format"),
        ("--checkpoint.dirpath text.txt", 1, "': File exists"),
        ("--ckpt_path ''", 2, "--ckpt_path is empty"),
        ("--ckpt_path gibberish://x", 1, "Protocol not known: gibberish"),
        ("--ckpt_path http://localhost:9/x.ckpt", 1, "Checkpoint file not found: http://localhost:9/x.ckpt"),
        ("--ckpt_path hpc", 1, "no HPC checkpoint was found"),
    ],
    # Subcommands.
    "": [
        ("train", 2, "no subcommand 'train'; subcommands: fit, "),
        ("--trainer.max_epochs 3 fit", 2, "'--trainer.max_epochs' is an option of a subcommand: put it after 'fit'"),
        (f"test {TINY} --verbose maybe", 2, "verbose: expected bool, got maybe"),
        (f"test --model tiny.TestableModel {CPU}", 2, "test needs --data, or a --config file that has 'data'"),
        (f"test {TINY} --model tiny.TinyModel --ckpt_path best", 1, "no checkpoint 'best'"),
        (f"validate {TINY} --max_epochs 3", 2, "no option '--max_epochs'. Did you mean '--trainer.max_epochs'?"),
        (f"predict --model faulty.NoForward --data tiny.TinyData {CPU}", 1, "`Trainer.predict` requires `forward`"),
    ],
}
CONFIGS = {
    "tab": "model:\n\tclass_path: x",
    "two_documents": "trainer: {}\n---\ntrainer: {}",
    "circle": "trainer: &trainer [*trainer]",
    "number_key": "3: 4",
    "null_trainer": "trainer: null",
    "duplicate": "model: {class_path: tiny.TinyModel}\nmodel: 3",
    "class_number": "model: {class_path: 3}",
    "no_init_args": "data: {class_path: tiny.TinyData, size: 3}",
    "init_args_number": "maximizer: {class_path: Maximizer, init_args: 3}",
    "nested": "trainer: {nested: {max_epochs: 3}}",
    "subcommand": "fit: {trainer: {max_epochs: 3}}",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files that commands cannot use, and a few that they can."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("empty", "bomb/a", "broken/a", "two/a", "two/b"):
        (folder / name).mkdir(parents=True)
    for name in ("small", "broken/a/0", "two/a/0", "two/a/1", "two/b/0", "two/b/1"):
        Image.effect_noise((12, 12), 50).save(folder / f"{name}.png")
    for name in ("damaged", "broken/a/1"):
        (folder / f"{name}.png").write_bytes((folder / "small.png").read_bytes()[:60])
    header = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (folder / "bomb/a/0.png").write_bytes(bomb)
    (folder / "text.txt").write_text("hello")
    for name, text in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text)
    checkpoint = {"state_dict": {"weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.4"}
    torch.save(checkpoint, folder / "other.ckpt")
    torch.save({**checkpoint, "code": shutil.rmtree}, folder / "code.ckpt")
    torch.save([1], folder / "list.pt")
    save_file({"magnitude": torch.ones(3, 8, 5)}, folder / "colour.safetensors")
    return folder


@pytest.mark.filterwarnings(
    "ignore:.* without --ckpt_path", "ignore:.* cannot be read as images", "ignore:.* Skipping val loop"
)
@pytest.mark.parametrize(
    ("command", "status", "message"),
    [(f"{start} {end}", status, message) for start, rows in COMMANDS.items() for end, status, message in rows],
)
def test_a_wrong_command_ends_in_one_line(command, status, message, files, monkeypatch, refused):
    monkeypatch.chdir(files)
    assert message in refused(shlex.split(command), status)
