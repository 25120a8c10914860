"""Fill the report page from what a run knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.evaluation import DataRow, ReportContent, mistakes, write_report
from assay.evaluation import data_rows as check_rows
from assay.evaluation.report import now
from assay.feedback import Pairs, pairs
from assay.feedback.check_report import CheckReport
from assay.workflows.data import Shares
from assay.workflows.fits import Fit
from assay.workflows.judging import Judged
from assay.workflows.settings import JobSettings

_MISTAKES = 12


def write_run_report(
    path: Path,
    settings: JobSettings,
    shares: Shares,
    result: Fit,
    metrics: dict[str, Any],
    checks: Sequence[CheckReport],
    judged: Judged | None = None,
    *,
    how: str,
    what: str = "Reward model",
) -> None:
    """Write ``report.html`` of a training run.

    Parameters
    ----------
    path, settings, shares, result, metrics
        Of the run.
    checks
        Of its sources, training data first.
    judged
        The share that was held out; None: none was.
    how
        The beginning of the first sentence: what was trained in which way.
    what
        The beginning of the title.
    """
    source = Path(settings.data).name or settings.data
    data = metrics["data"]
    judgements, texts = f"{data['train_pairs']:,} judgements", f"{data['train_texts']:,} graded responses"
    amount = judgements if data["train_pairs"] else texts
    sentence = f"{how} on {amount} from {source}"
    if data["validation_pairs"]:
        sentence += f", stopped and calibrated on {data['validation_pairs']:,}"
    if judged is None:
        sentence += ". It was not judged: no judgements were held out."
    elif judged.evaluation is not None:
        sentence += f" and judged on {data['test_pairs']:,} others, whose prompts it never saw."
    else:
        sentence += f" and judged on {data['test_texts']:,} others, whose prompts it never saw."
    evaluation = judged.evaluation if judged else None
    why_not = "no pair of held-out responses was judged" if judged else "no judgements were held out (--test-share 0)"
    content = ReportContent(
        title=f"{what}: {source}",
        sentence=sentence,
        evaluation=evaluation,
        data_rows=data_rows(shares, result, checks),
        train_loss=result.train_loss,
        validation_loss=result.validation_loss,
        mistakes=mistakes(judged.view, judged.delta, _MISTAKES, calibration=evaluation.calibration)
        if judged and evaluation
        else (),
        throughput=_readable_throughput(result, metrics),
        config=settings.model_dump(mode="json"),
        versions=metrics["versions"],
        notes=[*_notes(shares, result), *rated_notes(judged), *result.told],
        missing={} if evaluation else {"evaluation": why_not},
        created=now(),
    )
    write_report(path, content)


def _readable_throughput(result: Fit, metrics: dict[str, Any]) -> dict[str, Any]:
    speed = result.throughput()
    return {
        "judgements per second": round(speed["pairs_per_second"], 1),
        "tokens per second": round(speed["tokens_per_second"]),
        "training seconds": round(result.seconds, 1),
        "hardware": ", ".join(f"{key} {value}" for key, value in metrics["hardware"].items()),
    }


def data_rows(shares: Shares, result: Fit, checks: Sequence[CheckReport] = ()) -> list[DataRow]:
    """Return the data check as rows: what each share holds, what was cut, and what the check of the sources found."""
    train = pairs(shares.training)
    test = pairs(shares.test) if shares.test is not None else None

    def both(label: str, measure: Any, note: str = "") -> DataRow:
        return DataRow(label, measure(train), measure(test) if test is not None else None, note)

    rows = [
        both("Judgements", len),
        DataRow("Prompts", len(shares.training), len(shares.test) if shares.test is not None else None),
        both("Split groups", lambda v: len(set(v.group)), "no group is on both sides"),
        both("Ties", lambda v: int((v.p == 0.5).sum()), "counted at 1/2, left out of accuracy"),
        both("Longer response preferred", _longer, "of judgements between responses of different length"),
        both("Median characters of a response", _median),
    ]
    counts = result.counts
    for name, label in (
        ("texts_cut_in_the_prompt", "Texts that lost prompt tokens"),
        ("texts_cut_in_the_response", "Texts that lost part of the response"),
        ("pairs_equal_after_tokenising", "Judgements dropped: equal after tokenising"),
    ):
        count = counts.get(name, 0)
        rows.append(
            DataRow(
                label,
                count,
                None,
                "raise --max-length-tokens" if count and "lost" in label else "",
                "warning" if count else "ok",
            )
        )
    if shares.removed:
        rows.append(
            DataRow("Removed from training: also in test", shares.removed.train_judgements, None, "", "warning")
        )
    return rows + _findings(shares, checks)


def _findings(shares: Shares, checks: Sequence[CheckReport]) -> list[DataRow]:
    """Return errors and warnings of the checked sources, and what reading dropped beside them."""
    found = [row for row in check_rows(*checks[:2]) if row.level != "ok"] if checks else []
    if len(checks) == 1:
        found = [replace(row, note=f"{row.note} (counted before the split)") for row in found]
    named = {row.label for row in found}
    for report in shares.reads:
        source = Path(report.source).name
        drops = {reason: count for reason, count in report.dropped.items() if reason not in named}
        found += [
            DataRow(reason, count, None, f"dropped when read from {source}", "warning")
            for reason, count in drops.items()
        ]
    if len(checks) < len(shares.reads):
        return [
            *found,
            DataRow(
                "Repeats, contradictions, empty or damaged texts",
                None,
                None,
                "not looked for: too many rows",
                "warning",
            ),
        ]
    return found or [DataRow("Repeats, contradictions, empty or damaged texts", 0, None, "none found")]


def _longer(view: Pairs) -> str:
    used = (view.length_a != view.length_b) & (view.p != 0.5)
    if not used.any():
        return "–"
    wins = (view.length_a > view.length_b)[used] == (view.p > 0.5)[used]
    return f"{100 * wins.mean():.1f} %"


def _median(view: Pairs) -> int:
    return int(np.median(np.concatenate([view.length_a, view.length_b]))) if len(view) else 0


def rated_notes(judged: Judged | None) -> list[str]:
    """Return how scores go with grades, in sentences for the page."""
    return [f"{line[:1].upper()}{line[1:]}." for line in judged.rated.lines()] if judged and judged.rated else []


def _notes(shares: Shares, result: Fit) -> list[str]:
    notes = []
    if shares.validation is None and result.calibration is None:
        notes.append(
            "No judgements were kept for validation: training ran its full length and the model is not calibrated."
        )
    if result.calibration is not None and result.calibration.flags:
        notes.append(f"The calibration deserves caution: {', '.join(result.calibration.flags).replace('_', ' ')}.")
    if shares.test is not None and len(pairs(shares.test)) < 100:
        notes.append(
            "Fewer than 100 judgements were held out: the intervals are wide, and differences mostly undecided."
        )
    return notes
