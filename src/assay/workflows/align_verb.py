"""``assay align``: train a policy on comparisons, calibrate its implicit margins, and judge them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from assay.config import dump_yaml
from assay.console import say
from assay.feedback import pairs
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.scorers import backbones, create_policy
from assay.scorers.policy_loading import plain_folder
from assay.workflows import hardware
from assay.workflows.aligning import fit_policy
from assay.workflows.data import Shares, check_sources, group_keys, write_seen_groups
from assay.workflows.fits import Fit
from assay.workflows.fitting import newest_checkpoint
from assay.workflows.graded import combined_grades
from assay.workflows.judging import fit_baselines, judge
from assay.workflows.options import policy_options
from assay.workflows.policy_data import enriched
from assay.workflows.policy_references import Compared, compared
from assay.workflows.policy_rounds import fit_in_rounds
from assay.workflows.policy_settings import SINGLE, AlignSettings
from assay.workflows.policy_teaching import encoded, learned_from, objective_of, taught_from
from assay.workflows.reporting import write_run_report
from assay.workflows.resuming import kept_if_resumable, refuse_another_run
from assay.workflows.summary import shares_lines
from assay.workflows.train import IDENTITY, data_card, data_counts, identity_of, shares_of, steps_planned, untested

EPOCHS = 3


def align(settings: AlignSettings) -> dict[str, Any]:
    """Run `assay align`; return what ``metrics.json`` holds.

    The run folder holds ``model/`` (a plain transformers folder, or that of an adapter, with ``assay.json``),
    ``config.yaml`` (resolved), ``metrics.json``, ``report.html``, ``data_check.json`` and, while it runs (then under
    ``RUN.partial``), ``checkpoints/``.

    Raises
    ------
    AssayError
        Before anything is written, if data, model, settings or output place do not fit. Later, if the disk is full or
        the loss is no number; the partial folder is then kept for ``--resume`` if it holds a whole checkpoint.
    """
    started = time.perf_counter()
    check_new(settings.out, overwrite=settings.overwrite)
    backbones.load_config(plain_folder(settings.backbone))  # a mistyped name shows before much data is read
    graded = None if settings.method in SINGLE else False
    shares = shares_of(settings, validation_share=settings.validation_share, graded=graded)
    say("\n".join([*(line for report in shares.reads for line in report.lines()), *shares_lines(settings, shares)]))
    policy = create_policy(policy_options(settings))
    settings = resolved(settings, sum(p.numel() for p in policy.parameters()))
    references = compared(settings, policy)
    if settings.dry_run:
        return _plan_only(settings, shares, references)
    with new_folder(settings.out, overwrite=settings.overwrite, resume=settings.resume, keep_on_error=True) as folder:
        identity = identity_of(settings, shares) | {"models": dict(policy.record.fingerprint)}
        refuse_another_run(folder / IDENTITY, identity)
        with kept_if_resumable(folder, _newest):
            write_json(folder / IDENTITY, identity)
            done = _align_in(folder, settings, shares, references)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / IDENTITY).unlink()
            done["seconds"] = time.perf_counter() - started
            write_json(folder / "metrics.json", done)
    return done


def resolved(settings: AlignSettings, parameters: int) -> AlignSettings:
    """Replace settings that depend on others by the values that will be used."""
    small = settings.lora is not None or parameters < 100_000_000
    # responses are taught, and not preferences sharpened: what is usual for that is ten to twenty times higher
    taught, compared = (2e-4, 2e-5) if small else (2e-5, 1e-6)
    rate = taught if settings.method == "sft" else compared
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and hardware.multiplies_in_bf16())
    return settings.model_copy(
        update={
            "epochs": settings.epochs or (EPOCHS if settings.rounds is None else 1),
            "learning_rate": settings.learning_rate or rate,
            "precision": "bf16" if bf16 else "fp32",
        }
    )


def _align_in(folder: Path, settings: AlignSettings, shares: Shares, references: Compared) -> dict[str, Any]:
    checks = check_sources(settings, shares.reads)
    write_json(folder / "data_check.json", [check.to_dict() for check in checks])
    train = fit_policy if settings.rounds is None else fit_in_rounds
    result = train(settings, shares, folder, references)
    policy = result.model
    policy.record.data = data_card(settings, shares)
    policy.save_pretrained(folder / "model")
    write_seen_groups(folder / "model", group_keys(shares.training), settings.backbone)
    write_atomic(folder / "config.yaml", dump_yaml(settings.model_copy(update={"resume": False, "overwrite": False})))
    metrics = untested(settings, shares, result) | {"policy": policy.record.policy}
    baselines = fit_baselines(shares.training, folder / "baselines") if len(pairs(shares.training)) else {}
    judged = None
    if shares.test is not None:
        judged = judge(
            policy,
            shares.test,
            baselines=baselines,
            grades=_grades(settings, shares.test),
            token_budget=settings.token_budget,
            seed=settings.seed,
            resamples=settings.resamples,
        )
        found = judged.evaluation.to_dict() if judged.evaluation else None
        beside = found.pop("baselines") if found else None
        rated = judged.rated.to_dict() if judged.rated else None
        metrics = {"evaluation": found, "rated": rated, "baselines": beside, **metrics}
        metrics["data"]["test_truncation"] = judged.truncation
    else:
        metrics = {"evaluation": None, "rated": None, "baselines": None, **metrics}
    write_run_report(
        folder / "report.html", settings, shares, result, metrics, checks, judged, how=_how(settings), what="Policy"
    )
    return metrics


def _newest(folder: Path) -> str | None:
    """Say up to where a run is finished: its newest whole checkpoint, or its last whole round."""
    rounds = sorted(folder.glob("round-*/metrics.json"))
    return rounds[-1].parent.name if rounds else newest_checkpoint(folder)


def _grades(settings: AlignSettings, test: Dataset) -> np.ndarray | None:
    """Return what responses are graded, where single verdicts are what is learned; good and bad ones as 1 and 0."""
    return combined_grades(test, good_from=settings.prospect.good_from) if settings.method in SINGLE else None


def _how(settings: AlignSettings) -> str:
    trained = "LoRA" if settings.lora else "all weights"
    against = {None: "no reference", "start": "itself as it came"}.get(settings.compared_with, "another model")
    name = Path(settings.backbone).name or settings.backbone
    return f"The policy {name} ({trained}, {settings.method} against {against}) was trained"


def _plan_only(settings: AlignSettings, shares: Shares, references: Compared) -> dict[str, Any]:
    """Plan the steps as training would."""
    policy = references.policy
    data, _ = enriched(settings.model_copy(update={"bridge": None}), shares.fit)
    records, elsewhere = encoded(settings, data, policy)
    learned = learned_from(settings, policy, taught_from(settings, data, records), elsewhere)
    steps = steps_planned(settings, settings.seed, learned, policy.row_layout, objective_of(settings))
    return {"dry_run": True, "steps": steps, "data": data_counts(shares, Fit(policy))}
