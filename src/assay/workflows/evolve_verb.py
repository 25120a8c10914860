"""``assay evolve``: a reward model that labels pairs for itself, round by round (SER; Huang et al., ICLR 2025)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset, concatenate_datasets

from assay.config import dump_yaml
from assay.console import say
from assay.errors import ConfigError, DataError
from assay.evaluation import fit_calibration, stored_form
from assay.feedback import kind_of, pairs, read_with_report, split, without_groups
from assay.feedback.pairs import WEAK
from assay.feedback.records import COMPARISONS
from assay.feedback.self_labels import standard
from assay.output import check_new, new_folder, write_atomic, write_json
from assay.scorers import RewardModel, create_reward_model
from assay.versions import current_versions
from assay.workflows import hardware
from assay.workflows.data import Shares, content_key, group_keys, write_seen_groups
from assay.workflows.fits import Fit
from assay.workflows.fitting import fit
from assay.workflows.judging import Scored, fit_baselines, judge, scores_on
from assay.workflows.options import model_options, resolved
from assay.workflows.resuming import kept_if_resumable, refuse_another_run
from assay.workflows.settings import EvolveSettings
from assay.workflows.train import IDENTITY, data_card, identity_of, prepare
from assay.workflows.unjudged import Candidates, candidates

HISTORY = "history.json"
LABELS = "labels.parquet"


@dataclass
class Pool:
    """Pairs that nobody has judged, and which of them have a self-label by now.

    Attributes
    ----------
    data, given
        Records without judgements, and all pairs in them.
    taken
        bool ``[E]``: pairs that were labelled in some round.
    labels
        What each round added.
    """

    data: Dataset
    given: Candidates
    taken: np.ndarray
    labels: list[Dataset] = field(default_factory=list)


def evolve(settings: EvolveSettings) -> dict[str, Any]:
    """Run `assay evolve`; return what ``metrics.json`` holds.

    Round 0 is the model of the judgements. Each further round labels the pairs that the last model is sure of, adds
    them and refits from the start. A share of the judgements is kept from all rounds: it calibrates each, and the
    rounds end when it is predicted worse (calibrated NLL), when nothing is kept, or after ``--rounds``; the best round
    is the result. The test share decides nothing.

    The folder holds ``model/`` (of the best round), ``round-K/`` with the model, the labels it was given and its
    metrics, ``history.json``, ``metrics.json`` and ``config.yaml``.

    Raises
    ------
    DataError
        If there is nothing to label, or nothing to keep apart.
    """
    if settings.back_to is not None:
        return go_back(Path(settings.out), settings.back_to)
    check_new(settings.out, overwrite=settings.overwrite)
    shares, hidden = _hide(settings, prepare(settings))
    # folds would not do: a self-label comes from a model that has seen all of them
    learned, check = split(shares.fit, test=settings.check_share, seed=settings.seed)
    shares = replace(shares, fit=learned)
    pool = _pool(settings, shares, check, hidden)
    model = create_reward_model(model_options(settings, settings.seed))
    settings = cast(EvolveSettings, resolved(settings, sum(p.numel() for p in model.parameters())))
    if settings.dry_run:
        return {"dry_run": True, "judgements": len(pairs(shares.training)), "pool": len(pool.given.row)}
    with new_folder(settings.out, overwrite=settings.overwrite, resume=settings.resume, keep_on_error=True) as folder:
        identity = identity_of(settings, shares) | {"pool": content_key([pool.data])}
        refuse_another_run(folder / IDENTITY, identity)
        write_json(folder / IDENTITY, identity)
        with kept_if_resumable(folder, _newest_round):
            rounds, why = _rounds(settings, shares, check, pool, folder)
        best = int(np.argmin([one["nll"] for one in rounds]))
        shutil.copytree(folder / f"round-{best}" / "model", folder / "model", dirs_exist_ok=True)
        history = {"best": best, "stopped": why, "rounds": rounds}
        write_json(folder / HISTORY, history)
        write_atomic(
            folder / "config.yaml", dump_yaml(settings.model_copy(update={"overwrite": False, "resume": False}))
        )
        metrics = {
            **history,
            "evaluation": rounds[best]["evaluation"],
            "seed": settings.seed,
            "settings": settings.model_dump(mode="json"),
            "hardware": hardware.describe(),
            "versions": current_versions(),
        }
        write_json(folder / "metrics.json", metrics)
        (folder / IDENTITY).unlink()
    return metrics


def _newest_round(folder: Path) -> str | None:
    """Return the name of the last round that was finished."""
    whole = sorted(folder.glob("round-*/metrics.json"))
    return whole[-1].parent.name if whole else None


def _rounds(
    settings: EvolveSettings, shares: Shares, check: Dataset, pool: Pool, folder: Path
) -> tuple[list[dict[str, Any]], str]:
    """Train round after round; return what became of each, and why it ended."""
    rounds: list[dict[str, Any]] = []
    while True:
        number = len(rounds)
        model, found = _round(settings, shares, check, pool, folder / f"round-{number}", number)
        rounds.append(found)
        say(f"round {number}: {found['labels']:,} self-labels, NLL {found['nll']:.4f} on judgements kept apart")
        if number and found["nll"] > min(one["nll"] for one in rounds[:-1]):
            return rounds, "the judgements kept apart were predicted worse"
        if number == settings.rounds:
            return rounds, f"{settings.rounds} rounds"
        added = _label(settings, model, shares, check, pool, number + 1)
        rounds[-1] |= {"rule": added["rule"], "coverage": added["coverage"]}
        if added["kept"] == 0:
            return rounds, "the model was sure of no further pair"
        folder_of_next = folder / f"round-{number + 1}"
        folder_of_next.mkdir(exist_ok=True)
        pool.labels[-1].to_parquet(str(folder_of_next / LABELS))


def _round(
    settings: EvolveSettings, shares: Shares, check: Dataset, pool: Pool, folder: Path, number: int
) -> tuple[RewardModel, dict[str, Any]]:
    """Train one round, or take over what an interrupted run has finished of it; return its model and its metrics."""
    done = folder / "metrics.json"
    if done.is_file():
        return RewardModel.from_pretrained(folder / "model"), json.loads(done.read_text(encoding="utf-8"))
    data = concatenate_datasets([shares.fit, *pool.labels])
    given = Shares(data, shares.validation, shares.test)
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    result = fit(settings.model_copy(update={"resume": False}), given, folder / "work")
    shutil.rmtree(folder / "work", ignore_errors=True)
    labels = sum(map(_count, pool.labels))
    nll = _calibrate(settings, result, check)
    result.model.record.data = data_card(settings, shares) | {"self_labels": labels}
    result.model.save_pretrained(folder / "model")
    write_seen_groups(folder / "model", group_keys(concatenate_datasets([given.training, check])), settings.backbone)
    found = {"round": number, "labels": labels, "nll": nll, "evaluation": _judged(settings, result, shares)}
    write_json(done, found)
    return result.model, found


def _calibrate(settings: EvolveSettings, result: Fit, check: Dataset) -> float:
    """Calibrate on judgements that no round learns from; return their NLL."""
    found = scores_on(result.model, check, settings.token_budget, keep_features=settings.freeze_backbone)
    view = pairs(check)
    calibration = fit_calibration(found.margins(view), view.p, view.w, settings.calibration)
    result.model.record.calibration = stored_form(calibration, "on judgements kept from all rounds")
    return calibration.nll_after


def _judged(settings: EvolveSettings, result: Fit, shares: Shares) -> dict[str, Any] | None:
    if shares.test is None:
        return None
    judged = judge(
        result.model,
        shares.test,
        baselines=fit_baselines(shares.training),
        token_budget=settings.token_budget,
        keep_features=settings.freeze_backbone,
        seed=settings.seed,
        resamples=settings.resamples,
    )
    return judged.evaluation.to_dict() if judged.evaluation else None


def _label(
    settings: EvolveSettings, model: RewardModel, shares: Shares, check: Dataset, pool: Pool, number: int
) -> dict[str, Any]:
    """Label the pairs that the model is sure of, and add them to the pool's labels."""
    keep = settings.freeze_backbone
    own = scores_on(model, shares.training, settings.token_budget, keep_features=keep)
    centre = float(own.values[own.records.responses].mean())
    scale = float((model.record.calibration or {}).get("temperature", 1.0))
    apart = scores_on(model, check, settings.token_budget, keep_features=keep)
    labelling = settings.labelling()
    judged_a, judged_b = (standard(side, centre, scale) for side in _sides(apart, _sides_of(check)))
    rule, coverage = labelling.rule_by(judged_a, judged_b)
    scored = scores_on(model, pool.data, settings.token_budget, keep_features=keep)
    sides = _sides(scored, pool.given)
    a, b = (standard(side, centre, scale) for side in sides)
    kept = labelling.kept(a, b, rule) & ~pool.taken
    told = {"rule": rule, "coverage": coverage, "kept": int(kept.sum())}
    if kept.any():
        pool.taken |= kept
        p = _probability(model, sides[0][kept] - sides[1][kept], settings.soft)
        pool.labels.append(_labelled(pool, np.flatnonzero(kept), p, number))
    return told


