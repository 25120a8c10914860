"""Train a policy on comparisons, and calibrate it as a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from assay.scorers import Policy, create_policy
from assay.scorers.encoding import score_records
from assay.training import PreferenceTrainer
from assay.training.progress import TerminalProgress
from assay.training.records import TrainingRecords
from assay.workflows.data import Shares
from assay.workflows.fits import Fit, result_of, store, trained
from assay.workflows.options import arguments, policy_options
from assay.workflows.policy_data import enriched
from assay.workflows.policy_references import Compared
from assay.workflows.policy_settings import AlignSettings
from assay.workflows.policy_teaching import encoded, learned_from, objective_of, taught_from
from assay.workflows.teaching import calibration_of


def fit_policy(settings: AlignSettings, shares: Shares, folder: Path, compared: Compared) -> Fit:
    """Train and calibrate a policy; see `assay.workflows.align_verb.align`.

    Parameters
    ----------
    settings, shares, folder
        Resolved; judgements by purpose; for checkpoints and logs.
    compared
        The policy as it came, and its references.
    """
    policy = compared.policy
    fit, made = enriched(settings, shares.fit)
    train, elsewhere = encoded(settings, fit, policy)
    held_out = encoded(settings, shares.validation, policy) if shares.validation is not None else None
    taught = taught_from(settings, fit, train).noting(made)
    compared.weigh(train if held_out is None else held_out[0])
    learned = compared.known_to(learned_from(settings, policy, taught, elsewhere))
    kept_apart = None
    if held_out is not None and shares.validation is not None:
        checked = taught_from(settings, shares.validation, held_out[0], like=taught)
        # compared with the policy as it came whatever follows it: losses before and after must be of one kind
        plain = settings.model_copy(update={"moving": None, "edit_delta": 0.0, "optimism": 0.0})
        kept_apart = compared.under(plain).known_to(learned_from(plain, policy, checked, held_out[1]))
    compared.rest()
    policy.reference, policy.edit_delta = compared.in_training(), settings.edit_delta
    args, objective = arguments(settings, folder, settings.seed), objective_of(settings)
    if kept_apart is None or not (objective.items(kept_apart)[1] > 0).any():
        args.patience = 0  # nothing to look at
    shown = TerminalProgress()
    trainer = PreferenceTrainer(policy, args, learned, kept_apart, objective, callbacks=[shown])
    whole, since = trained(
        trainer, shown, folder, lambda: create_policy(policy_options(settings)), resume=settings.resume
    )
    policy = cast(Policy, whole)
    result = result_of(policy, trainer, taught, since)
    result.target = settings.target
    policy.reference, policy.edit_delta = compared.for_scoring(policy), 0.0
    if kept_apart is not None:
        calibrate(settings, result, kept_apart)
    return result


def calibrate(settings: AlignSettings, result: Fit, held_out: TrainingRecords) -> None:
    """Calibrate implicit margins, or where there are none verdicts, and store where scores lie.

    Policy and reference are both computed in the precision of scoring, which may be finer than that of training.
    """
    values = score_records(result.model, held_out.records, token_budget=settings.token_budget)
    verdicts = None if held_out.grades is None else (values, held_out.grades)
    margins = held_out.records.margins(values)
    result.calibration = calibration_of(settings.calibration, held_out.records, margins, verdicts)
    elsewhere = held_out.told.get("elsewhere")
    store(result, values if elsewhere is None else values[elsewhere == 0], "on the validation share")
