"""What is quick to begin: labelling and checking wait for no deep-learning library that they do not use."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["assay.cli", "assay.feedback", "assay.evaluation", "assay.workflows.label_verb"])
def test_torch_is_imported_by_those_who_need_it(module: str) -> None:
    asked = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
