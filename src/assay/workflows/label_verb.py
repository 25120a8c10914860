"""``assay label``: labeling functions vote, a label model weighs them, and the labels become records to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from assay.console import progress, say, show
from assay.errors import DataError
from assay.feedback.label_models import duplicates, never_apart
from assay.feedback.labeling import LabelingFunction, Votes, apply
from assay.feedback.labeling.builtin import features
from assay.feedback.labeling.feature_store import feature_values
from assay.feedback.labeling.pairing import ResponsePairs
from assay.feedback.labeling.texts import first_responses
from assay.feedback.labeling.writing import write_for_people, write_records, write_weak
from assay.output import check_new, new_folder, write_json
from assay.versions import current_versions
from assay.workflows.judge_functions import voters
from assay.workflows.label_data import LabelShares, pairs_of, share_labels
from assay.workflows.label_exploring import explore_features
from assay.workflows.label_functions import gather
from assay.workflows.label_report import write_label_report
from assay.workflows.label_settings import LabelSettings
from assay.workflows.label_showing import show_labels
from assay.workflows.labelled import Labelled, against_hidden, weigh


def label(settings: LabelSettings) -> dict[str, Any]:
    """Run `assay label`; return what metrics.json holds.

    Raises
    ------
    AssayError
        If data, functions, judgements or output place do not fit; nothing is then written.
    """
    if settings.out:
        check_new(settings.out, overwrite=settings.overwrite)
    judges = voters(settings.judge) if settings.judge is not None else None
    functions = gather(settings, judges)
    shares = share_labels(settings)
    for report in shares.reads:
        say("\n".join(report.lines()))
    pairs, teaching = pairs_of(settings, shares)
    if settings.dry_run:
        return {"dry_run": True, "pairs": int((~teaching).sum()), "teaching": int(teaching.sum())}
    if settings.explore:
        return explore_features(settings, functions, pairs.take(teaching))
    votes = _votes(settings, functions, pairs)
    for note in judges.notes() if judges is not None else ():
        say(note)
    votes = _without_copies(votes)
    done = weigh(settings, votes, teaching, _longer(pairs))
    _refuse_none(settings, done)
    _warn(done)
    metrics = _metrics(settings, shares, done)
    metrics["judge"] = None if judges is None else judges.report()
    show_labels(done.analysis, metrics)
    if settings.out:
        _write(settings, shares, done, metrics)
    return metrics


def _votes(settings: LabelSettings, functions: list[LabelingFunction], pairs: ResponsePairs) -> Votes:
    with progress(len(pairs.data), "voting: prompts") as bar:
        return apply(functions, pairs, workers=settings.workers, progress=bar.reach)


def _without_copies(votes: Votes) -> Votes:
    """Leave out functions that vote as another one on every pair: they would count twice."""
    copies = duplicates(votes.votes, votes.names)
    for name, of in copies:
        say(f"left out {name!r}: it votes as {of!r} on every pair")
    silent = [name for name, column in zip(votes.names, votes.votes.T, strict=True) if not column.any()]
    for name in silent:
        say(f"left out {name!r}: it never votes here")
    if len(silent) == len(votes.names):
        raise DataError(
            "nobody voted",
            expected="a vote on at least one pair",
            got=f"{len(votes.votes):,} pairs, on all of which all {len(votes.names)} functions abstain",
            remedy="widen the functions' windows (--windows), or add functions (--presets, --functions)",
        )
    return votes.without([*silent, *(name for name, _ in copies)])


def _longer(pairs: ResponsePairs) -> np.ndarray:
    """Return which response is longer, ``[E]``: +1 the first, -1 the second, 0 neither."""
    length = feature_values(features()["length"], pairs.data)
    begin = first_responses(pairs.data)[pairs.row]
    return np.sign(length[begin + pairs.first] - length[begin + pairs.second]).astype(np.int8)


def _refuse_none(settings: LabelSettings, done: Labelled) -> None:
    if done.kept.any():
        return
    other = ~done.teaching
    voted = (done.votes.votes[other] != 0).any(axis=1)
    sure = np.maximum(expit(done.logits), expit(-done.logits))[other][voted]
    if done.risk is not None and voted.any():
        raise DataError(
            "no label can be promised to be right often enough",
            where="keep.error",
            expected=f"at most {done.risk.error:.1%} of {done.risk.of} pairs with a wrong label",
            got=f"{done.risk.n} judged prompts to choose a threshold on, and none at which that holds",
            remedy="allow more errors, judge more pairs, or add better functions",
        )
    raise DataError(
        "no pair was labelled",
        where=settings.data,
        expected="a vote, and where --keep asks for it enough confidence, on one pair at least",
        got=f"votes on {int(voted.sum()):,} of {int(other.sum()):,} pairs"
        + (f", the surest label at {sure.max():.1%}" if voted.any() else ""),
        remedy="widen the functions' windows (--windows), add functions, or keep less sure labels",
    )


def _warn(done: Labelled) -> None:
    for row in done.analysis.rows:
        if row.accuracy.n >= 50 and row.accuracy.value > 0.98:
            say(
                f"{row.name!r} is right in {row.accuracy.value:.1%} of {row.accuracy.n} judged pairs: "
                "does it see the judgement, or what the judgement was made from?"
            )
    for one, other, sign, together in never_apart(done.votes.votes, done.votes.names):
        say(
            f"{one!r} and {other!r} say {'the same' if sign > 0 else 'the opposite'} on all {together:,} pairs where "
            "both vote: that is one voice, not two"
        )
    if not (done.votes.pairs.truth[done.teaching] != 0).any():
        even = int(done.teaching.sum())
        say(
            (f"the {even:,} judgements are all even, so " if even else "")
            + "no judgement teaches here: functions are taken to err independently and to be right more often than "
            "not, and nothing tells how far to trust the labels"
        )
        if len(done.votes.names) < 3:
            say("fewer than three functions vote, so their accuracies are a guess")
        unsure = [row.name for row in done.analysis.rows if row.learned_ci95 and row.learned_ci95[0] < 0.5]
        if unsure:
            say(f"the votes alone do not tell that these are right more often than wrong: {', '.join(unsure)}")
    if not done.model.model.settled:
        say("EM did not settle: what the label model learned from the votes is hardly more than a guess")
    if done.model.calibration is not None:
        flags = done.model.calibration.flags
        if "few_judgements" in flags:
            say("fewer than 20 judged pairs with votes: how sure the labels are is hardly known")
        if "no_signal" in flags:
            say("the votes do not predict the judged pairs: all labels are near one half")


def _metrics(settings: LabelSettings, shares: LabelShares, done: Labelled) -> dict[str, Any]:
    """Return everything that is told of the labels."""
    voted = (done.votes.votes != 0).any(axis=1)
    other = ~done.teaching
    p = expit(done.logits[done.kept])
    fitted = done.model
    return {
        "counts": {
            "teaching": int(done.teaching.sum()),
            "teaching_decided": int((done.votes.pairs.truth[done.teaching] != 0).sum()),
            "to_label": int(other.sum()),
            "without_a_vote": int((other & ~voted).sum()),
            "labelled": int(done.kept.sum()),
            "not_sure_enough": int((other & voted & ~done.kept).sum()),
            "for_people": int((other & ~done.kept).sum()) if settings.keep.kind != "all" else 0,
            "beyond_the_most": done.votes.pairs.left_out,
        },
        "confidence": {
            name: float(value)
            for name, value in zip(
                ("q10", "median", "q90"),
                np.quantile(np.maximum(p, 1 - p), [0.1, 0.5, 0.9]) if len(p) else [np.nan] * 3,
                strict=True,
            )
        },
        "label_model": fitted.model.to_dict(),
        "calibration": None if fitted.calibration is None else fitted.calibration.to_dict(),
        "risk": None if done.risk is None else vars(done.risk),
        **done.analysis.to_dict(),
        "hidden_judgements": against_hidden(done, resamples=settings.resamples, seed=settings.seed),
        "generated": shares.generated,
        "source": [report.to_dict() for report in shares.reads],
        "settings": settings.model_dump(mode="json"),
        "versions": current_versions(),
    }


def _write(settings: LabelSettings, shares: LabelShares, done: Labelled, metrics: dict[str, Any]) -> None:
    p = expit(done.logits)
    written = (p >= 0.5).astype(float) if settings.hard else p
    pairs = done.votes.pairs
    with new_folder(str(settings.out), overwrite=settings.overwrite) as folder:
        (folder / "records").mkdir()
        write_weak(folder / "records" / "weak.parquet", pairs.take(done.kept), written[done.kept])
        if shares.teaching is not None:
            write_records(folder / "records" / "human.parquet", shares.teaching)
        if shares.test is not None:
            write_records(folder / "test.parquet", shares.test)
        rest = ~done.teaching & ~done.kept
        if settings.keep.kind != "all" and rest.any():
            write_for_people(folder / "for_people.jsonl", pairs.take(rest), p[rest])
        write_json(folder / "metrics.json", metrics)
        write_label_report(folder / "report.html", done.analysis, metrics, Path(settings.data).name)
    show(f"{settings.out}/records holds the labels; report.html and metrics.json tell of them")
