"""`features.json`: what each picture is, and how to make it again."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvlightning.features import Feature
from fvlightning.io.files import write_atomically


def feature_record(feature: Feature, file: Path) -> dict[str, Any]:
    """Return a feature's record.

    Args:
        feature: The feature.
        file: Where its picture is, relative to the folder of the manifest.

    Returns:
        Plain values: unit, repeat, file, score (None if it is not finite), steps, best step, status, seed, settings.
    """
    return {
        "unit": feature.name,
        "repeat": feature.repeat,
        "file": file.as_posix(),
        "score": feature.score if math.isfinite(feature.score) else None,
        "steps": feature.steps,
        "best_step": feature.best_step,
        "status": feature.status,
        "seed": feature.seed,
        "settings": feature.settings,
    }


def write_manifest(records: Sequence[dict[str, Any]], path: Path, **common: Any) -> None:
    """Write the records, each with the entries that all of them have in common, as a JSON list.

    Args:
        records: Of `feature_record`.
        path: Where the file goes.
        **common: Entries such as the model and the versions.
    """
    text = json.dumps([{**record, **common} for record in records], indent=1, default=str)
    write_atomically(path, lambda file: file.write(text.encode()))
