"""Train a policy on comparisons: what it learns, what it is compared with, and its calibration as a scorer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from datasets import Dataset

from assay.console import say
from assay.errors import DataError, ModelError
from assay.feedback import algebra
from assay.scorers import AdapterOff, FrozenReference, Policy, PolicyOptions, backbones, create_policy
from assay.scorers.encoding import EncodedRecords, encode_records, score_records
from assay.scorers.likelihood_cache import LikelihoodCache
from assay.scorers.policy import Reference
from assay.scorers.references import refuse_other_vocabulary
from assay.training import PairwiseObjective, PreferenceTrainer
from assay.training.progress import TerminalProgress
from assay.training.records import TrainingRecords
from assay.training.references import AveragedReference, ResetReference
from assay.training.terms import Likelihood
from assay.workflows import hardware
from assay.workflows.data import Shares
from assay.workflows.feedback_settings import PairwiseLoss
from assay.workflows.fits import Fit, result_of, store, trained
from assay.workflows.options import arguments, lora_options
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.prepared import Prepared
from assay.workflows.targets import make_targets
from assay.workflows.teaching import calibration_of

#: What targets are made for; the kernel is another matter.
_LOSS = PairwiseLoss()


def policy_options(settings: AlignSettings) -> PolicyOptions:
    """Turn settings into the options of `create_policy`."""
    return PolicyOptions(
        backbone=settings.backbone,
        beta=settings.scale,
        form=settings.form,
        template=settings.template,
        end_token=settings.end_token,
        max_length_tokens=settings.max_length_tokens,
        truncation=settings.truncation,
        lora=lora_options(settings),
        dropout=settings.dropout,
        attention=settings.attention,
        seed=settings.seed,
    )


def objective_of(settings: AlignSettings) -> PairwiseObjective:
    """Return the loss that the settings name."""
    return PairwiseObjective(
        kernel=settings.usual.kernel,
        beta=settings.scale,
        clip=np.inf if settings.clip is None else settings.clip,
        terms=(Likelihood(settings.told),) if settings.told else (),
    )


def taught_from(settings: AlignSettings, data: Dataset, records: EncodedRecords) -> Prepared:
    """Make targets of the judgements, and ask the better response to be ahead; say what was done.

    Raises
    ------
    DataError
        If nothing is left to learn from.
    """
    taught = make_targets(settings.target, _LOSS, data, Prepared(records))
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


def fit_policy(
    settings: AlignSettings, shares: Shares, folder: Path, policy: Policy, other: Policy | None = None
) -> Fit:
    """Train and calibrate a policy; see `assay.workflows.align_verb.align`.

    What a reference says is computed before training, once for each response, and kept on disk: while the policy trains
    no second model is at work.

    Parameters
    ----------
    settings, shares, folder
        Resolved; judgements by purpose; for checkpoints and logs.
    policy
        As it came.
    other
        The reference, where it is another model (`reference_of`).
    """
    train = encode_records(shares.fit, policy.encoder)
    held_out = encode_records(shares.validation, policy.encoder) if shares.validation is not None else None
    for records in (train, held_out):
        if records is not None:
            policy.refuse_empty(records.reply_starts, records.lengths)
    taught = taught_from(settings, shares.fit, train)
    learned = _with_reference(settings, taught.taught(policy.encoder.pad_id), policy, other)
    if settings.moving is not None:
        learned = replace(learned, reference=None)  # it is asked anew at each step
    kept_apart = None
    if held_out is not None and shares.validation is not None:
        checked = make_targets(settings.target, _LOSS, shares.validation, Prepared(held_out), like=taught)
        # compared with the policy as it came whatever follows it: losses before and after must be of one kind
        kept_apart = _with_reference(settings, TrainingRecords(checked.records), policy, other)
    if other is not None:
        other.to("cpu")
    policy.reference = _moving(settings, policy)
    args = arguments(settings, folder, settings.seed)
    if kept_apart is None or not (kept_apart.weights > 0).any():
        args.patience = 0  # nothing to look at
    shown = TerminalProgress()
    trainer = PreferenceTrainer(policy, args, learned, kept_apart, objective_of(settings), callbacks=[shown])
    whole, since = trained(
        trainer, shown, folder, lambda: create_policy(policy_options(settings)), resume=settings.resume
    )
    policy = cast(Policy, whole)
    result = result_of(policy, trainer, taught, since)
    result.target = settings.target
    policy.reference = _live(settings, policy, other)
    _calibrate(settings, result, held_out)
    return result


def reference_of(settings: AlignSettings, policy: Policy) -> Policy | None:
    """Load the reference, where it is another model than the policy as it came; the policy's record names it.

    Raises
    ------
    ModelError
        If it has other tokens, or reads shorter texts than the policy.
    """
    name = settings.compared_with
    if name in (None, "start"):
        policy.record.policy["reference"] = name
        return None
    found = create_policy(PolicyOptions(str(name), attention=settings.attention))
    refuse_other_vocabulary(policy, found, str(name))
    longest, limit = policy.encoder.settings.max_length_tokens, backbones.window(found.whole.config)
    if limit is not None and longest > limit:
        raise ModelError(
            "the reference reads shorter texts than the policy",
            where=str(name),
            expected=f"at most {limit} tokens",
            got=str(longest),
            remedy=f"--max-length-tokens {limit}",
        )
    policy.record.policy["reference"] = found.record.policy["base"]
    policy.record.fingerprint["reference"] = found.record.fingerprint["base"]
    return found


def _with_reference(
    settings: AlignSettings, given: TrainingRecords, policy: Policy, other: Policy | None
) -> TrainingRecords:
    """Return the same with what the reference says; before training, the policy is still as it came."""
    known = None
    if settings.compared_with is not None:
        model = other or policy
        model.to(hardware.best_device())
        dtype = torch.bfloat16 if settings.precision == "bf16" else None
        known = LikelihoodCache(model, dtype=dtype, token_budget=settings.token_budget).of(given.records)
    return replace(given, with_replies=True, reference=known)


def _moving(settings: AlignSettings, policy: Policy) -> Reference | None:
    """Return a reference that follows the policy, if one is wanted."""
    moving = settings.moving
    if moving is None:
        return None
    policy.to(hardware.best_device())
    if moving.kind == "average":
        return AveragedReference(policy, moving.factor, moving.every)
    return ResetReference(policy, moving.every)


def _live(settings: AlignSettings, policy: Policy, other: Policy | None) -> Reference | None:
    """Return the reference of a trained policy, for texts that it has not met: what it was compared with at first."""
    if settings.compared_with is None:
        return None
    if other is not None:
        return FrozenReference(other)
    return AdapterOff(policy) if policy.config.adapter else FrozenReference(create_policy(policy_options(settings)))


def _calibrate(settings: AlignSettings, result: Fit, held_out: EncodedRecords | None) -> None:
    """Calibrate implicit margins on the validation share, and store where scores lie.

    Policy and reference are both computed in the precision of scoring, which may be finer than that of training.
    """
    if held_out is None:
        return
    values = score_records(result.model, held_out, token_budget=settings.token_budget)
    result.calibration = calibration_of(settings.calibration, held_out, held_out.margins(values))
    store(result, values, "on the validation share")
