"""Make pictures of ImageNet classes, and judge them by networks that they were not made for.

The pictures are made for tf_efficientnet_lite0 with the settings of a maximizer, and judged by

- the share of clean pictures that Lite0 classifies as their class,
- the share of random crops (resized, of .5-1 of the area, flip) that Lite1 and Lite2 classify as it, and the number of
  pictures of which they classify less than half of the crops so: those in which the object never formed,
- the slope of the logarithmic power spectrum over the logarithmic frequency, the mean total variation, the contrast and
  the colourfulness, beside those of natural images.

One row of a Markdown table is printed, and a contact sheet written:

    python tools/quality.py --images DATA/imagenet-sample --sheet sheet.png

The pictures are those of `visualize --config configs/imagenet_lite0.yaml`. With ``--maximizer`` the settings are those
of `fvlightning.Maximizer` in another YAML file: its key ``maximizer`` holds them, or it holds nothing else. Seeds
differ: ``--seeds 0 1 2`` judges the pictures of three. Settings are to be chosen on other classes than are reported:
``--drawn 0 50`` takes the first 50 of all classes in a random order that is always the same, ``--drawn 50 100`` the
next. The defaults were chosen on ``--drawn 0 50``. With ``--lucent`` the pictures are those of torch-lucent
(`benchmarks/peers.py` says how it is installed), 512 steps by default, as its own. It needs the extra ``samples``,
which brings the three networks.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from torch import Tensor, nn

from fvlightning import BackboneModule, Maximizer
from fvlightning.analysis import pixel_measures, random_views
from fvlightning.data import read_pictures
from fvlightning.networks import make_timm_network
from fvlightning.output import contact_sheet

CLASSES = [207, 294, 398, 409, 455, 531, 681, 724, 851, 852]
_BATCH = 10
CONFIG = Path(__file__).parents[1] / "configs" / "imagenet_lite0.yaml"


class Judge(nn.Module):
    """tf_efficientnet_lite0, 1 or 2, with the weights of the package that ships them.

    Args:
        size: 0, 1 or 2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network = make_timm_network(f"tf_efficientnet_lite{size}", weights="samples").eval()
        config: Any = self.network.pretrained_cfg
        self.side: int = config["input_size"][-1]
        self.mean, self.std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits ``(B, 1000)`` of pictures ``(B, 3, H, W)`` in [0, 1]."""
        logits: Tensor = self.network((pictures - self.mean) / self.std)
        return logits


def lite0() -> BackboneModule:
    """Return the network of configs/imagenet_lite0.yaml, whose units have the same names, and so the same seeds."""
    return BackboneModule("tf_efficientnet_lite0", weights="samples").eval()


def naturalness(pictures: Tensor) -> str:
    """Return cells of a table: the median slope, total variation, contrast and colourfulness of ``(B, 3, H, W)``."""
    medians = {name: statistics.median(values.tolist()) for name, values in pixel_measures(pictures).items()}
    return (
        f"{medians['spectral_slope']:.2f} | {medians['total_variation']:.3f} | {medians['contrast']:.3f} | "
        f"{medians['colorfulness']:.3f}"
    )


def read_images(folder: Path, side: int) -> Tensor:
    """Return the images ``(N, 3, side, side)`` of a folder: the middle square, resized."""
    return torch.cat([batch.pictures for batch in read_pictures(folder, image_shape=(3, side, side))])


def read_maximizer(path: Path, overrides: dict[str, Any]) -> Maximizer:
    """Return the maximizer of a YAML file, with some of its settings replaced."""
    read: dict[str, Any] = jsonargparse.get_loader("yaml")(path.read_text())
    for key in ("visualize", "maximizer", "init_args"):
        read = read.get(key, read)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Maximizer, "maximizer")
    parsed = parser.parse_object({"maximizer": {"class_path": "fvlightning.Maximizer", "init_args": read | overrides}})
    maximizer: Maximizer = parser.instantiate(parsed).maximizer
    return maximizer


def lucent_pictures(classes: Sequence[int], steps: int) -> list[Tensor]:
    """Return pictures ``(3, 224, 224)`` of classes of tf_efficientnet_lite0, made by torch-lucent in one batch."""
    from benchmarks.peers import torch_lucent
    from benchmarks.work import class_work

    torch.manual_seed(0)
    return list(torch_lucent(class_work(steps, "cpu", classes)).float())


def maximizer_pictures(arguments: argparse.Namespace) -> tuple[int, list[int], list[Tensor]]:
    """Return the steps, the classes and the pictures ``(3, H, W)`` of all classes with one seed after the other."""
    units = [f"{arguments.layer}:{index}" for index in arguments.classes]
    overrides = {"steps": arguments.steps} if arguments.steps else {}
    maximizers = [read_maximizer(arguments.maximizer, {**overrides, "seed": seed}) for seed in arguments.seeds]
    network, shape = lite0(), (3, arguments.side, arguments.side)
    features = [feature for maximizer in maximizers for feature in maximizer.maximize(network, units, shape)]
    return maximizers[0].settings.steps, arguments.classes * len(maximizers), [feature.image for feature in features]


def main() -> None:
    """Make, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--maximizer", type=Path, default=CONFIG, help="YAML file with the settings; default: %(default)s"
    )
    parser.add_argument("--name", help="first column of the row; default: the file's name")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    chosen.add_argument("--drawn", type=int, nargs=2, metavar=("FIRST", "END"), help="part of all classes, shuffled")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the pictures; not of torch-lucent's")
    parser.add_argument("--side", type=int, default=224, help="side of the pictures, in pixels")
    parser.add_argument("--steps", type=int, help="number of steps; default: that of the settings")
    parser.add_argument("--layer", default="classifier", help="the layer that has the classes")
    parser.add_argument("--lucent", action="store_true", help="judge pictures that torch-lucent makes of the classes")
    parser.add_argument("--images", type=Path, help="folder of natural images to compare with")
    parser.add_argument("--sheet", type=Path, help="where the contact sheet goes, a PNG file")
    arguments = parser.parse_args()
    if arguments.drawn:
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).tolist()
        arguments.classes = order[slice(*arguments.drawn)]

    judges = [Judge(size) for size in range(3)]
    started = time.perf_counter()
    if arguments.lucent:
        name, steps, classes = "torch-lucent", arguments.steps or 512, arguments.classes
        pictures = lucent_pictures(classes, steps)
    else:
        name = arguments.maximizer.stem
        steps, classes, pictures = maximizer_pictures(arguments)
    seconds = (time.perf_counter() - started) / len(pictures)

    shares: list[list[float]] = [[], []]
    with torch.no_grad():
        logits = torch.cat([judges[0](batch) for batch in torch.split(torch.stack(pictures), _BATCH)])
        for index, picture in zip(classes, pictures, strict=True):
            for share, judge in zip(shares, judges[1:], strict=True):
                crops = random_views(picture, (3, judge.side, judge.side), torch.Generator().manual_seed(index))
                share.append(float((judge(crops).argmax(1) == index).float().mean()))
    clean = logits.argmax(1).tolist()
    right = [index == predicted for index, predicted in zip(classes, clean, strict=True)]
    logit = statistics.mean(logits[row, index].item() for row, index in enumerate(classes))
    name = arguments.name or name
    n_unformed = sum(statistics.mean(pair) < 0.5 for pair in zip(*shares, strict=True))
    judged = "clean right | clean logit | Lite1 / Lite2 | mean | never formed"
    print(f"| settings | steps | s a picture | {judged} | slope | TV | contrast | colourfulness |")
    print("|" + " --- |" * 12)
    lite1, lite2 = (statistics.mean(share) for share in shares)
    print(
        f"| {name} | {steps} | {seconds:.1f} | {sum(right)}/{len(right)} | {logit:.1f} | {lite1:.2f} / {lite2:.2f} "
        f"| {(lite1 + lite2) / 2:.3f} | {n_unformed}/{len(right)} | {naturalness(torch.stack(pictures))} |"
    )
    if arguments.images:
        print(f"| natural images | | | | | | | | {naturalness(read_images(arguments.images, arguments.side))} |")
    for place, index in enumerate(classes):
        print(f"class {index}: Lite0 sees {clean[place]}, Lite1 {shares[0][place]:.2f}, Lite2 {shares[1][place]:.2f}")
    if arguments.sheet:
        pixels = [(picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy() for picture in pictures]
        contact_sheet(pixels, [str(index) for index in classes], title=name).save(arguments.sheet)


if __name__ == "__main__":
    main()
