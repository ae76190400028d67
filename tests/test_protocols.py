from types import SimpleNamespace

import numpy as np
import pytest

from fvlightning.protocols import read_class_names


class Unready:
    @property
    def class_names(self) -> list[str]:
        raise RuntimeError("call setup first")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (SimpleNamespace(class_names=np.array(["a", "b"])), ("a", "b")),
        (SimpleNamespace(class_names=[0, 1]), ("0", "1")),
        (SimpleNamespace(class_names={"a": 0, "b": 1}), ()),
        (SimpleNamespace(class_names=lambda: ["a"]), ()),
        (SimpleNamespace(class_names="ab"), ()),
        (Unready(), ()),
        (None, ()),
    ],
)
def test_class_names_are_read_from_sequences_only(source: object, names: tuple[str, ...]) -> None:
    assert read_class_names(source) == names
