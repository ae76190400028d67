"""Compare training through Lightning with the same loop written by hand over a tensor.

    python tools/benchmark_training.py --data_dir data                        # MnistCNN, one epoch of MNIST
    python tools/benchmark_training.py --recipe resnet18 --data_dir IMAGES    # from scratch, on images of 32 pixels
    python tools/benchmark_training.py --recipe vit_tiny --data_dir IMAGES

Both have the same seeds, batches of 64, optimiser and number of steps, and convert bytes and normalise; neither
validates. ``resnet18`` and ``vit_tiny`` are timm's, trained as the configs for ImageNet do: AdamW with timm's groups of
parameters, a cosine schedule with warm-up, mixup, label smoothing and drop path; IMAGES has ``train/CLASS/*`` and
perhaps ``test/CLASS/*`` of ten classes. The loops take turns. Their weights are compared, which should be the same bit
for bit on a CPU, and the medians of their times.

Lightning's loop is what a user gets by default, with progress bar and TensorBoard; only the sanity check, the
checkpoint and the summary, which cost once and not for each epoch's steps, are off.
"""

import argparse
import logging
import statistics
import time

import torch
from benchmarks.training import RECIPES, Trained, by_hand, by_lightning

from fvlightning.data import ImageFolderDataModule, MNISTDataModule


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mnist", choices=list(RECIPES))
    parser.add_argument("--data_dir", default="data", help="folder that has MNIST/raw, or gets it; or of images")
    parser.add_argument("--source", default="mnist", choices=["mnist", "sample"], help="sample: a rough figure only")
    parser.add_argument("--epochs", type=int, default=1, help="length of each training")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each loop")
    parser.add_argument("--clock", default="wall", choices=["wall", "process"], help="process: not the time of others")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    recipe = RECIPES[arguments.recipe]
    data: MNISTDataModule | ImageFolderDataModule
    if arguments.recipe == "mnist":
        data = MNISTDataModule(arguments.data_dir, source=arguments.source)
    else:
        data = ImageFolderDataModule(arguments.data_dir, image_size=32, val_size=0)
    data.prepare_data()
    data.setup()
    device = torch.device("cuda" if arguments.accelerator == "gpu" else "cpu")
    clock = time.process_time if arguments.clock == "process" else time.perf_counter
    trained: dict[str, list[Trained]] = {"by hand": [], "Lightning": []}
    for _ in range(arguments.repeats):
        trained["by hand"].append(by_hand(recipe, data, device, arguments.epochs, clock))
        trained["Lightning"].append(by_lightning(recipe, data, arguments.accelerator, arguments.epochs, clock))
    n_images = arguments.epochs * len(data.splits.train)
    for name, results in trained.items():
        seconds = statistics.median(result.seconds for result in results)
        listed = ", ".join(f"{result.seconds:.2f}" for result in results)
        speed = f"{n_images / seconds:.1f} images a second"
        print(f"{name:>9}: {speed}, {results[0].accuracy:.2%} of the test images; seconds: {listed}")
    pairs = list(zip(trained["by hand"], trained["Lightning"], strict=True))
    ratios = [hand.seconds / lightning.seconds for hand, lightning in pairs]
    print(f"    speed: {statistics.median(ratios):.3f} of that by hand ({min(ratios):.3f}-{max(ratios):.3f})")
    print(f"  weights: differ by at most {max(hand.difference(lightning) for hand, lightning in pairs):g}")


if __name__ == "__main__":
    main()
