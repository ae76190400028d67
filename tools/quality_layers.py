"""Make pictures of channels of an ImageNet network's layers, and compare their activations with those of images.

The pictures are made for tf_efficientnet_lite0. For each layer, medians over its channels are printed:

- the activation of the clean picture, less the mean over natural images, over the largest of a natural image less the
  same mean: more than 1 excites the channel more than any image does,
- the same of random crops of the picture (resized, .5-1 of the area, flip),
- the slope of the logarithmic power spectrum, the mean total variation, the contrast and the colourfulness, beside
  those of natural images.

    python tools/quality_layers.py --images DATA/imagenet-sample --sheet sheet.png

The options for the settings are those of `tools/quality.py`.
"""

import argparse
import statistics
from pathlib import Path

import torch
from quality import CONFIG, Judge, naturalness, read_images, read_maximizer
from torch import Tensor

from fvlightning.analysis import random_views
from fvlightning.features import Capture, Feature, LayerCall
from fvlightning.output import contact_sheet

LAYERS = ["blocks.1.0.conv_pw", "blocks.2.1.conv_pwl", "blocks.4.1.conv_pwl", "blocks.5.2.conv_pwl"]
CHANNELS = [3, 7, 11, 15]
_BATCH = 20


def mean_activations(network: Judge, pictures: Tensor) -> dict[str, Tensor]:
    """Return each layer's mean activations over positions, ``(B, C)``, of pictures ``(B, 3, H, W)``."""
    capture = Capture(network, {LayerCall(f"network.{layer}") for layer in LAYERS})
    with torch.no_grad():
        parts = [capture(batch) for batch in torch.split(pictures, _BATCH)]
    return {
        layer: torch.cat([part[LayerCall(f"network.{layer}")].values.flatten(2).mean(2) for part in parts])
        for layer in LAYERS
    }


def main() -> None:
    """Make, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--maximizer", type=Path, default=CONFIG, help="YAML file with the settings; default: %(default)s"
    )
    parser.add_argument("--channels", type=int, nargs="+", default=CHANNELS)
    parser.add_argument("--side", type=int, default=224, help="side of the pictures, in pixels")
    parser.add_argument("--steps", type=int, help="number of steps; default: that of the settings")
    parser.add_argument("--images", type=Path, required=True, help="folder of natural images to compare with")
    parser.add_argument("--sheet", type=Path, help="where the contact sheet goes, a PNG file")
    arguments = parser.parse_args()
    maximizer = read_maximizer(arguments.maximizer, {"steps": arguments.steps} if arguments.steps else {})
    network = Judge(0)
    images = read_images(arguments.images, arguments.side)
    natural = mean_activations(network, images)
    shape = (3, arguments.side, arguments.side)
    shown: list[Feature] = []
    print("| layer | clean / natural maximum | crops / natural maximum | slope | TV | contrast | colourfulness |")
    print("|" + " --- |" * 7)
    for layer in LAYERS:
        units = [f"network.{layer}:{channel}" for channel in arguments.channels]
        features = maximizer.maximize(network, units, shape)
        clean, seen = [], []
        for channel, feature in zip(arguments.channels, features, strict=True):
            of_channel = natural[layer][:, channel]
            mean = float(of_channel.mean())
            largest = float(of_channel.max()) - mean
            crops = random_views(feature.image, shape, torch.Generator().manual_seed(channel))
            clean.append((feature.score - mean) / largest)
            seen.append((float(mean_activations(network, crops)[layer][:, channel].mean()) - mean) / largest)
        measures = naturalness(torch.stack([feature.image for feature in features]))
        activations = f"{statistics.median(clean):.2f} | {statistics.median(seen):.2f}"
        print(f"| {layer} | {activations} | {measures} |", flush=True)
        shown += features
    print(f"| natural images | 1 | | {naturalness(images)} |")
    if arguments.sheet:
        pixels = [(f.image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy() for f in shown]
        labels = [f"{layer.rpartition('.')[0]}: {channel}" for layer in LAYERS for channel in arguments.channels]
        contact_sheet(pixels, labels, columns=len(arguments.channels)).save(arguments.sheet)


if __name__ == "__main__":
    main()
