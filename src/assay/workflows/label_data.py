"""From a source to what teaches a label model, what is labelled, and what is kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from assay.console import say
from assay.errors import DataError
from assay.feedback import (
    ReadReport,
    as_chat,
    comparison,
    from_rows,
    kind_of,
    read_with_report,
    split,
    without_groups,
)
from assay.feedback.labeling import response_pairs
from assay.feedback.labeling.pairing import ResponsePairs, pairs_not_judged
from assay.feedback.splitting import group_columns
from assay.workflows.label_settings import LabelSettings

#: Share of DATA's judged groups that teach, where hardly a prompt is left to label otherwise.
USUAL_SHARE = 0.1
#: Unjudged prompts for each judged one from which on all judgements teach.
FEW_UNJUDGED = 0.1


@dataclass(frozen=True)
class LabelShares:
    """What teaches, what is labelled, and what is kept apart; no group of the test is in another share."""

    teaching: Dataset | None
    to_label: Dataset
    test: Dataset | None
    reads: list[ReadReport]
    generated: dict[str, int] | None = None


def share_labels(settings: LabelSettings) -> LabelShares:
    """Read what is named, and share it out: some judgements teach, the others are hidden.

    Raises
    ------
    DataError
        If there is no pair to label.
    """
    data, report = _read(settings, settings.data)
    generated = None
    if kind_of(data) == "prompts":
        data, generated = _with_responses(settings, data)
    elif settings.generate is not None:
        raise DataError(
            "these prompts have responses already",
            where=settings.data,
            expected="prompts alone, for --generate",
            got=f"{report.responses:,} responses, read as {report.format}",
            remedy="leave --generate out, or name a file of prompts",
        )
    reads = [report]
    judged = group_columns(data)[1] > 0
    whole, test = data, None
    if settings.test_share > 0 and judged.any():
        held = _split_judged(data, judged, settings.test_share, settings.seed)
        if (held & ~judged).any():
            say(f"{int((held & ~judged).sum()):,} unjudged prompts of test groups take no part")
        data, test = data.select(np.flatnonzero(~held)), data.select(np.flatnonzero(held & judged))
        judged = judged[~held]
    if settings.labels is not None:
        teaching, other = _read(settings, settings.labels)
        reads.append(other)
        without = group_columns(teaching)[1] == 0
        if without.any():
            say(f"left out {int(without.sum()):,} records of {settings.labels} that hold no judgement")
            teaching = teaching.select(np.flatnonzero(~without))
        if not len(teaching):
            raise DataError(
                "nothing is judged there",
                where=settings.labels,
                expected="judgements, to teach the label model",
                got=f"{int(without.sum()):,} records without one",
            )
        teaching, found = without_groups(teaching, whole)
        if not len(teaching):
            raise DataError(
                "every judged prompt is also among those to be labelled",
                where=settings.labels,
                expected="judgements on other prompts, to teach the label model",
                got=f"{found.train_rows} prompts, all in {settings.data} too",
                remedy="leave --labels out: a share of DATA's own judgements then teaches",
            )
        if found:
            say(f"left out {found.train_rows} records of {settings.labels}: {settings.data} holds their prompts too")
        return LabelShares(teaching, data, test, reads, generated)
    if not judged.any():
        return LabelShares(None, data, test, reads, generated)
    share = settings.calibration_share
    if share is None:
        share = USUAL_SHARE if (~judged).sum() < FEW_UNJUDGED * judged.sum() else 1.0
        told = "all judgements teach" if share == 1 else f"{share:.0%} of the judged prompts teach, the others judge"
        say(f"{told} (--calibration-share)")
    taught = judged if share == 1 else _split_judged(data, judged, share, settings.seed + 1)
    return LabelShares(
        data.select(np.flatnonzero(taught & judged)), data.select(np.flatnonzero(~(taught & judged))), test, reads
    )


def _read(settings: LabelSettings, source: str) -> tuple[Dataset, ReadReport]:
    way: dict[str, Any] = {"split": settings.split} if source == settings.data else {"split": None}
    if source == settings.labels and settings.labels_mapping is not None:
        way |= {"mapping": settings.labels_mapping, "format": "auto", "group": None}
    data, report = read_with_report(source, **settings.reading() | way | {"ratings": "comparisons"})
    kind = kind_of(data)
    wanted = kind == "prompts" and settings.generate is not None and source == settings.data
    if kind != "comparisons" and not wanted:
        raise DataError(
            "there are no responses to compare",
            where=source,
            expected="prompts with two responses or more",
            got=f"{kind}, read as {report.format}",
            remedy="sample some with --generate.models MODEL"
            if kind == "prompts"
            else "name the columns with --mapping.prompt and --mapping.responses (docs/data.md)",
        )
    return data, report


def _with_responses(settings: LabelSettings, prompts: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Sample responses; a dry run takes two placeholders each."""
    assert settings.generate is not None
    if settings.dry_run:
        rows = [comparison(as_chat(row["prompt"]), ["a", "b"], split_group=row["split_group"]) for row in prompts]
        return from_rows(rows), {}
    # torch takes seconds to import, and most labelling needs none of it
    from assay.workflows.generation import generate

    found = generate(prompts, settings.generate, settings.seed)
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.counts.items() if count)
    say(f"responses: {told}")
    return found.data, found.counts


def _split_judged(data: Dataset, judged: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mark all records of a share of the judged groups, bool ``[records]``."""
    inside = data.select(np.flatnonzero(judged))
    _, chosen = split(inside, test=share, seed=seed)
    names = set(group_columns(chosen)[0])
    return np.array([name in names for name in group_columns(data)[0]], bool)


def pairs_of(settings: LabelSettings, shares: LabelShares) -> tuple[ResponsePairs, np.ndarray]:
    """List the pairs, those that teach first, and mark them; an undecided teaching pair teaches nothing."""
    parts = [part for part in (shares.teaching, shares.to_label) if part is not None and len(part)]
    data = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    teaching_rows = 0 if shares.teaching is None else len(shares.teaching)
    pairs = response_pairs(data, seed=settings.seed, most=settings.most_pairs, of_judged=settings.pairs_of_judged)
    if not (settings.pairs_of_judged or settings.explore) and (free := pairs_not_judged(data)):
        say(f"{free:,} pairs of judged prompts, which nobody compared, are not labelled (--pairs-of-judged)")
    teaching = (pairs.row < teaching_rows) & ~np.isnan(pairs.p)
    if not len(pairs):
        raise DataError(
            "there is no pair of responses",
            where=settings.data,
            expected="prompts with two responses or more",
            got=f"{len(data)} prompts with one response each",
        )
    if not settings.explore and teaching.all():
        raise DataError(
            "there is no pair left to label",
            where=settings.data,
            expected="pairs without a judgement, or judgements that teach nothing (--calibration-share below 1)",
            got=f"{len(pairs):,} pairs, all of which teach",
        )
    if pairs.left_out:
        say(f"{pairs.left_out:,} pairs beyond {settings.most_pairs} of a prompt are not labelled (--most-pairs)")
    return pairs, teaching
