"""Compare how fast two processes make pictures with how fast one does, each with one thread.

Both run the command line as a user does, in turns, and the medians of their units a second are compared:

    python tools/benchmark_devices.py --repeats 3

The speed of a process is the number of pictures after its first batch, divided by the time from then to its last file;
the speed of a command is the sum over its processes. Starting up, which varies by seconds, does not count. Run it on an
idle machine with two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def units_a_second(devices: int, arguments: argparse.Namespace) -> float:
    """Return the units a second of one command, once it runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "--config": arguments.config,
            "--units": f'["{arguments.layer}:0-{arguments.units - 1}"]',
            "--image_shape": f"[3, {arguments.size}, {arguments.size}]",
            "--maximizer": "fvlightning.Maximizer",
            "--maximizer.steps": str(arguments.steps),
            "--batch_size": str(arguments.batch_size),
            "--output_dir": folder,
            "--trainer.accelerator": "cpu",
            "--trainer.devices": str(devices),
            "--trainer.enable_progress_bar": "false",
        }
        command = [
            sys.executable,
            "-m",
            "fvlightning",
            "visualize",
            *(text for pair in options.items() for text in pair),
        ]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        records = json.loads(Path(folder, "features.json").read_text())
        times = [Path(folder, record["file"]).stat().st_mtime for record in records]
    return sum(_speed(sorted(times[rank::devices]), arguments.batch_size) for rank in range(devices))


def _speed(times: list[float], n_first: int) -> float:
    """Return the pictures a second of a process from the times of its files, without the first batch."""
    return (len(times) - n_first) / (times[-1] - times[n_first - 1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/imagenet_lite0.yaml")
    parser.add_argument("--layer", default="blocks.2.0.conv_pw")
    parser.add_argument("--units", type=int, default=128, help="number of units: several batches for each process")
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--size", type=int, default=96, help="side of the pictures, in pixels")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.units < 4 * arguments.batch_size:
        parser.error(f"--units {arguments.units}: must be at least {4 * arguments.batch_size}, two batches a process")

    speeds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(arguments.repeats):
        for devices, measured in speeds.items():
            measured.append(units_a_second(devices, arguments))
    medians = {devices: statistics.median(measured) for devices, measured in speeds.items()}
    for devices, measured in speeds.items():
        listed = ", ".join(f"{value:.2f}" for value in measured)
        print(f"{devices} process(es): median {medians[devices]:.2f} units a second  ({listed})")
    print(f"ratio: {medians[2] / medians[1]:.3f}")


if __name__ == "__main__":
    main()
