"""Imports run one way: each package knows only those before it in ``ORDER``, and the root modules know no package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
ORDER = ["objectives", "feedback", "scorers", "credit", "evaluation", "training", "workflows", "serving", "cli"]
#: Packages that work on records and arrays; of transformers they may use a tokenizer.
WITHOUT_MODELS = {"feedback", "evaluation"}
MODEL_LIBRARIES = {"torch", "peft", "accelerate", "trl", "safetensors"}


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for every import, wherever it stands; names taken from a module are part of it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def layer(module: str) -> int:
    """Return the place of a module of assay in the order; -1: the root modules, which know no package."""
    part = module.split(".")[1] if "." in module else ""
    return ORDER.index(part) if part in ORDER else len(ORDER) if part == "__main__" else -1


def violations(source: Path) -> list[str]:
    found = []
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source).with_suffix("")
        module = ".".join(["assay", *(part for part in place.parts if part != "__init__")])
        for line, name in imports(path, module):
            top, taken = name.split(".")[0], name.rpartition(".")[2]
            upward = top == "assay" and layer(name) > layer(module)
            models = top in MODEL_LIBRARIES or (top == "transformers" and "Tokenizer" not in taken)
            if upward or (place.parts[0] in WITHOUT_MODELS and models):
                found.append(f"{place}.py:{line}: {name}")
    return found


def test_imports_run_one_way() -> None:
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line", "is_violation"),
    [
        ("objectives/a.py", "from assay.feedback import records", True),
        ("objectives/a.py", "def f():\n    import assay.training.trainer", True),
        ("objectives/deep/a.py", "from ...scorers import batch", True),
        ("objectives/deep/a.py", "from ..kernels import batch", False),
        ("objectives/__init__.py", "from . import kernels", False),
        ("evaluation/a.py", "from assay import training", True),
        ("config/a.py", "from assay.objectives import kernels", True),
        ("config/a.py", "from assay.errors import ConfigError", False),
        ("feedback/a.py", "from assay.scorers import batch", True),
        ("feedback/a.py", "import torch.nn", True),
        ("feedback/a.py", "import transformers", True),
        ("feedback/a.py", "from transformers import AutoModel", True),
        ("feedback/a.py", "from transformers import AutoTokenizer", False),
        ("scorers/a.py", "import torch\nfrom assay.feedback.records import Edge", False),
        ("cli.py", "from assay.serving import app", False),
        ("__main__.py", "from assay.cli import main", False),
    ],
)
def test_planted_import(tmp_path: Path, file: str, line: str, is_violation: bool) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert bool(violations(tmp_path)) is is_violation
