"""What a policy learns from a share of the data: judgements as targets, or single verdicts; and marks of its texts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from datasets import Dataset

from assay.console import say
from assay.errors import DataError
from assay.feedback import algebra, pairs
from assay.feedback.cross_prompts import with_answers_elsewhere
from assay.scorers import Policy
from assay.scorers.encoding import EncodedRecords, encode_records
from assay.scorers.token_weights import edited_tokens
from assay.training import PairwiseObjective
from assay.training.objective import Objective
from assay.training.records import TrainingRecords
from assay.training.reply_objectives import LikelihoodObjective, ProspectObjective
from assay.training.terms import Likelihood, Optimism, Term
from assay.workflows.feedback_settings import PairwiseLoss
from assay.workflows.graded import combined_grades
from assay.workflows.policy_settings import SINGLE, AlignSettings
from assay.workflows.prepared import Prepared
from assay.workflows.targets import make_targets

#: What targets are made for; the kernel is another matter.
_LOSS = PairwiseLoss()


def objective_of(settings: AlignSettings) -> Objective:
    """Return the loss that the settings name."""
    if settings.method == "kto":
        return ProspectObjective(settings.prospect.good, settings.prospect.bad)
    if settings.method == "sft":
        return LikelihoodObjective(settings.scale)
    terms: list[Term] = [Likelihood(settings.told)] if settings.told else []
    if settings.optimism:
        terms.append(Optimism(settings.optimism))
    return PairwiseObjective(
        kernel=settings.usual.kernel,
        beta=settings.scale,
        clip=np.inf if settings.clip is None else settings.clip,
        terms=tuple(terms),
    )


def encoded(settings: AlignSettings, data: Dataset, policy: Policy) -> tuple[EncodedRecords, np.ndarray | None]:
    """Encode a share of the data.

    Returns
    -------
    tuple
        The records, and which texts are answers to other prompts, float32 ``[texts]``; None: they are not needed.

    Raises
    ------
    ModelError
        If a text has no token of a reply.
    """
    elsewhere = None
    if settings.method == "kto":
        data, got = with_answers_elsewhere(data, settings.seed)
        records = encode_records(data, policy.encoder)
        elsewhere = np.zeros(len(records.lengths), np.float32)
        elsewhere[records.offsets[1:][got] - 1] = 1.0
    else:
        records = encode_records(data, policy.encoder)
    policy.refuse_empty(records.reply_starts, records.lengths)
    if records.cut_reply:
        say(
            f"{records.cut_reply:,} of {len(records.lengths):,} responses are longer than --max-length-tokens: what is "
            "left of them does not end, so it does not teach to stop there"
        )
    return records, elsewhere


def taught_from(
    settings: AlignSettings, data: Dataset, records: EncodedRecords, *, like: Prepared | None = None
) -> Prepared:
    """Make targets of the judgements, and ask the better response to be ahead; or make verdicts of them.

    Parameters
    ----------
    settings, data, records
        Resolved; a share of the data; the same encoded.
    like
        The training share, prepared, for one that is held out.

    Raises
    ------
    DataError
        If nothing is left to learn from.
    """
    if settings.method in SINGLE:
        return _with_verdicts(settings, data, records, held_out=like is not None)
    taught = make_targets(settings.target, _LOSS, data, Prepared(records), like=like)
    if like is not None:
        return taught
    if settings.ahead:
        given = taught.records.pairs
        ahead = given.m + settings.ahead * np.sign(2 * given.p - 1)
        taught = taught.after(f"{settings.ahead:g} ahead", algebra.set_m(given, ahead, settings.method))
    for line in taught.lines():
        say(line)
    if not (taught.records.pairs.w > 0).any():
        raise DataError(
            "there is nothing to learn from",
            expected="judgements of weight above 0 between responses that differ within the maximum length",
            got=f"{len(taught.records.pairs)} judgements; of {records.dropped_identical} more both texts are equal "
            "once truncated",
            remedy="raise --max-length-tokens, or choose another --target.kind",
        )
    return taught


def learned_from(
    settings: AlignSettings, policy: Policy, taught: Prepared, elsewhere: np.ndarray | None
) -> TrainingRecords:
    """Return what the trainer learns from, without what references say."""
    told = {} if elsewhere is None else {"elsewhere": elsewhere}
    if settings.method == "sft":
        assert taught.grades is not None
        told["learned"] = np.where(taught.grades > 0.5, 1.0, 0.0).astype(np.float32)
    if settings.optimism:
        told["own"] = _own(taught.records)
    edited = edited_tokens(taught.records, policy.encoder.tokenizer) if settings.edit_delta else None
    return replace(taught.taught(policy.encoder.pad_id), with_replies=True, told=told, edited=edited)


def _with_verdicts(
    settings: AlignSettings, data: Dataset, records: EncodedRecords, *, held_out: bool = False
) -> Prepared:
    """Say of each response how probably it is good: as judgements prefer it, or as it is graded or labelled."""
    view, good = pairs(data), np.full(len(records.lengths), np.nan)
    if len(view):
        sums, mass = np.zeros(len(good)), np.zeros(len(good))
        for side, p in ((view.a, view.p), (view.b, 1 - view.p)):
            np.add.at(sums, records.offsets[view.row] + side, view.w * p)
            np.add.at(mass, records.offsets[view.row] + side, view.w)
        good = np.where(mass > 0, sums / np.where(mass > 0, mass, 1.0), np.nan)
    else:
        # answers to other prompts stand behind a record's own
        counts = [len(responses) for responses in data["responses"]]
        first = zip(records.offsets[:-1].tolist(), counts, strict=True)
        own = np.concatenate([np.arange(start, start + count) for start, count in first])
        good[own] = combined_grades(data, good_from=settings.prospect.good_from)
    known = good[np.isfinite(good)]
    if held_out and not len(known):
        return Prepared(records, grades=good)
    if not len(known) or known.min() < 0 or known.max() > 1:
        raise DataError(
            f"{settings.method} learns from good responses" + (" and bad ones" if settings.method == "kto" else ""),
            expected="judgements, labels, or grades from 0 to 1",
            got=f"grades from {known.min():g} to {known.max():g}" if len(known) else "neither",
            remedy="--prospect.good-from GRADE, or choose another --method",
        )
    sides = {"good": int((known > 0.5).sum()), "bad": int((known < 0.5).sum())}
    if not held_out and (not sides["good"] or (not sides["bad"] and settings.method == "kto")):
        raise DataError(
            "responses of one kind only: there is nothing to learn",
            expected="good and bad ones" if settings.method == "kto" else "good ones",
            got=f"{len(known)} responses, P(good) from {known.min():g} to {known.max():g}",
            remedy="--prospect.good-from GRADE, or add responses of the other kind",
        )
    return Prepared(records, grades=good, figures={"verdicts": {"responses": len(known), **sides}})


def _own(records: EncodedRecords) -> np.ndarray:
    """Return the weight of the responses that a record's ``meta`` marks as the policy's own, float32 ``[texts]``.

    All those of a prompt weigh together what its judgements weigh.

    Raises
    ------
    DataError
        If no response is marked.
    """
    view, found = records.pairs, np.zeros(len(records.lengths), np.float32)
    weight = np.bincount(view.row, view.w, minlength=len(records.offsets) - 1)
    for row, packed in enumerate(view.data["meta"]):
        cells = (json.loads(packed) if packed else {}).get("responses") or []
        own = [place for place, cell in enumerate(cells) if cell and cell.get("own")]
        found[records.offsets[row] + np.array(own, int)] = weight[row] / max(len(own), 1)
    if not found.any():
        raise DataError(
            "no response is the policy's own, so there is nothing to be optimistic about",
            expected='responses whose cells hold "own": true, as rounds of assay align write them',
            got=f"{len(found)} responses without",
            remedy="leave out --optimism",
        )
    return found
