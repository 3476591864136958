"""The small model and the helper process that the tests of the commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tabom_processes import Nursery, write_small_model, write_small_run


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a small random model."""
    return write_small_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def work(tmp_path: Path, small_base: Path) -> Path:
    """A working folder with `small.yaml`, its data and its model."""
    folder = tmp_path / "work"
    write_small_run(folder, small_base)
    return folder


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts commands quickly."""
    helper = Nursery(tmp_path_factory.mktemp("commands"))
    yield helper
    helper.close()
