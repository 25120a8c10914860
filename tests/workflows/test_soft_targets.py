"""Margins against the soft targets of held-out judgements."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, xlogy

from assay.evaluation import Temperature
from assay.feedback import comparison, edge, from_rows
from assay.workflows.feedback_settings import Judged, ListLoss, MarginMatching, PairwiseLoss
from assay.workflows.soft_targets import against_targets, line_of
from assay.workflows.targets import make_targets
from tests.workflows.conftest import Cli
from tests.workflows.test_targets import FROZEN, given, graded_file, grades

LOSS = PairwiseLoss()


def test_margins_that_are_the_targets_own_are_as_good_as_can_be() -> None:
    gaps = np.array([3.0, 1.0, 0.0, 2.0])
    data = from_rows(
        [comparison(str(i), ["one", "two"], [edge(0, 1)], grades=grades(gap + 1, 1)) for i, gap in enumerate(gaps)]
    )
    target = MarginMatching(kind="mmpo", gamma=0.5)
    taught = make_targets(target, LOSS, data, given(data))
    records = given(data).records
    numbers = records.pairs.id.tolist()
    exact = dict(zip(numbers, 0.5 * gaps, strict=True))
    found = against_targets(target, LOSS, taught, data, records, exact, None)
    assert found is not None and "calibrated" not in found
    p = expit(0.5 * gaps)
    entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p)).mean()
    assert found["least_nll"] == pytest.approx(entropy, abs=1e-12)
    assert found["raw"]["nll"] == pytest.approx(entropy, abs=1e-12)
    assert found["raw"]["ece"] == pytest.approx(0.0, abs=1e-12)
    # twice as sure, and put right again by a temperature of 2
    doubled = dict(zip(numbers, gaps, strict=True))
    sure = against_targets(target, LOSS, taught, data, records, doubled, Temperature(2.0, 4, 1.0, 1.0))
    assert sure is not None and sure["raw"]["nll"] > entropy + 0.01
    assert sure["calibrated"]["nll"] == pytest.approx(entropy, abs=1e-12)
    assert line_of(sure).startswith("against the soft targets of 4 held-out judgements: raw NLL ")
    assert against_targets(Judged(), LOSS, taught, data, records, exact, None) is None
    assert against_targets(target, ListLoss(kind="listmle"), taught, data, records, exact, None) is None


def test_a_run_tells_how_sure_one_could_be(cli: Cli, tiny_encoder: Path) -> None:
    path = graded_file(Path("graded.jsonl"))
    words = ("--backbone", tiny_encoder, *FROZEN)
    said = cli("train", path, *words, "--target.kind", "mmpo", "--target.gamma", 0.7)
    assert said.code == 0, said.err
    found = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["soft_targets"]
    assert found["judgements"] == 12 and 0 < found["least_nll"] <= found["calibrated"]["nll"]
    assert "against the soft targets of 12 held-out judgements" in said.err
    assert "against the soft targets of 12 held-out judgements" in Path("run/report.html").read_text(encoding="utf-8")
    assert cli("train", path, *words, "--overwrite").code == 0
    assert "soft_targets" not in json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))
