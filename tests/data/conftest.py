"""Fixtures for sets that `datasets` reads."""

import pytest
from shards import write_sets

from fvlightning.data import HuggingFaceDataModule


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """Write the same images as an image folder, parquet files and tar shards."""
    root = tmp_path_factory.mktemp("sets")
    write_sets(root)
    return root


@pytest.fixture
def ready(tmp_path):
    """Return a function that makes a data module and sets it up."""

    def make(path, **settings):
        settings = {"image_size": 8, "cache_dir": tmp_path / "cache"} | settings
        data = HuggingFaceDataModule(str(path), **settings)
        data.prepare_data()
        data.setup()
        return data

    return make