def _probability(model: RewardModel, margins: np.ndarray, soft: bool) -> np.ndarray:
    from assay.scorers.calibrated import calibrated_probability

    return calibrated_probability(margins, model.record.calibration) if soft else (margins > 0).astype(np.float64)


def _sides(scored: Scored, given: Candidates) -> tuple[np.ndarray, np.ndarray]:
    a, b = given.texts(scored.records)
    return scored.values[a], scored.values[b]


def _sides_of(data: Dataset) -> Candidates:
    view = pairs(data)
    return Candidates(view.row, view.a, view.b)


def _labelled(pool: Pool, chosen: np.ndarray, p: np.ndarray, number: int) -> Dataset:
    """Return records of the chosen pairs with the model's verdicts as weak judgements of this round."""
    edges: dict[int, list[dict[str, Any]]] = {}
    for index, share in zip(chosen.tolist(), p.tolist(), strict=True):
        row, a, b = (int(column[index]) for column in (pool.given.row, pool.given.a, pool.given.b))
        told = {"m": 0.0, "w": 1.0, "source": WEAK, "annotator": "itself", "confidence": None, "round": number}
        edges.setdefault(row, []).append({"a": a, "b": b, "p": share, **told})
    rows = sorted(edges)
    picked = [{**pool.data[row], "edges": edges[row]} for row in rows]
    return Dataset.from_list(picked, features=COMPARISONS)


