from __future__ import annotations

from assay.evaluation import DataRow, data_rows
from assay.feedback.check_report import CheckReport, Finding


def test_counts_stand_side_by_side_and_findings_follow() -> None:
    counts = {"judgements": 40, "longer_wins": {"share": 0.575}, "ties": {"share": None}}
    train = CheckReport("a", "hh", "comparisons", warnings=[Finding("duplicates", 3, "kept")], counts=counts)
    test = CheckReport("b", "hh", "comparisons", errors=[Finding("empty", 1, "refused")], counts={"judgements": 7})
    rows = data_rows(train, test)
    assert rows[0] == DataRow("judgements", 40, 7)
    assert rows[1].train == "57.5 %" and rows[1].test is None
    assert rows[2:] == [DataRow("empty", 0, 1, "refused", "error"), DataRow("duplicates", 3, 0, "kept", "warning")]
    assert data_rows(train)[-1].test is None
