"""Sets of images as parquet files, tar shards and image folders."""

import io
import tarfile

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

CLASSES = ("cat", "dog", "owl")
COUNTS = {"train": 18, "validation": 6}


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    PILImage.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def draw(part):
    """Return noise as encoded images: colours, grey and grey of 16 bits, of two sizes."""
    generator = np.random.default_rng(len(part))
    drawn = []
    for number in range(COUNTS[part]):
        shape = (12, 16) if number % 2 else (14, 14)
        if number % 5 == 3:
            drawn.append(encode(generator.integers(0, 2**16, shape, np.uint16)))
        else:
            drawn.append(encode(generator.integers(0, 256, shape if number % 5 == 4 else (*shape, 3), np.uint8)))
    return drawn


def table(images, labels, label_type=None):
    features = Features({"image": Image(), "label": label_type or ClassLabel(names=list(CLASSES))})
    rows = [image and {"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)]
    return Dataset.from_dict({"image": rows, "label": labels}, features=features)


def write_parquet(folder, **parts):
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        rows.to_parquet(folder / f"{part}-00000-of-00001.parquet")
    return folder


def write_sets(root):
    """Write the same images as an image folder, parquet files and tar shards."""
    tables = {}
    (root / "tars").mkdir()
    for part, folder in (("train", "train"), ("validation", "val")):
        images = draw(part)
        labels = sorted(number % 3 for number in range(len(images)))
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = root / "folder" / folder / CLASSES[label] / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
        tables[part] = table(images, labels)
        for shard, rows in enumerate(np.split(np.arange(len(images)), 2)):
            with tarfile.open(root / "tars" / f"pets-{folder}-{shard:03}.tar", "w") as tar:
                for row in rows:
                    for ending, content in (("png", images[row]), ("cls", b"%d" % labels[row])):
                        entry = tarfile.TarInfo(f"{row:03}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    write_parquet(root / "parquet", **tables)