def _count(labels: Dataset) -> int:
    return sum(map(len, labels["edges"]))


def _hide(settings: EvolveSettings, shares: Shares) -> tuple[Shares, Dataset | None]:
    """Keep the judgements of a share of the training groups; return the records of the others without theirs."""
    if settings.judged_share == 1:
        return shares, None
    rest, known = split(shares.fit, test=settings.judged_share, seed=settings.seed)
    say(f"known: {len(pairs(known)):,} judgements; hidden: {len(pairs(rest)):,}")
    hidden = rest.map(lambda row: {"edges": []}, features=COMPARISONS, load_from_cache_file=False)
    return replace(shares, fit=known), hidden


def _pool(settings: EvolveSettings, shares: Shares, check: Dataset, hidden: Dataset | None) -> Pool:
    """Gather the unjudged pairs; what is held out of the judgements is not among them."""
    parts = [] if hidden is None else [hidden]
    if settings.unlabelled is not None:
        reading = settings.reading() | {"split": None, "ratings": "responses"}
        data, report = read_with_report(settings.unlabelled, **reading)
        say("\n".join(report.lines()))
        parts.append(data)
    kinds = {kind_of(part) for part in parts}
    data = concatenate_datasets(parts) if kinds == {"comparisons"} else parts[-1]
    if kind_of(data) == "comparisons":
        for held_out in (check, shares.validation, shares.test):
            if held_out is not None:
                data, found = without_groups(data, held_out)
                if found:
                    say(f"left out {found.train_rows} records of the unjudged ones: their groups are held out")
        given = candidates(data, judged=True)
    if kind_of(data) != "comparisons" or len(given.row) == 0:
        raise DataError(
            "there is nothing to label",
            where=settings.unlabelled or settings.data,
            expected="prompts with two different responses, other than those that are held out",
            got=f"{len(data)} {kind_of(data)}",
            remedy="sample responses first: assay label --generate",
        )
    return Pool(data, given, np.zeros(len(given.row), bool))


def go_back(folder: Path, number: int) -> dict[str, Any]:
    """Make an earlier round the result of a finished run, and remove the rounds after it.

    Raises
    ------
    ConfigError
        If there is no such run, or no such round.
    """
    path = folder / HISTORY
    if not path.is_file():
        raise ConfigError("there is no finished run to go back in", where=str(folder), expected=HISTORY)
    history = json.loads(path.read_text(encoding="utf-8"))
    count = len(history["rounds"])
    if not 0 <= number < count:
        raise ConfigError("there is no such round", where=str(folder), expected=f"0 to {count - 1}", got=str(number))
    history |= {"best": number, "stopped": f"went back to round {number}", "rounds": history["rounds"][: number + 1]}
    fresh = folder / "model.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder / f"round-{number}" / "model", fresh)
    shutil.rmtree(folder / "model", ignore_errors=True)
    fresh.rename(folder / "model")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics |= {**history, "evaluation": history["rounds"][number]["evaluation"]}
    write_json(path, history)
    write_json(folder / "metrics.json", metrics)
    for later in range(number + 1, count):
        shutil.rmtree(folder / f"round-{later}")
    return metrics
