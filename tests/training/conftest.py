from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.support import save_backbone


@pytest.fixture(autouse=True, scope="package")
def _quick_collection() -> Iterator[None]:
    """Every run begins with a collection of garbage; it need not look at the modules again each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny causal backbone with dropout 0.1."""
    return save_backbone(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny causal backbone without dropout."""
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder without dropout."""
    return save_backbone(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
