"""What `assay label` shows on the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.console import show, show_table
from assay.evaluation.exploring import Proposal
from assay.evaluation.label_analysis import LabelAnalysis


def show_proposals(found: list[Proposal], pairs: int) -> None:
    """Print the features, those that tell most first."""
    rows = [
        [
            each.name,
            f"{each.prefers}, from {each.least:.4g}",
            f"{each.coverage:.1%}",
            f"{each.accuracy:.1%}",
            f"{each.interval[0]:.1%} to {each.interval[1]:.1%}" if each.interval else None,
            "yes" if each.holds else "no",
        ]
        for each in found
    ]
    columns = ["feature", "prefers", "votes on", "right", f"corrected for {len(found)}", "holds"]
    show_table(rows, columns, title=f"features on {pairs:,} judged pairs, windows chosen out of fold")


def show_labels(analysis: LabelAnalysis, metrics: dict[str, Any]) -> None:
    """Print the functions' table and what came out."""
    rows = [
        [
            row.name,
            f"{row.coverage:.1%}",
            f"{row.conflict:.1%}",
            None if row.accuracy.n == 0 else f"{row.accuracy.value:.1%}",
            None if row.accuracy.ci95 is None else f"{row.accuracy.ci95[0]:.1%} to {row.accuracy.ci95[1]:.1%}",
            None if row.learned is None else f"{row.learned:.1%}",
            None if row.longer != row.longer else f"{row.longer:.0%}",
        ]
        for row in analysis.rows
    ]
    columns = ["function", "votes on", "against another", "right", "95 % interval", "learned", "for the longer"]
    show_table(rows, columns, title=f"{len(analysis.rows)} functions on {analysis.pairs:,} pairs")
    counts, told = metrics["counts"], metrics["hidden_judgements"]
    show(
        f"labelled {counts['labelled']:,} of {counts['to_label']:,} pairs; on {counts['without_a_vote']:,} nobody "
        f"voted, {counts['not_sure_enough']:,} were not sure enough"
    )
    if told:
        low, high = told["accuracy"]["ci95"] or (np.nan, np.nan)
        show(
            f"of {told['pairs']:,} hidden judgements {told['accuracy']['value']:.1%} agree ({low:.1%} to {high:.1%}); "
            f"a majority of votes: {told['accuracy_of_majority']['value']:.1%}"
        )
    if metrics["risk"]:
        _show_bound(metrics["risk"], told)


def _show_bound(risk: dict[str, Any], told: dict[str, Any] | None) -> None:
    """Print what was promised of wrong labels, and what came of it on judgements that took no part."""
    labelled = risk["of"] == "labelled"
    said = f"of {'the labels' if labelled else 'all pairs'} at most {risk['error']:.1%} are to be wrong"
    said += f", with certainty {risk['certainty']:.0%}" if labelled else ", in expectation"
    if told:
        of_labels = told["accuracy_of_kept"] or told["accuracy"]
        wrong = 1.0 - of_labels["value"] if labelled else told["wrong_of_all"]["value"]
        said += f"; on hidden judgements {wrong:.1%} are"
    show(said)
