"""Every module imports, and what the command line needs to complain does not wait for torch."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import assay

SOURCE = Path(assay.__file__).parent
MODULES = sorted(
    ".".join(["assay", *(part for part in path.relative_to(SOURCE).with_suffix("").parts if part != "__init__")])
    for path in SOURCE.rglob("*.py")
    if path.stem != "__main__"
)
HEAVY = ["torch", "transformers", "datasets", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow"]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("module", ["assay.errors", "assay.config", "assay.output", "assay.console"])
def test_light_module_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["assay.cli", "assay.feedback", "assay.evaluation", "assay.workflows.label_verb"])
def test_torch_waits_for_those_who_need_it(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ['torch', 'transformers'] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
